"""Weights in eight bits, one scale for each output, widened when they are used.

For what int8 does not multiply: convolutions, whose sounds must not be rounded, but whose weights
may be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ptlab._export.onnx_weights import weights_of

__all__ = ["LARGEST", "LARGEST_OF_7_BITS", "coded", "store_in_int8"]

# -128 is left out, so that codes are as far below zero as above. Two products of 7 bits fit into
# the 16 in which a CPU without VNNI sums them up.
LARGEST, LARGEST_OF_7_BITS = 127, 63
OUTPUTS = {"Conv": 0, "MatMul": 1}  # the axis of a weight that runs over the operator's outputs


def store_in_int8(graph: Any, nodes: list[Any]) -> None:
    """Put the nodes' weights in int8, each behind a DequantizeLinear that has its old name."""
    from onnx import helper, numpy_helper

    weights, widened = weights_of(graph), []
    axes = {node.input[1]: OUTPUTS[node.op_type] for node in nodes}
    for name, axis in axes.items():
        codes, scales = coded(numpy_helper.to_array(weights[name]), axis)
        graph.graph.initializer.remove(weights[name])
        parts = {f"{name}_int8": codes, f"{name}_scale": scales}
        for part, values in parts.items():
            graph.graph.initializer.append(numpy_helper.from_array(values, part))
        widened.append(helper.make_node("DequantizeLinear", [*parts], [name], name, axis=axis))
    rest = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*widened, *rest])


def coded(weight: np.ndarray, axis: int, largest: int = LARGEST) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a weight, and a scale for each place along an axis.

    Parameters
    ----------
    weight : ndarray
    axis : int
    largest : int
        Code of the weight that is furthest from zero.

    Returns
    -------
    codes : ndarray, int8, of the weight's shape
    scales : ndarray (outputs,), float32

    Examples
    --------
    >>> codes, scales = coded(np.array([[1.27, -0.5], [0.0, 0.0]], np.float32), axis=0)
    >>> codes.tolist(), [round(float(s), 4) for s in scales]
    ([[127, -50], [0, 0]], [0.01, 1.0])
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = np.abs(weight).max(axis=others, keepdims=True) / largest
    scales[scales == 0] = 1
    codes = np.round(weight / scales).astype(np.int8)
    return codes, np.ascontiguousarray(scales.reshape(-1), np.float32)
