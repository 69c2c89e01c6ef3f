"""Convolutions as products of integers: where most of the time is left after int8 matrices.

ONNX Runtime's own convolution of integers is slower than the one of floats, its products are not.
So the sound is rounded once, each of the kernel's taps takes its frames of it, and the taps lie
side by side: a row for each frame, multiplied with the kernel as one matrix.

The convolution on the raw sound (one channel) and the positional one (in groups) stay: the first
does nearly all of the damage that convolutions in int8 are known for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ptlab._export.int8_weights import LARGEST, LARGEST_OF_7_BITS, coded
from ptlab._export.onnx_weights import weights_of

__all__ = ["becomes_a_product", "put_int8_convolutions"]

TO_THE_END = np.iinfo(np.int64).max


def becomes_a_product(node: Any, weights: dict[str, Any]) -> bool:
    """Whether a Conv is plain: over time, of several channels, without groups, holes or padding."""
    from onnx import helper

    _, channels, *kernel = weights[node.input[1]].dims
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = options.get("group", 1) == 1 and not any(options.get("pads", [0]))
    return plain and len(kernel) == 1 and channels > 1 and options.get("dilations", [1]) == [1]


def put_int8_convolutions(graph: Any, nodes: list[Any], reduce_range: bool = False) -> None:
    """Replace convolutions, (batch, channels, time), by products of integers.

    Parameters
    ----------
    graph : onnx.ModelProto
        Is changed.
    nodes : list of onnx.NodeProto
        For which `becomes_a_product`.
    reduce_range : bool
        Weights of 7 bits, for CPUs without VNNI.
    """
    largest = LARGEST_OF_7_BITS if reduce_range else LARGEST
    weights, chosen = weights_of(graph), {node.output[0] for node in nodes}
    done: list[Any] = []
    for node in graph.graph.node:
        hit = node.output[0] in chosen
        done += _product(graph, node, weights, largest) if hit else [node]
    for name in {node.input[1] for node in nodes}:
        graph.graph.initializer.remove(weights[name])
    del graph.graph.node[:]
    graph.graph.node.extend(done)


def _product(graph: Any, conv: Any, weights: dict[str, Any], largest: int) -> list[Any]:
    """The nodes in a convolution's place; scales as `coded` gives them, one for each output."""
    from onnx import TensorProto, helper, numpy_helper

    sound, weight, *bias = conv.input
    outputs, channels, taps = weights[weight].dims
    stride = next(iter(a.ints[0] for a in conv.attribute if a.name == "strides"), 1)
    codes, scales = coded(numpy_helper.to_array(weights[weight]), 0, largest)
    nodes: list[Any] = []

    def constant(name: str, values: Any) -> str:
        graph.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(operator: str, inputs: list[str], *names: str, **options: Any) -> str:
        made = [f"{weight}_{name}" for name in names]
        nodes.append(helper.make_node(operator, inputs, made, f"{conv.name}/{names[0]}", **options))
        return made[0]

    by_time = add("Transpose", [sound], "turned", perm=[0, 2, 1])
    rounded = add("DynamicQuantizeLinear", [by_time], "rounded", "step", "zero")
    one = constant(f"{weight}_axis", np.array([1]))
    hop = constant(f"{weight}_hop", np.array([stride]))
    pieces = []
    for tap in range(taps):
        start = constant(f"{weight}_from{tap}", np.array([tap]))
        last = tap - (taps - 1)  # from the end: every tap sees as many frames
        end = constant(f"{weight}_to{tap}", np.array([last or TO_THE_END]))
        pieces.append(add("Slice", [rounded, start, end, one, hop], f"tap{tap}"))
    side_by_side = add("Concat", pieces, "taps", axis=2)
    matrix = codes.transpose(2, 1, 0).reshape(taps * channels, outputs)
    kernel = constant(f"{weight}_int8", np.ascontiguousarray(matrix))
    whole = add("MatMulInteger", [side_by_side, kernel, f"{weight}_zero"], "sum")
    exact = add("Cast", [whole], "float", to=TensorProto.FLOAT)
    steps = add("Mul", [f"{weight}_step", constant(f"{weight}_scale", scales)], "steps")
    result = add("Mul", [exact, steps], "scaled")
    if bias:
        result = add("Add", [result, bias[0]], "moved")
    nodes.append(
        helper.make_node("Transpose", [result], list(conv.output), conv.name, perm=[0, 2, 1])
    )
    return nodes
