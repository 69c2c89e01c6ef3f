"""Muon for the matrices and AdamW for all else, as one optimizer that the Trainer can drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ptlab.errors import PtlabError

__all__ = ["MuonAdamW"]


class MuonAdamW(torch.optim.Optimizer):
    """Steps by Muon where a weight is a matrix of the encoder, by AdamW elsewhere.

    Muon (Jordan et al. 2024) makes each update orthogonal, so that it moves all directions of a
    matrix alike; it is for hidden layers, not for a head, biases or kernels. Its updates are scaled
    to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), which is why one rate serves both.

    Parameters
    ----------
    module : torch.nn.Module
        A CTC model; what needs no gradient is left alone.
    lr, weight_decay : float

    Raises
    ------
    PtlabError
        With a torch that has no Muon.
    """

    def __init__(self, module: torch.nn.Module, lr: float, weight_decay: float):
        if not hasattr(torch.optim, "Muon"):
            raise PtlabError(
                f"optimizer='muon' needs torch 2.9 or newer; this is {torch.__version__}. "
                "Use optimizer='adamw', or install a newer torch."
            )
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if _is_hidden_matrix(name, p)]
        others = [p for name, p in named if not _is_hidden_matrix(name, p)]
        super().__init__([p for _, p in named], {"lr": lr})
        options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(
                torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **options)
            )
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


def _is_hidden_matrix(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim == 2 and not name.startswith(("lm_head", "base_model.model.lm_head"))
