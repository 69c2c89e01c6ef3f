"""Muon for the matrices and AdamW for all else, as one optimizer that the Trainer can drive.

Not torch's Muon: that one computes in bfloat16 on any processor, and on one that has no
instructions for it an update of mini takes half a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ptlab._speech.devices import cpu_has_bfloat16

__all__ = ["Muon", "MuonAdamW", "orthogonal"]

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # of the singular values, their third and fifth powers


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, so that an update moves all directions of a matrix alike.

    After Jordan et al. (2024), for hidden layers; not for a head, biases or kernels. Updates are
    scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982).

    Parameters
    ----------
    matrices : list of Tensor
    lr, weight_decay, momentum : float
    """

    def __init__(
        self, matrices: list[Tensor], lr: float, weight_decay: float, momentum: float = 0.95
    ):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update the matrices once."""
        if closure is not None:
            closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, group)

    def _move(self, matrix: Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        with torch.no_grad():
            buffer = state["momentum_buffer"]
            buffer.lerp_(matrix.grad, 1 - group["momentum"])
            update = orthogonal(matrix.grad.lerp(buffer, group["momentum"]))
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


class MuonAdamW(torch.optim.Optimizer):
    """Steps by Muon where a weight is a matrix of the encoder, by AdamW elsewhere, at one rate.

    Parameters
    ----------
    module : torch.nn.Module
        A CTC model; what needs no gradient is left alone.
    lr, weight_decay : float
    """

    def __init__(self, module: torch.nn.Module, lr: float, weight_decay: float):
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if _is_hidden_matrix(name, p)]
        others = [p for name, p in named if not _is_hidden_matrix(name, p)]
        super().__init__([p for _, p in named], {"lr": lr})
        options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(Muon(matrices, **options))
        if others:
            self._parts.append(torch.optim.AdamW(others, **options))
        self._share_groups()

    def _share_groups(self) -> None:
        """The parts' own groups, in which a schedule sets the rate."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update the weights once."""
        if closure is not None:
            closure()
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both parts."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states that `state_dict` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix, nearly: singular values of 0.7 to 1.2, and never 0.

    By Newton-Schulz, in bfloat16 where the device multiplies it.

    Parameters
    ----------
    matrix : Tensor (m, n)
    steps : int

    Returns
    -------
    Tensor (m, n), of the same type

    Examples
    --------
    >>> matrix = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    >>> [0.6 < float(size) < 1.3 for size in torch.linalg.svdvals(orthogonal(matrix))]
    [True, True]
    """
    linear, cubic, quintic = NEWTON_SCHULZ
    fast = matrix.is_cuda or (matrix.device.type == "cpu" and cpu_has_bfloat16())
    x = matrix.to(torch.bfloat16 if fast else torch.float32)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=cubic, alpha=quintic), x, beta=linear)
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)


def _is_hidden_matrix(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim == 2 and not name.startswith(("lm_head", "base_model.model.lm_head"))
