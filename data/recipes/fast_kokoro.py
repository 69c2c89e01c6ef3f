"""Kokoro twice as fast, for hours of training speech: OpenVINO in bf16 on a float graph.

    pip install -e ".[recipes]"
    python data/recipes/make_speech.py --fast ...

The shipped graph is int8 with dynamic quantization, whose integer convolutions are no faster than
float ones here. This file turns them back into float (``float_graph``), so that OpenVINO may run
them in bf16 on AMX, writes ``sin`` as a polynomial, which fuses, and makes the last token longer
until the whole is a multiple of 16 frames (0.4 s), so that few shapes have to be compiled.
Measured on two cores with AMX, two runs side by side: 7.9 times real time against 3.5. Everything
in bf16 was no good (the phase of the pitch source is a long sum): a recogniser made 33 % wrong
letters of it, 12 % of the plain voice, and 12 % of this. The samples differ from the plain
`Kokoro`'s, with which the corpus itself is made.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.utils
from kokoro import DURATIONS, Kokoro
from onnx import helper, numpy_helper

SOURCE = "/decoder/decoder/generator/Concat_3_output_0"  # spectrum of the pitch source
FEATURES = "/decoder/decoder/generator/LeakyRelu_2_output_0"  # before the last convolution
FLAT = (DURATIONS, "/decoder/Slice_output_0", "/encoder/Reshape_1_output_0")  # of two axes
SINE_TERMS = 6  # of the odd polynomial: error under 1e-6
FRAMES_STEP = 16


class FastKokoro(Kokoro):
    """As `Kokoro`, on OpenVINO; the first run of a new length is slower than the others."""

    def _open(self, threads: int) -> _Session:
        if not (self.folder / "fast_back.onnx").exists():
            for name, part in fast_parts(onnx.load(self.folder / "kokoro.onnx")).items():
                onnx.save(part, self.folder / f"fast_{name}.onnx")
        return _Session(self.folder, threads)


class _Session:
    """The three parts behind the one method of ONNX Runtime's session that `Kokoro` calls."""

    def __init__(self, folder: Path, threads: int) -> None:
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # or two runs share the first core
            "CPU_RUNTIME_CACHE_CAPACITY": 30_000,
        }
        core = openvino.Core()
        self.requests = []
        for name, precision in (("front", "f32"), ("middle", "bf16"), ("back", "f32")):
            hint = options | {"INFERENCE_PRECISION_HINT": precision}
            compiled = core.compile_model(str(folder / f"fast_{name}.onnx"), "CPU", hint)
            self.requests.append((compiled, compiled.create_infer_request()))

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        known = dict(inputs)
        for model, request in self.requests:
            results = request.infer(
                {x: known[x] for i in model.inputs for x in i.names & known.keys()}
            )
            known |= {x: results[o] for o in model.outputs for x in o.names}
        return [known[name].copy() for name in names]


