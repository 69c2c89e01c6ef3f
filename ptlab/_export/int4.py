"""Weights in four bits: each block shares a scale, and ONNX Runtime multiplies them as they are.

Only weights are rounded; sound and sums stay in float32. Matrices are laid out as ONNX Runtime's
operator MatMulNBits has them; kernels of convolutions are widened when they are used. Weights may
be rounded each to the nearest code, or one after the other so that the later ones make up for the
earlier ones' errors on real speech (GPTQ: Frantar et al. 2023, arXiv 2210.17323).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ptlab._export.graph_walk import GraphWalk
from ptlab._export.half_precision import store_in_half
from ptlab._export.onnx_weights import group_of, weights_of

__all__ = ["BLOCK_SIZES", "hears_raw_sound", "packed", "put_int4", "rounded"]

BLOCK_SIZES = (16, 32, 64, 128, 256)  # those of ONNX Runtime
LOWEST, HIGHEST = -8, 7
ZERO = 8  # the code of 0.0 in a MatMulNBits: its codes are not below zero
DOMAIN = "com.microsoft"
INT4_SINCE = 10  # the version of ONNX's file format
SHARES = np.linspace(1.0, 0.6, 21)  # of the widest scale, which are tried
DAMPING = 0.01  # of the mean of a diagonal, as GPTQ has it: keeps the inverse well behaved
AT_ONCE = 128  # rows whose errors are handed on together


def put_int4(
    graph: Any, nodes: list[Any], block_size: int, clips: Sequence[dict[str, np.ndarray]] = ()
) -> None:
    """Put weights of matrix products and convolutions in four bits.

    Parameters
    ----------
    graph : onnx.ModelProto
        Is changed.
    nodes : list of onnx.NodeProto
        MatMul or Conv, whose second input is a float32 weight, in the order of the graph.
    block_size : int
        Weights of a matrix's column that share a scale of 16 bits: 32 take 4 + 16 / 32 = 4.5 bits
        each. A matrix whose rows it does not divide gets smaller blocks that do, if there are any.
        A kernel has one scale for each output.
    clips : sequence of dict of str to ndarray
        What the graph hears, to make up for errors; each layer hears what the layers in four bits
        before it make of them. Without any, weights get the nearest codes.
    """
    from onnx import helper

    if DOMAIN not in {opset.domain for opset in graph.opset_import}:
        graph.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    graph.ir_version = max(graph.ir_version, INT4_SINCE)
    weights, done, walk = weights_of(graph), set(), GraphWalk(graph, clips)
    for _, group in groupby(nodes, _heard_together):
        members = list(group)
        heard = walk.inputs(members) if clips else {}
        for node in members:
            weight, sounds = weights[node.input[1]], heard.get(node.input[0])
            if weight.name not in done:  # a weight may be that of several nodes
                store = _store_matrix if node.op_type == "MatMul" else _store_kernel
                store(graph, node, weight, block_size, sounds)
                done.add(weight.name)
            if node.op_type == "MatMul":
                node.CopyFrom(_product(node, weight, block_size))
    matrices = {node.input[2] for node in nodes if node.op_type == "MatMulNBits"}
    store_in_half(graph, sorted(matrices), "float16")  # they are rounded to it already


def hears_raw_sound(node: Any, weights: dict[str, Any]) -> bool:
    """Whether a node is the first convolution: it has few weights, and all hears its errors."""
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    return node.op_type == "Conv" and groups * weights[node.input[1]].dims[1] == 1


def _heard_together(node: Any) -> str:
    """The matrices of a layer hear the clips in one go; kernels, whose sounds are long, alone."""
    return group_of(node.name) if node.op_type == "MatMul" else node.output[0]


def _block_size(rows: int, wanted: int) -> int:
    divides = math.gcd(rows, wanted)
    return divides if divides in BLOCK_SIZES else wanted


def _store_matrix(
    graph: Any, node: Any, weight: Any, block_size: int, sounds: list[np.ndarray] | None
) -> None:
    """Put a matrix (rows, columns) where `_product` looks for it."""
    from onnx import numpy_helper

    rows = weight.dims[0]
    size, products = _block_size(rows, block_size), None
    if sounds is not None:
        products = _products(sound.reshape(-1, rows) for sound in sounds)
    codes, scales = rounded(numpy_helper.to_array(weight), size, products)
    graph.graph.initializer.remove(weight)
    parts = {"int4": packed(codes, size), "scale": scales.T.astype(np.float32, order="C")}
    for part, values in parts.items():
        kept = numpy_helper.from_array(values, f"{weight.name}_{part}")
        graph.graph.initializer.append(kept)


def _product(node: Any, weight: Any, block_size: int) -> Any:
    """What a MatMul does, with its weight in four bits."""
    from onnx import helper

    rows, columns = weight.dims
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], f"{weight.name}_int4", f"{weight.name}_scale"],
        list(node.output),
        node.name,
        domain=DOMAIN,
        K=rows, N=columns, bits=4, block_size=_block_size(rows, block_size),
    )  # fmt: skip


def _store_kernel(
    graph: Any, node: Any, weight: Any, _: int, sounds: list[np.ndarray] | None
) -> None:
    """Put the kernel of a Conv behind a DequantizeLinear that has its old name."""
    from onnx import TensorProto, helper, numpy_helper

    outputs, name = weight.dims[0], weight.name
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    groups = options.get("group", 1)
    kernels = numpy_helper.to_array(weight).reshape(groups, outputs // groups, -1)
    codes, scales = [], []
    for number, kernel in enumerate(kernels):
        products = None
        if sounds is not None:
            products = _products(_taps(x, weight.dims, options, number) for x in sounds)
        code, scale = rounded(kernel.T, kernel.shape[1], products)
        codes.append(code.T)
        scales.append(scale[0])
    flat = (np.concatenate(codes).ravel() & 15).astype(np.uint8)
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    both = (flat[::2] | flat[1::2] << 4).tobytes()
    kept = helper.make_tensor(f"{name}_int4", TensorProto.INT4, weight.dims, both, raw=True)
    scale = numpy_helper.from_array(np.concatenate(scales).astype(np.float32), f"{name}_scale")
    graph.graph.initializer.remove(weight)
    graph.graph.initializer.extend([kept, scale])
    graph.graph.node.insert(
        0,
        helper.make_node(
            "DequantizeLinear", [kept.name, scale.name], [name], name, domain=DOMAIN, axis=0
        ),
    )


def _taps(
    sound: np.ndarray, dims: Sequence[int], options: dict[str, Any], group: int
) -> np.ndarray:
    """What a group of kernels is multiplied with: (frames, channels * taps), of (1, all, time)."""
    _, channels, taps = dims
    before, after = options.get("pads", [0, 0])
    own = np.pad(
        sound[:, group * channels : (group + 1) * channels], ((0, 0), (0, 0), (before, after))
    )
    windows = np.lib.stride_tricks.sliding_window_view(own, taps, axis=2)
    windows = windows[:, :, :: options.get("strides", [1])[0]]
    return windows.transpose(0, 2, 1, 3).reshape(-1, channels * taps)


def _products(sounds: Iterable[np.ndarray]) -> np.ndarray:
    """x transposed times x, (channels, channels), over the frames of all clips."""
    total: Any = 0.0
    for sound in sounds:
        total = total + (sound.T @ sound).astype(np.float64)
    return total


def rounded(
    weight: np.ndarray, block_size: int, products: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a matrix, and the scales of its blocks.

    Of the scales from that at which the number of largest size in a block is -8 down to 0.6 times
    it, each block has the one with the least squared error.

    Parameters
    ----------
    weight : ndarray (rows, columns)
    block_size : int
    products : ndarray (rows, rows), optional
        Of the matrix's inputs, summed over frames. Errors of rows with loud inputs count more then,
        and what rounding a row adds to the sums is taken out again as well as the rows after it
        can; the loudest come first.

    Returns
    -------
    codes : ndarray (rows, columns), int8
    scales : ndarray (blocks, columns), float16

    Examples
    --------
    >>> codes, scales = rounded(np.linspace(-4, 3.5, 16, dtype=np.float32)[:, None], 16)
    >>> scales.tolist(), codes[:, 0].tolist()
    ([[0.5]], [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7])
    """
    exact = weight.astype(np.float64)
    loudness = np.ones(len(exact)) if products is None else products.diagonal()
    scales = np.stack(
        [
            _scales(exact[i : i + block_size], loudness[i : i + block_size, None])
            for i in range(0, len(exact), block_size)
        ]
    )
    steps = np.where(scales == 0, 1, scales).astype(np.float64)
    steps = np.repeat(steps, block_size, axis=0)[: len(exact)]
    if products is None:
        return _codes(exact, steps), scales
    order = np.argsort(-loudness, kind="stable")
    left, steps, codes = exact[order], steps[order], np.empty(exact.shape, np.int8)
    shares = _shares(products[np.ix_(order, order)])
    for start in range(0, len(left), AT_ONCE):
        block = left[start : start + AT_ONCE]
        end = start + len(block)
        errors = np.empty_like(block)
        for i, row in enumerate(block):
            here = start + i
            codes[order[here]] = _codes(row, steps[here])
            errors[i] = (row - codes[order[here]] * steps[here]) / shares[here, here]
            block[i + 1 :] -= np.outer(shares[here, here + 1 : end], errors[i])
        left[end:] -= shares[start:end, end:].T @ errors
    return codes, scales


