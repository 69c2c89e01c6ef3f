"""Weights in four bits: each block shares a scale, and ONNX Runtime multiplies them as they are.

Only weights are rounded; sound and sums stay in float32. The layout is that of ONNX Runtime's
operator MatMulNBits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["BLOCK_SIZES", "packed_blocks", "put_int4"]

BLOCK_SIZES = (16, 32, 64, 128, 256)  # those of ONNX Runtime
ZERO = 8  # the code of 0.0 where a graph gives none
DOMAIN = "com.microsoft"


def put_int4(graph: Any, nodes: list[Any], weights: dict[str, Any], block_size: int) -> None:
    """Replace matrix products by products with weights in four bits.

    Parameters
    ----------
    graph : onnx.ModelProto
        Is changed.
    nodes : list of onnx.NodeProto
        Products whose second input is a weight.
    weights : dict of str to onnx.TensorProto
        Float32 weights by name.
    block_size : int
        Weights of a column that share a scale of 32 bits: 32 take 4 + 32 / 32 = 5 bits each.
    """
    from onnx import helper, numpy_helper

    done: set[str] = set()
    for node in nodes:
        name = node.input[1]
        rows, columns = weights[name].dims
        if name not in done:
            codes, scales = packed_blocks(numpy_helper.to_array(weights[name]), block_size)
            graph.graph.initializer.remove(weights[name])
            graph.graph.initializer.append(numpy_helper.from_array(codes, f"{name}_int4"))
            graph.graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
            done.add(name)
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits",
                [node.input[0], f"{name}_int4", f"{name}_scale"],
                list(node.output),
                node.name,
                domain=DOMAIN,
                K=rows, N=columns, bits=4, block_size=block_size,
            )
        )  # fmt: skip
    if DOMAIN not in {opset.domain for opset in graph.opset_import}:
        graph.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def packed_blocks(weight: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a matrix, two in a byte, and the scales of its blocks.

    The number of largest size in a block gets the code of -8, so that all 16 codes are used.

    Parameters
    ----------
    weight : ndarray (rows, columns)
    block_size : int

    Returns
    -------
    codes : ndarray (columns, blocks, block_size / 2), uint8
    scales : ndarray (columns, blocks), float32

    Examples
    --------
    >>> codes, scales = packed_blocks(np.linspace(-4, 3.75, 32, dtype=np.float32)[:, None], 32)
    >>> codes.shape, scales.tolist()
    ((1, 1, 16), [[0.5]])
    >>> first, last = codes[0, 0, 0], codes[0, 0, -1]
    >>> [int(code) for code in (first & 15, first >> 4, last & 15, last >> 4)]  # 8 + w / 0.5
    [0, 0, 15, 15]
    """
    columns = np.pad(weight, ((0, -len(weight) % block_size), (0, 0))).T
    blocks = columns.reshape(len(columns), -1, block_size).astype(np.float32)
    places = np.abs(blocks).argmax(axis=-1, keepdims=True)
    scales = np.take_along_axis(blocks, places, axis=-1) / -ZERO
    divisors = np.where(scales == 0, 1, scales)
    codes = np.clip(np.round(blocks / divisors) + ZERO, 0, 15).astype(np.uint8)
    return codes[..., ::2] | (codes[..., 1::2] << 4), np.ascontiguousarray(scales[..., 0])
