"""Weights in four bits: each block shares a scale, and ONNX Runtime multiplies them as they are.

Only weights are rounded; sound and sums stay in float32. The layout is that of ONNX Runtime's
operator MatMulNBits. Weights may be rounded each to the nearest code, or one after the other so
that the later ones make up for the earlier ones' errors on real speech (GPTQ: Frantar et al. 2023,
arXiv 2210.17323).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ptlab._export.onnx_weights import group_of, weights_of

__all__ = ["BLOCK_SIZES", "packed_blocks", "put_int4"]

BLOCK_SIZES = (16, 32, 64, 128, 256)  # those of ONNX Runtime
ZERO = 8  # the code of 0.0 where a graph gives none
DOMAIN = "com.microsoft"
DAMPING = 0.01  # of the mean of a diagonal, as GPTQ has it: keeps the inverse well behaved


def put_int4(
    graph: Any, nodes: list[Any], block_size: int, clips: Sequence[dict[str, np.ndarray]] = ()
) -> None:
    """Replace matrix products by products with weights in four bits.

    Parameters
    ----------
    graph : onnx.ModelProto
        Is changed.
    nodes : list of onnx.NodeProto
        Products whose second input is a float32 weight, in the order of the graph.
    block_size : int
        Weights of a column that share a scale of 32 bits: 32 take 4 + 32 / 32 = 5 bits each.
    clips : sequence of dict of str to ndarray
        What the graph hears, to make up for errors; each layer hears what the layers in four bits
        before it make of them. Without any, weights get the nearest codes.
    """
    from onnx import helper, numpy_helper

    if DOMAIN not in {opset.domain for opset in graph.opset_import}:
        graph.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    weights, done = weights_of(graph), set()
    for _, group in groupby(nodes, lambda node: group_of(node.name)):
        members = list(group)
        heard = _products_of_inputs(graph, members, clips) if clips else {}
        for node in members:
            sound, name = node.input
            if name not in done:
                matrix = numpy_helper.to_array(weights[name])
                codes, scales = packed_blocks(matrix, block_size, heard.get(sound))
                graph.graph.initializer.remove(weights[name])
                graph.graph.initializer.append(numpy_helper.from_array(codes, f"{name}_int4"))
                graph.graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
                done.add(name)
            rows, columns = weights[name].dims
            node.CopyFrom(
                helper.make_node(
                    "MatMulNBits",
                    [sound, f"{name}_int4", f"{name}_scale"],
                    list(node.output),
                    node.name,
                    domain=DOMAIN,
                    K=rows, N=columns, bits=4, block_size=block_size,
                )
            )  # fmt: skip


def _products_of_inputs(
    graph: Any, nodes: list[Any], clips: Sequence[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Of the inputs of nodes, by name: x transposed times x, (channels, channels), over frames."""
    import onnxruntime
    from onnx import TensorProto, helper

    names = list(dict.fromkeys(node.input[0] for node in nodes))
    outputs = list(graph.graph.output)
    del graph.graph.output[:]
    graph.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)
    found: dict[str, np.ndarray] = {}
    for clip in clips:
        for name, values in zip(names, session.run(names, clip), strict=True):
            frames = values.reshape(-1, values.shape[-1])
            found[name] = found.get(name, 0) + (frames.T @ frames).astype(np.float64)
    return found


def packed_blocks(
    weight: np.ndarray, block_size: int, products: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a matrix, two in a byte, and the scales of its blocks.

    The number of largest size in a block gets the code of -8, so that all 16 codes are used.

    Parameters
    ----------
    weight : ndarray (rows, columns)
    block_size : int
    products : ndarray (rows, rows), optional
        Of the matrix's inputs, summed over frames. What rounding a row adds to the sums is then
        taken out again, as well as the rows below it can.

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
    rows, columns = weight.shape
    left = weight.astype(np.float64)
    shares = None if products is None else _shares(products)
    codes = np.full((columns, -(-rows // block_size), block_size), ZERO, np.uint8)
    scales = np.zeros(codes.shape[:2], np.float32)
    for number, start in enumerate(range(0, rows, block_size)):
        block = left[start : start + block_size]
        places = np.abs(block).argmax(axis=0, keepdims=True)
        scale = np.take_along_axis(block, places, axis=0)[0] / -ZERO
        scales[:, number] = scale
        steps = np.where(scale == 0, 1, scale)
        errors = np.empty_like(block)
        for row, exact in enumerate(block):
            code = np.clip(np.round(exact / steps), -ZERO, ZERO - 1)
            codes[:, number, row] = code + ZERO
            if shares is not None:
                here = start + row
                errors[row] = (exact - code * steps) / shares[here, here]
                below = shares[here, here + 1 : start + len(block)]
                block[row + 1 :] -= np.outer(below, errors[row])
        if shares is not None:
            end = start + len(block)
            left[end:] -= shares[start:end, end:].T @ errors
    return codes[..., ::2] | (codes[..., 1::2] << 4), scales


def _shares(products: np.ndarray) -> np.ndarray:
    """How an error of a row is shared out to the rows below: upper triangular, (rows, rows)."""
    damping = DAMPING * products.diagonal().mean() * np.eye(len(products))
    return np.linalg.cholesky(np.linalg.inv(products + damping)).T
