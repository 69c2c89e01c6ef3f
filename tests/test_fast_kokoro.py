"""Kokoro's graph made fast: every change keeps what the graph computes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ptlab.data import data_dir

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

sys.path.insert(0, str(data_dir() / "recipes"))
import fast_kokoro  # noqa: E402


def model_of(nodes, weights, inputs, outputs):
    graph = helper.make_graph(
        [helper.make_node(op, i, o, name=name, **more) for op, i, o, name, more in nodes],
        "toy",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model, **inputs):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def test_float_products_give_what_the_quantized_ones_stand_for():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 5)).astype(np.float32)
    scale, zero = np.float32(0.02), np.uint8(120)
    quantized = np.clip(np.round(weight / scale) + zero, 0, 255).astype(np.uint8)
    bias = rng.normal(size=5).astype(np.float32)
    nodes = [
        ("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "quantize", {}),
        ("MatMulInteger", ["q", "w", "z", "wz"], ["sum"], "product", {}),
        ("Mul", ["s", "ws"], ["unit"], "unit", {}),
        ("Div", ["b", "unit"], ["b_units"], "units", {}),
        ("Floor", ["b_units"], ["b_floor"], "bias_rounded", {}),
        ("Cast", ["b_floor"], ["b_int"], "bias_int", {"to": TensorProto.INT32}),
        ("Add", ["sum", "b_int"], ["sum_b"], "add", {}),
        ("Cast", ["sum_b"], ["float"], "cast", {"to": TensorProto.FLOAT}),
        ("Mul", ["float", "unit"], ["y"], "scale", {}),
    ]
    weights = {"w": quantized, "wz": zero, "ws": scale, "b": bias}
    model = model_of(nodes, weights, [("x", [3, 6])], ["y"])
    x = rng.normal(size=(3, 6)).astype(np.float32)
    (rounded,) = run(model, x=x)
    fast_kokoro.float_graph(model.graph)
    (exact,) = run(model, x=x)
    kept = (quantized.astype(np.float32) - zero) * scale
    np.testing.assert_allclose(exact, x @ kept + bias, atol=1e-4)
    assert 0 < np.abs(rounded - exact).max() < 0.2  # the quantization itself was coarse
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"DynamicQuantizeLinear", "MatMulInteger", "Floor"}


def test_the_polynomial_is_the_sine():
    node = ("Sin", ["x"], ["y"], "/generator/resblocks.0/Sin", {})
    model = model_of([node], {}, [("x", [None])], ["y"])
    fast_kokoro.polynomial_sines(model.graph)
    assert "Sin" not in {n.op_type for n in model.graph.node}
    x = np.linspace(-60, 60, 4001).astype(np.float32)
    np.testing.assert_allclose(run(model, x=x)[0], np.sin(x), atol=2e-5)


def test_the_sines_of_the_pitch_source_stay():
    node = ("Sin", ["x"], ["y"], "/generator/m_source/l_sin_gen/Sin", {})
    model = model_of([node], {}, [("x", [None])], ["y"])
    fast_kokoro.polynomial_sines(model.graph)
    assert [n.op_type for n in model.graph.node] == ["Sin"]


@pytest.mark.parametrize("frames, last", [([3, 5, 2], 8), ([8, 7, 1], 1), ([10, 6, 1], 16)])
def test_the_last_token_fills_up_to_whole_steps(frames, last):
    nodes = [
        ("Relu", ["x"], [fast_kokoro.DURATIONS], "durations", {}),
        ("Identity", [fast_kokoro.DURATIONS], ["used"], "next", {}),
    ]
    model = model_of(nodes, {}, [("x", [1, None])], [fast_kokoro.DURATIONS, "used"])
    fast_kokoro.whole_frames(model.graph)
    said, used = run(model, x=np.array([frames], np.float32))
    assert said.tolist() == used.tolist() == [[*map(float, frames[:-1]), float(last)]]
    assert said.sum() % fast_kokoro.FRAMES_STEP == 0
