"""Products, convolutions and attention in float32 on a CPU, by the faster of torch's libraries.

torch brings MKL and oneDNN. Its products in float32 always go to MKL, which leaves half of the
vector units of AMD's processors idle: on an EPYC (Zen 5) oneDNN did those of these models at 230
thousand million operations a second and core, MKL at 104. (On a Zen 3, whose units are half as
wide, 74 and 88; with the convolutions a clip takes the same time either way.) Its convolutions go
to oneDNN, but not where torch has one thread. `cpu_products` sends all of them there; what a layer
computes stays the same but for rounding (a few parts in a million).
``tests/benchmarks/bench_batch.py`` measures it. Intel's processors, for which MKL was made, are
left alone: nobody has measured oneDNN there.

This file imports torch: import it where torch is needed, not before.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ptlab.machine import this_machine

__all__ = ["cpu_products", "has_onednn"]

ATTENTION_FRAMES = 192  # below so many, torch's own attention is as fast
COLUMNS = 16  # oneDNN's product is three times as slow if it has an odd number of them


def cpu_products() -> AbstractContextManager[Any]:
    """While it is entered, this thread's float32 products that need no gradient go to oneDNN.

    Nothing changes on processors that are not AMD's, where torch has no oneDNN, on other devices,
    for other number types and for quantized weights.

    Examples
    --------
    >>> layer, x = torch.nn.Linear(64, 64), torch.ones(2, 64)
    >>> with torch.inference_mode():
    ...     usual = layer(x)
    ...     with cpu_products():
    ...         same = torch.allclose(layer(x), usual, atol=1e-5)
    >>> same
    True
    """
    return _Products() if _is_faster() else nullcontext()


@cache
def _is_faster() -> bool:
    return has_onednn() and "AMD" in this_machine().processor


def has_onednn() -> bool:
    """Whether this torch has oneDNN, and what is called of it here."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Products(TorchFunctionMode):
    """Takes the place of three functions of torch, for the arguments that layers give them."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            if function is F.linear and _is_linear(*args, **kwargs):
                return _multiply(*args, **kwargs)
            if function is F.conv1d and _is_convolution(*args, **kwargs):
                return _convolve(*args)
            if function is F.scaled_dot_product_attention and _is_attention(*args, **kwargs):
                return _attend(*args, **kwargs)
        return function(*args, **kwargs)


def _are_plain(*tensors: Tensor) -> bool:
    """Whether they are float32 numbers on the CPU, none of them quantized or of another kind."""
    return all(
        type(t) in (Tensor, torch.nn.Parameter)
        and t.device.type == "cpu"
        and t.dtype == torch.float32
        and t.layout == torch.strided
        for t in tensors
    )


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` as torch.compile calls it."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _is_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    # A weight that is not contiguous would be multiplied by a loop a hundred times as slow.
    whole = weight.dim() == 2 and weight.is_contiguous() and x.numel() > 0
    return whole and _are_plain(x, weight)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
    groups: int,
) -> Tensor:  # fmt: skip
    """``F.conv1d`` as the two-dimensional convolution of height 1 that it is."""
    sizes = [(0, *padding), (1, *stride), (1, *dilation)]
    x, weight = x.unsqueeze(2), weight.unsqueeze(2)
    return torch.mkldnn_convolution(x, weight, bias, *sizes, groups).squeeze(2)


def _is_convolution(*args: Any, **kwargs: Any) -> bool:
    """Whether it is called as ``nn.Conv1d`` calls it."""
    if kwargs or len(args) != 7 or args[0].dim() != 3:
        return False
    return _are_plain(*args[:2]) and all(isinstance(size, tuple) for size in args[3:6])


def _attend(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
) -> Tensor:  # fmt: skip
    """``F.scaled_dot_product_attention``, head by head; keys are padded to whole ``COLUMNS``."""
    batch, heads, frames, width = query.shape
    keys = key.shape[2]
    more = -keys % COLUMNS
    hidden = torch.zeros(keys + more)
    hidden[keys:] = -torch.inf
    query = query.mul(width**-0.5 if scale is None else scale).contiguous()
    key = F.pad(key, (0, 0, 0, more)).contiguous()
    value = F.pad(value.transpose(2, 3), (0, more)).contiguous()
    if attn_mask is not None:
        attn_mask = attn_mask.expand(batch, heads, frames, keys)
    found = query.new_empty(batch, frames, heads, width)
    for b, h in product(range(batch), range(heads)):
        scores = _multiply(query[b, h], key[b, h], hidden)
        if attn_mask is not None:
            _mask(scores[:, :keys], attn_mask[b, h])
        torch.softmax(scores, -1, out=scores)
        found[b, :, h] = _multiply(scores, value[b, h])
    return found.transpose(1, 2)


def _mask(scores: Tensor, mask: Tensor) -> None:
    """Leave the scores where the mask is true, or add it if it holds numbers."""
    if mask.dtype == torch.bool:
        scores.masked_fill_(~mask, -torch.inf)
    else:
        scores.add_(mask)


def _is_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, **others: Any,
) -> bool:  # fmt: skip
    """Whether it is the attention of an encoder, over enough frames to gain by it."""
    usual = not (dropout_p or is_causal or others) and query.dim() == 4
    long = usual and query.shape[2] >= ATTENTION_FRAMES and query.shape[:2] == key.shape[:2]
    return long and _are_plain(query, key, value)
