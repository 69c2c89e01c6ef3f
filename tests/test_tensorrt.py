"""Engines without a card: the graph's types, the shapes, the commands, and what is missing."""

import stat
import subprocess
from itertools import pairwise

import numpy as np
import pytest

from ptlab import tensorrt
from ptlab.errors import ModelError
from ptlab.export import export_onnx
from ptlab.models import load_model
from ptlab.quantize import quantize
from ptlab.tensorrt import EnginePlan, export_tensorrt, missing_for_tensorrt, plan_engines

onnx = pytest.importorskip("onnx", reason="writing ONNX files: pip install 'ptlab[export]'")


@pytest.fixture(scope="module")
def made(tiny_export, tmp_path_factory):
    return export_tensorrt(tiny_export, tmp_path_factory.mktemp("trt") / "out", build=False)


@pytest.fixture
def card(monkeypatch, tmp_path):
    """A machine with a card and a trtexec that writes down how it was called."""
    calls = []

    def run(command, **_):
        calls.append(command)
        if command[0] == "nvidia-smi":
            return subprocess.CompletedProcess(command, 0, "GPU 0: NVIDIA A10\n", "")
        engine = next(a for a in command if a.startswith("--saveEngine=")).split("=", 1)[1]
        with open(engine, "wb") as file:
            file.write(b"engine")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(tensorrt.subprocess, "run", run)
    monkeypatch.setattr(tensorrt.shutil, "which", lambda name: f"bin/{name}")
    return calls


def types_of(path):
    """Type of every tensor of a graph, by name."""
    proto = onnx.shape_inference.infer_shapes(onnx.load(path))
    values = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
    found = {v.name: v.type.tensor_type.elem_type for v in values}
    return proto.graph, found | {i.name: i.data_type for i in proto.graph.initializer}


def weights_size(path):
    """Bytes of all weights of a graph."""
    return sum(onnx.numpy_helper.to_array(i).nbytes for i in onnx.load(path).graph.initializer)


def test_products_are_in_float16_and_norms_and_softmax_in_float32(made):
    graph, types = types_of(made.folder / "model.onnx")
    kinds = {n.op_type for n in graph.node}
    assert {"MatMul", "Conv", "Softmax", "LayerNormalization"} <= kinds
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for node in graph.node:
        if node.op_type in ("MatMul", "Conv"):
            assert {types[name] for name in (*node.input, *node.output)} == {half}, node.name
        elif node.op_type in ("Softmax", "LogSoftmax", "LayerNormalization"):
            assert {types[name] for name in (*node.input, *node.output)} == {single}, node.name
    assert types[graph.output[0].name] == types["input_values"] == single


def test_no_weight_is_there_twice_and_each_tensor_is_cast_once(made, tiny_export):
    graph, types = types_of(made.folder / "model.onnx")
    used = {name for node in graph.node for name in node.input}
    assert all(i.name in used for i in graph.initializer)
    narrowed = [
        n.input[0] for n in graph.node
        if n.op_type == "Cast" and types.get(n.output[0]) == onnx.TensorProto.FLOAT16
    ]  # fmt: skip
    assert len(narrowed) == len(set(narrowed)) > 0
    before, after = (weights_size(export.folder / "model.onnx") for export in (tiny_export, made))
    assert after < 0.6 * before


def test_the_mixed_graph_gives_nearly_the_same_on_the_cpu(made, tiny_export, speechlike):
    model, sounds = load_model(made.folder), [speechlike(1.0, 0), speechlike(0.4, 1)]
    assert model.precision == "mixed"
    for a, b in zip(tiny_export.load().log_probs(sounds), model.log_probs(sounds), strict=True):
        letters = [i for i in range(46) if i not in (1, 2, 3)]  # these are near -10,000
        gap = np.abs(a - b)[:, letters]
        assert 0 < gap.max() < 0.5


def test_buckets_cover_every_length_without_a_hole(tiny_export):
    model = tiny_export.load()
    plans = plan_engines(model, (2, 5, 20), batch_size=4)
    assert [p.name for p in plans] == ["2s.engine", "5s.engine", "20s.engine"]
    assert plans[0].samples[0] == model.receptive_field
    for before, after in pairwise(plans):
        assert after.samples[0] == before.samples[2]
    assert plans[-1].samples[2] == 20 * 16_000
    for plan in plans:
        assert plan.samples[0] < plan.samples[1] < plan.samples[2]
        assert plan.clips == (1, 4, 4)
        for text in plan.shapes().values():  # every dynamic input, of one shape
            names, sizes = zip(*(part.split(":") for part in text.split(",")), strict=True)
            assert names == ("input_values", "attention_mask") and len(set(sizes)) == 1


