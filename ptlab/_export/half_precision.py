"""Weights in float16 or bfloat16: half the size, widened when they are used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ptlab._export.onnx_weights import weights_of
from ptlab.errors import ModelError

__all__ = ["bfloat16_bits", "halved", "store_in_half"]

LARGEST_FLOAT16 = 65_504.0


def store_in_half(graph: Any, names: Iterable[str], method: str) -> None:
    """Put weights in half precision, each behind a cast that has its old name."""
    from onnx import TensorProto, helper

    weights, casts = weights_of(graph), []
    for name in dict.fromkeys(names):
        half = halved(weights[name], method)
        graph.graph.initializer.remove(weights[name])
        graph.graph.initializer.append(half)
        casts.append(helper.make_node("Cast", [half.name], [name], name, to=TensorProto.FLOAT))
    rest = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*casts, *rest])


def halved(weight: Any, method: str) -> Any:
    """A weight in half precision, named after it and the method.

    Raises
    ------
    ModelError
        If float16 cannot hold it.
    """
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.FLOAT16 if method == "float16" else TensorProto.BFLOAT16
    values = numpy_helper.to_array(weight)
    if method == "float16":
        largest = float(np.abs(values).max(initial=0))
        if largest > LARGEST_FLOAT16:
            raise ModelError(
                f"A weight of {largest:.3g} does not fit into float16, which ends at 65,504; use "
                "method='bfloat16'."
            )
        content = values.astype("<f2").tobytes()
    else:
        content = bfloat16_bits(values).astype("<u2").tobytes()
    name = f"{weight.name}_{method}"
    return helper.make_tensor(name, kind, weight.dims, content, raw=True)


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Finite float32 numbers as bfloat16, the nearest and of two equally near the even one.

    Examples
    --------
    >>> [hex(bits) for bits in bfloat16_bits(np.array([1.0, -2.0, 1.0 + 2**-8], np.float32))]
    ['0x3f80', '0xc000', '0x3f80']
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