def fast_parts(model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """The changes named above, and three parts: only the one between may lose precision."""
    float_graph(model.graph)
    polynomial_sines(model.graph)
    whole_frames(model.graph)
    graph = model.graph
    front = _ancestors(graph, [n for n in _outputs(graph) if n.startswith("/encoder/")] + [SOURCE])
    middle = [n for n in _nodes(graph, _ancestors(graph, [FEATURES])) if n.output[0] not in front]
    cut = sorted({x for n in middle for x in n.input if x in front})
    inputs = [i.name for i in graph.input]
    for name in (DURATIONS, FEATURES, *cut):
        shape = [None] * (2 if name in FLAT else 3)
        graph.value_info.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    extractor = onnx.utils.Extractor(model)
    used = [x for x in inputs if any(x in n.input for n in middle)]
    return {
        "front": extractor.extract_model(inputs, [DURATIONS, *cut]),
        "middle": extractor.extract_model([*cut, *used], [FEATURES]),
        "back": extractor.extract_model([FEATURES], ["audio"]),
    }


def _outputs(graph: onnx.GraphProto) -> list[str]:
    return [name for node in graph.node for name in node.output]


def _nodes(graph: onnx.GraphProto, outputs: set[str]) -> list[onnx.NodeProto]:
    return [node for node in graph.node if outputs.intersection(node.output)]


def _ancestors(graph: onnx.GraphProto, names: list[str]) -> set[str]:
    """All outputs of nodes that the named tensors depend on, and themselves."""
    found = set(names)
    for node in reversed(graph.node):  # in topological order
        if found.intersection(node.output):
            found.update(node.input, node.output)
    return found.intersection(_outputs(graph))


def float_graph(graph: onnx.GraphProto) -> None:
    """Integer products become float ones: scale 1, zero point 0, weights less their zero point."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    floored: set[str] = set()  # biases that were rounded to the integers' grid

    def change(node: onnx.NodeProto) -> onnx.NodeProto:
        if node.op_type == "DynamicQuantizeLinear":
            _constant(graph, node.output[1], 1.0)
            _constant(graph, node.output[2], 0.0)
            return helper.make_node("Identity", [node.input[0]], [node.output[0]])
        if node.op_type in ("ConvInteger", "MatMulInteger"):
            return _float_product(graph, node, weights)
        if node.op_type == "DynamicQuantizeLSTM":
            return _float_lstm(graph, node, weights)
        of_bias = node.op_type == "Floor" and "bias" in node.name + node.output[0]
        if of_bias or (node.op_type == "Cast" and node.input[0] in floored):
            floored.update(node.output if of_bias else ())
            return helper.make_node("Identity", list(node.input), list(node.output))
        return node

    _replace_nodes(graph, [change(node) for node in graph.node])
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)


def _float_product(graph: onnx.GraphProto, node: onnx.NodeProto, weights: dict) -> onnx.NodeProto:
    weight = numpy_helper.to_array(weights[node.input[1]]).astype(np.float32)
    if len(node.input) > 3 and node.input[3]:
        weight -= numpy_helper.to_array(weights[node.input[3]]).astype(np.float32)
    name = f"{node.input[1]}_float"
    _constant(graph, name, weight)
    kind = node.op_type.removesuffix("Integer")
    changed = helper.make_node(kind, [node.input[0], name], list(node.output))
    changed.attribute.extend(node.attribute)
    return changed


def _float_lstm(graph: onnx.GraphProto, node: onnx.NodeProto, weights: dict) -> onnx.NodeProto:
    x, w, r, bias, lengths, h, c, _, w_scale, w_zero, r_scale, r_zero = node.input
    for names in ((w, w_scale, w_zero), (r, r_scale, r_zero)):
        q, s, z = (numpy_helper.to_array(weights[n]).astype(np.float32) for n in names)
        s, z = (a.reshape(len(q), 1, -1) for a in (s, z))
        _constant(graph, f"{names[0]}_float", ((q - z) * s).transpose(0, 2, 1))
    inputs = [x, f"{w}_float", f"{r}_float", bias, lengths, h, c]
    changed = helper.make_node("LSTM", inputs, list(node.output))
    changed.attribute.extend(node.attribute)
    return changed


def polynomial_sines(graph: onnx.GraphProto) -> None:
    """sin(x) of the activations as a polynomial of x / 2 pi less its nearest whole number.

    The sines of the pitch source stay: their arguments are large.
    """
    turns = np.linspace(-0.5, 0.5, 20_001)
    powers = np.stack([turns ** (2 * k + 1) for k in range(SINE_TERMS)], 1)
    terms = np.linalg.lstsq(powers, np.sin(2 * np.pi * turns), rcond=None)[0]
    _constant(graph, "per_turn", 1 / (2 * np.pi))
    for k, term in enumerate(terms):
        _constant(graph, f"sine_{k}", term)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        blocks = "resblocks" in node.name or "noise_res" in node.name
        sine = node.op_type == "Sin" and blocks
        nodes.extend(_polynomial(node.input[0], node.output[0]) if sine else [node])
    _replace_nodes(graph, nodes)


def _polynomial(x: str, y: str) -> list[onnx.NodeProto]:
    steps = [("Mul", x, "per_turn", f"{y}/t"), ("Round", f"{y}/t", None, f"{y}/r")]
    steps += [("Sub", f"{y}/t", f"{y}/r", f"{y}/f"), ("Mul", f"{y}/f", f"{y}/f", f"{y}/u")]
    total = f"sine_{SINE_TERMS - 1}"
    for k in reversed(range(SINE_TERMS - 1)):
        steps.append(("Mul", total, f"{y}/u", f"{y}/m{k}"))
        steps.append(("Add", f"{y}/m{k}", f"sine_{k}", f"{y}/a{k}"))
        total = f"{y}/a{k}"
    steps.append(("Mul", total, f"{y}/f", y))
    return [helper.make_node(op, [a, b] if b else [a], [out]) for op, a, b, out in steps]


def whole_frames(graph: onnx.GraphProto) -> None:
    """Make the last token (silence) longer, up to a multiple of ``FRAMES_STEP`` frames."""
    inner = f"{DURATIONS}_predicted"
    place = next(i for i, node in enumerate(graph.node) if DURATIONS in node.output)
    graph.node[place].output[0] = inner
    _constant(graph, "frames_step", FRAMES_STEP)
    for name, index in (("first", 0), ("last", -1), ("all", 2**31 - 1)):
        graph.initializer.append(numpy_helper.from_array(np.array([index]), f"frames_{name}"))
    steps = [
        ("ReduceSum", [inner], "frames_sum", {"keepdims": 0}),
        ("Div", ["frames_sum", "frames_step"], "frames_steps", {}),
        ("Ceil", ["frames_steps"], "frames_whole_steps", {}),
        ("Mul", ["frames_whole_steps", "frames_step"], "frames_whole", {}),
        ("Sub", ["frames_whole", "frames_sum"], "frames_missing", {}),
        ("Slice", [inner, "frames_first", "frames_last", "frames_last"], "frames_head", {}),
        ("Slice", [inner, "frames_last", "frames_all", "frames_last"], "frames_tail", {}),
        ("Add", ["frames_tail", "frames_missing"], "frames_longer", {}),
        ("Concat", ["frames_head", "frames_longer"], DURATIONS, {"axis": -1}),
    ]
    nodes = list(graph.node)
    added = [helper.make_node(op, inputs, [out], **more) for op, inputs, out, more in steps]
    _replace_nodes(graph, nodes[: place + 1] + added + nodes[place + 1 :])


def _constant(graph: onnx.GraphProto, name: str, value: object) -> None:
    array = np.ascontiguousarray(np.asarray(value, np.float32))
    graph.initializer.append(numpy_helper.from_array(array, name))


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