def _scales(block: np.ndarray, loudness: np.ndarray) -> np.ndarray:
    """A scale for each column of a block, (columns,), float16."""
    places = np.abs(block).argmax(axis=0, keepdims=True)
    widest = np.take_along_axis(block, places, axis=0)[0] / LOWEST
    best, least = np.zeros(len(widest), np.float16), np.full(len(widest), np.inf)
    for share in SHARES:
        scale = (share * widest).astype(np.float16)
        step = np.where(scale == 0, 1, scale).astype(np.float64)
        error = (loudness * (block - _codes(block, step) * step) ** 2).sum(axis=0)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def _codes(weight: np.ndarray, steps: np.ndarray) -> np.ndarray:
    return np.clip(np.round(weight / steps), LOWEST, HIGHEST).astype(np.int8)


def _shares(products: np.ndarray) -> np.ndarray:
    """How an error of a row is shared out to the rows below: upper triangular, (rows, rows)."""
    damping = DAMPING * products.diagonal().mean() * np.eye(len(products))
    return np.linalg.cholesky(np.linalg.inv(products + damping)).T


def packed(codes: np.ndarray, block_size: int) -> np.ndarray:
    """Codes of `rounded` as MatMulNBits has them: (columns, blocks, block_size / 2), two a byte."""
    rows, columns = codes.shape
    whole = np.full((columns, -(-rows // block_size), block_size), ZERO, np.uint8)
    whole.reshape(columns, -1)[:, :rows] = codes.T + ZERO
    return whole[..., ::2] | (whole[..., 1::2] << 4)