def test_models_whose_batches_are_not_exact_run_alone(make_tiny, tmp_path):
    group = export_onnx(
        make_tiny("wav2vec2", feat_extract_norm="group", do_stable_layer_norm=False),
        tmp_path / "group",
    )
    (plan,) = plan_engines(group.load(), (3,), batch_size=8)
    assert (plan.clips, plan.inputs) == ((1, 1, 1), ("input_values",))


def test_the_command_is_what_trtexec_understands():
    plan = EnginePlan("2s.engine", (400, 16_200, 32_000), (1, 2, 4), ("a", "b"))
    assert plan.command("x") == [
        "trtexec", "--onnx=x/model.onnx", "--stronglyTyped", "--minShapes=a:1x400,b:1x400",
        "--optShapes=a:2x16200,b:2x16200", "--maxShapes=a:4x32000,b:4x32000",
        "--saveEngine=x/2s.engine", "--skipInference",
    ]  # fmt: skip


def test_a_script_for_the_other_machine_builds_what_is_planned(made, tmp_path):
    script = made.folder / "build_engines.sh"
    lines = script.read_text("utf-8").splitlines()
    assert lines[0] == "#!/bin/sh" and lines[1] == "set -e"  # the first failure ends it
    assert [line.split()[0] for line in lines[3:]] == ["trtexec"] * len(made.plans)
    fake = tmp_path / "bin" / "trtexec"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nfor a in "$@"; do case "$a" in --saveEngine=*) echo x > "${a#*=}";;'
                    " esac; done\n")  # fmt: skip
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    subprocess.run(["sh", script], check=True, env={"PATH": f"{fake.parent}:/usr/bin:/bin"})
    for plan in made.plans:
        (made.folder / plan.name).unlink()
    assert "to be built by build_engines.sh" in str(made) and not made.built


def test_with_a_card_the_engines_are_built(tiny_export, card, tmp_path):
    assert missing_for_tensorrt() == ()
    done = export_tensorrt(tiny_export, tmp_path / "trt", buckets_s=(1, 2))
    assert done.built and str(done) == "trt: 2 engines, built"
    assert [c[0] for c in card].count("trtexec") == 2
    assert all((done.folder / p.name).read_bytes() == b"engine" for p in done.plans)


def test_what_is_missing_is_named(tiny_export, card, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt.shutil, "which", lambda name: None)
    with pytest.raises(ModelError, match=r"missing: an NVIDIA card with its driver .*; trtexec 10"):
        export_tensorrt(tiny_export, tmp_path / "trt")
    monkeypatch.setattr(
        tensorrt.shutil, "which", lambda name: name if name == "nvidia-smi" else None
    )
    assert [m.split()[0] for m in missing_for_tensorrt()] == ["trtexec"]
    monkeypatch.setattr(tensorrt, "_output", lambda command: "No devices were found\n")
    assert missing_for_tensorrt()[0] == "an NVIDIA card (nvidia-smi lists none)"
    assert not (tmp_path / "trt").exists()


def test_a_failed_building_keeps_nothing_and_says_why(tiny_export, card, tmp_path, monkeypatch):
    said = "[I] loading\n[E] Error Code 4: out of workspace\n"
    failed = subprocess.CompletedProcess([], 1, said, "")
    monkeypatch.setattr(tensorrt, "missing_for_tensorrt", lambda: ())
    monkeypatch.setattr(tensorrt.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ModelError, match=r"2s\.engine \(code 1\): \[E\] Error Code 4"):
        export_tensorrt(tiny_export, tmp_path / "trt")
    assert list(tmp_path.iterdir()) == []


def test_numbers_and_sources_that_do_not_fit_are_told(tiny_export, tmp_path):
    for buckets in ((), (2, 2), (0, 1), (5, 2)):
        with pytest.raises(ModelError, match="expected rising lengths"):
            export_tensorrt(tiny_export, tmp_path / "x", buckets_s=buckets, build=False)
    with pytest.raises(ModelError, match="batch_size=0"):
        export_tensorrt(tiny_export, tmp_path / "x", batch_size=0, build=False)
    small = quantize(tiny_export, tmp_path / "int8")
    with pytest.raises(ModelError, match="has int8_dynamic weights; give the float32 export"):
        export_tensorrt(small, tmp_path / "x", build=False)
