"""Which device and which number type a model is computed with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ptlab.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["cpu_has_bfloat16", "find_device", "find_dtype"]

logger = logging.getLogger("ptlab")


def find_device(device: str | torch.device) -> str:
    """The device to compute on; ``"auto"`` is CUDA, then MPS, then the CPU.

    Raises
    ------
    ModelError
        If torch does not know it, or this machine does not have it.

    Examples
    --------
    >>> find_device("cpu")
    'cpu'
    """
    import torch

    device = str(device)
    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ModelError(
            f"No device {device!r}; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from error
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not mps):
        raise ModelError(f"This machine has no {kind.upper()} device; use device='auto' or 'cpu'.")
    return device


def find_dtype(dtype: str | torch.dtype, device: str) -> torch.dtype:
    """The type to compute in; ``"auto"`` is float16 on CUDA, else float32.

    Raises
    ------
    ModelError
        For other types, and for bfloat16 on a CPU that would have to do it in software.

    Examples
    --------
    >>> find_dtype("auto", "cpu")
    torch.float32
    """
    import torch

    dtype = str(dtype).removeprefix("torch.")
    choices = {
        "auto": torch.float16 if device.startswith("cuda") else torch.float32,
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
    }
    if dtype not in choices:
        raise ModelError(f"dtype {dtype!r}; choose one of {', '.join(choices)}.")
    if dtype == "bfloat16" and device == "cpu" and not cpu_has_bfloat16():
        raise ModelError(
            "This CPU has neither AVX512-BF16 nor AMX and would compute bfloat16 in software, "
            "slower than float32; use dtype='float32'."
        )
    if dtype == "float16" and device == "cpu":
        logger.warning("float16 on a CPU is slow and coarse; float32 is the better choice there.")
    return choices[dtype]


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16: in software it is many times slower."""
    import torch

    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, p, lambda: False)()) for p in probes)
