"""One model, every runtime: each transcribes, batches, streams and aligns; and which is chosen."""

import logging
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from ptlab import models
from ptlab._export import graph_sessions
from ptlab._export.graph_sessions import WIDENED, OpenVinoSession
from ptlab._export.runtime_worker import files_size
from ptlab._speech import roads
from ptlab._speech.roads import Equipment, Road, road_of_graph, road_of_weights, this_equipment
from ptlab._speech.speech_model import SpeechModel, digest_of_model
from ptlab.batch import transcribe_files
from ptlab.embeddings import embed
from ptlab.errors import ModelError
from ptlab.export import export_onnx
from ptlab.models import load_model
from ptlab.onnx_model import OnnxModel, load_onnx
from ptlab.quantize import quantize
from ptlab.streaming import Final, StreamingRecognizer
from ptlab.transcribe import Transcriber

pytest.importorskip("onnx", reason="making graphs: pip install 'ptlab[export]'")
pytest.importorskip("openvino", reason="a runtime: pip install 'ptlab[openvino]'")
EVERY = ("torch", "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def by_runtime(tiny_folder):
    """The tiny model by every runtime, from the same folder of torch's weights."""
    return {r: load_model(tiny_folder, device="cpu", runtime=r) for r in EVERY}


@pytest.fixture(scope="module")
def sounds(speechlike):
    return [speechlike(seconds, seed) for seed, seconds in enumerate((1.3, 0.6, 2.1))]


def letters(log_probs):
    """Without <s>, </s> and <unk>, which the tiny models hold near -10,000."""
    return np.delete(log_probs, [1, 2, 3], axis=1)


def words(transcription):
    return [(w.text, w.start_s, w.end_s) for w in transcription.words]


# -- the same by every runtime


@pytest.mark.parametrize("runtime", EVERY)
def test_it_is_a_model_like_any_other(by_runtime, runtime, tiny_folder):
    model, torch_model = by_runtime[runtime], by_runtime["torch"]
    assert isinstance(model, SpeechModel if runtime == "torch" else OnnxModel)
    for name in (
        "name", "folder", "vocabulary", "blank", "word_delimiter", "sampling_rate", "hop",
        "receptive_field", "pads_exactly", "normalizes", "num_parameters",
    ):  # fmt: skip
        assert getattr(model, name) == getattr(torch_model, name), name
    assert model.runtime == runtime and model.road is None
    assert files_size(model) == sum(f.stat().st_size for f in tiny_folder.iterdir())


@pytest.mark.parametrize("runtime", EVERY)
def test_log_probs_alone_and_in_a_batch_are_those_of_torch(by_runtime, runtime, sounds):
    expected = [by_runtime["torch"].log_probs([s])[0] for s in sounds]
    for found in (
        [by_runtime[runtime].log_probs([s])[0] for s in sounds],
        by_runtime[runtime].log_probs(sounds, batch_size=3),
    ):
        for a, b in zip(expected, found, strict=True):
            assert letters(a) == pytest.approx(letters(b), abs=1e-3)


@pytest.mark.parametrize("runtime", EVERY)
def test_it_transcribes_aligns_batches_and_streams_as_torch_does(by_runtime, runtime, sounds):
    for how in (
        lambda m: words(Transcriber(m).transcribe(sounds[0], 16_000)),
        lambda m: words(Transcriber(m, window_s=1.0, overlap_s=0.4).transcribe(sounds[2], 16_000)),
        lambda m: words(Transcriber(m).align(sounds[2], "uma casa", 16_000)),
        lambda m: [r.text for r in transcribe_files(in_memory(sounds), m, progress=False)],
        lambda m: said(m, sounds[2]),
    ):
        assert how(by_runtime[runtime]) == how(by_runtime["torch"]) != []


def in_memory(sounds):
    return [{"audio": {"array": s, "sampling_rate": 16_000}} for s in sounds]


def said(model, waveform):
    events = StreamingRecognizer(model, clock=None).stream([waveform], 16_000)
    return [event.text for event in events if isinstance(event, Final)]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_from_a_file_runs_by_either(by_runtime, tiny_export, runtime, sounds, tmp_path):
    shutil.copy(tiny_export.folder / "model.onnx", tmp_path / "alone.onnx")
    for where in (tiny_export.folder, tmp_path / "alone.onnx"):
        model = load_model(where, runtime=runtime)
        assert model.runtime == runtime
        assert f"{runtime} in float32, cpu" in repr(model)
        found, expected = model.log_probs(sounds), by_runtime["torch"].log_probs(sounds)
        for a, b in zip(expected, found, strict=True):
            assert letters(a) == pytest.approx(letters(b), abs=1e-3)


def test_openvino_needs_neither_torch_nor_transformers(tiny_export):
    code = (
        "import sys, numpy as np, ptlab; model = ptlab.load_model(sys.argv[1], runtime='openvino');"
        "print(model.log_probs([np.zeros(16_000)])[0].shape, "
        "{'torch', 'transformers', 'onnx'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tiny_export.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "(49, 46) set()", done.stderr


def test_static_int8_runs_in_openvino_dynamic_is_warned_of(tiny_export, sounds, tmp_path, caplog):
    calibration = [{"array": sounds[0], "sampling_rate": 16_000}]
    static = quantize(tiny_export, tmp_path / "s", "int8_static", calibration=calibration)
    expected = load_model(static).log_probs(sounds)
    found = load_model(static, runtime="openvino").log_probs(sounds)
    for a, b in zip(expected, found, strict=True):
        assert (letters(a).argmax(1) == letters(b).argmax(1)).mean() > 0.9
    assert not caplog.records
    load_model(quantize(tiny_export, tmp_path / "d"), runtime="openvino")
    assert "int8_dynamic in floats: ONNX Runtime is faster" in caplog.text


def test_threads_of_one_program_do_not_read_each_others_results(by_runtime, sounds):
    model, found = by_runtime["openvino"], {}

    def hear(number):
        for _ in range(5):
            found.setdefault(number, []).append(model.log_probs([sounds[number]])[0])

    threads = [threading.Thread(target=hear, args=[n]) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, matrices in found.items():
        alone = model.log_probs([sounds[number]])[0]
        assert all(np.array_equal(alone, m) for m in matrices)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_graph_with_hidden_states_embeds_as_torch_does(
    tiny_folder, by_runtime, sounds, tmp_path, runtime
):
    folder = export_onnx(tiny_folder, tmp_path / "deep", hidden_states=True).folder
    model, layers = load_model(folder, runtime=runtime), ["conv", 0, 1, 2, "final"]
    assert (model.num_layers, model.hidden_size) == (2, 32)
    options = {"layers": layers, "sampling_rate": 16_000}
    for a, b in zip(
        embed(sounds, by_runtime["torch"], **options), embed(sounds, model, **options), strict=True
    ):
        assert a.shape == b.shape == (5, model.frames(model.hop * a.shape[1] + 80), 32)
        assert np.asarray(a) == pytest.approx(np.asarray(b), abs=1e-3)
    cut = {"sampling_rate": 16_000, "window_s": 1.0, "overlap_s": 0.4}
    vectors = embed(sounds, model, "final", pool="mean", **cut)
    expected = embed(sounds, by_runtime["torch"], "final", pool="mean", **cut)
    assert vectors.matrix() == pytest.approx(expected.matrix(), abs=1e-3)
    assert model.log_probs(sounds[:1])[0].shape == (model.frames(len(sounds[0])), 46)


# -- bfloat16


def test_float32_is_float32_and_bfloat16_is_asked_for(by_runtime, tiny_export, sounds):
    """OpenVINO would take bfloat16 by itself where the CPU can."""
    precise = by_runtime["openvino"]
    assert (precise.dtype, load_model(tiny_export, runtime="openvino").dtype) == (
        "float32",
        "float32",
    )
    try:
        coarse = load_model(tiny_export, runtime="openvino", dtype="bfloat16")
    except ModelError as error:
        assert "neither AVX512-BF16 nor AMX" in str(error)
        return
    a, b = precise.log_probs(sounds[:1])[0], coarse.log_probs(sounds[:1])[0]
    gap = np.abs(letters(a) - letters(b)).max()
    assert gap > 1e-3  # 8 bits of fraction
    assert (letters(a).argmax(1) == letters(b).argmax(1)).mean() > 0.8
    assert precise.digest != coarse.digest  # a journal of one does not go on with the other


def test_a_cpu_without_bfloat16_is_told(tiny_export, monkeypatch):
    import openvino

    class Old:
        def get_property(self, *_):
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino, "Core", Old)
    with pytest.raises(ModelError, match="neither AVX512-BF16 nor AMX"):
        OpenVinoSession(tiny_export.folder / "model.onnx", 1, "bfloat16")


# -- what goes wrong


def test_options_that_do_not_fit_are_told(tiny_folder, tiny_export, tmp_path, monkeypatch):
    for wrong, said_of_it in (
        ({"runtime": "tflite"}, "choose one of torch, onnxruntime, openvino and auto"),
        ({"runtime": "openvino", "dtype": "float16"}, "OpenVINO computes in float32 or bfloat16"),
        ({"runtime": "openvino", "device": "cuda"}, "OpenVINO is run on the CPU"),
        ({"runtime": "onnxruntime", "dtype": "bfloat16"}, "precision was chosen when it was"),
    ):  # fmt: skip
        for what in (tiny_folder, tiny_export):
            with pytest.raises(ModelError, match=said_of_it):
                load_model(what, **wrong)
    with pytest.raises(ModelError, match="an ONNX graph, which torch does not run"):
        load_model(tiny_export, runtime="torch")
    with pytest.raises(ModelError, match="a graph is run by onnxruntime or openvino"):
        load_onnx(tiny_export, runtime="torch")
    (tmp_path / "cut.onnx").write_bytes((tiny_export.folder / "model.onnx").read_bytes()[:5_000])
    with pytest.raises(ModelError, match=r"openvino cannot load 'cut\.onnx'"):
        load_model(tmp_path / "cut.onnx", runtime="openvino")
    monkeypatch.setattr(graph_sessions, "has_openvino", lambda: False)
    with pytest.raises(ModelError, match=r'pip install "ptlab\[openvino\]"'):
        load_model(tiny_export, runtime="openvino")


def test_a_kind_that_cannot_become_a_graph_is_refused_if_that_was_asked_for(make_tiny):
    folder = make_tiny("wav2vec2-bert").folder
    with pytest.raises(ModelError, match="takes filter banks"):
        load_model(folder, runtime="openvino")


def test_a_graph_made_while_loading_has_a_digest_of_its_own(by_runtime, tiny_folder):
    made = by_runtime["onnxruntime"]
    again = load_model(tiny_folder, device="cpu", runtime="onnxruntime")
    assert digest_of_model(made) == digest_of_model(again)
    assert digest_of_model(made) != digest_of_model(by_runtime["torch"])


# -- which one is the fastest

AMX = ("avx2", "avx512f", "amx_bf16", "avx512_bf16")


@pytest.mark.parametrize(
    ("has", "dtype", "runtime", "kind"),
    [
        (Equipment("cuda", AMX, True, True), "auto", "torch", "auto"),
        (Equipment("mps", (), True, True), "auto", "torch", "auto"),
        (Equipment("cpu", AMX, True, True), "auto", "openvino", "bfloat16"),
        (Equipment("cpu", AMX, True, True), "float32", "openvino", "float32"),
        (Equipment("cpu", AMX, False, True), "auto", "torch", "bfloat16"),
        (Equipment("cpu", AMX, True, False), "auto", "torch", "bfloat16"),
        (Equipment("cpu", ("avx2",), True, True), "auto", "openvino", "float32"),
        (Equipment("cpu", ("avx2",), False, True), "auto", "onnxruntime", "auto"),
        (Equipment("cpu", ("avx2",), True, False), "auto", "torch", "float32"),
        (Equipment("cpu", ("avx2",), False, False), "float32", "torch", "float32"),
        (Equipment("cpu", AMX, True, True), "float16", "torch", "float16"),
    ],
)
def test_the_road_of_weights_depends_on_what_there_is(has, dtype, runtime, kind):
    road = road_of_weights(has, dtype)
    assert (road.runtime, road.dtype) == (runtime, kind)
    assert len(road.why) > 20
    if kind == "bfloat16":
        assert "amx_bf16" in road.why and "dtype='float32'" in road.why
    if has.device == "cpu" and runtime == "torch" and dtype != "float16":
        assert "install" in road.why


@pytest.mark.parametrize(
    ("precision", "has", "runtime", "kind"),
    [
        ("float32", Equipment("cpu", AMX, True), "openvino", "bfloat16"),
        ("int8_static", Equipment("cpu", ("avx2",), True), "openvino", "float32"),
        ("int8_static", Equipment("cpu", AMX, False), "onnxruntime", "auto"),
        ("float32", Equipment("cuda", AMX, True), "onnxruntime", "auto"),
        *((p, Equipment("cpu", AMX, True), "onnxruntime", "auto") for p in WIDENED),
        ("int8_dynamic+float16", Equipment("cpu", AMX, True), "onnxruntime", "auto"),
    ],
)
def test_the_road_of_a_graph_depends_on_its_precision_too(precision, has, runtime, kind):
    road = road_of_graph(precision, has)
    assert (road.runtime, road.dtype) == (runtime, kind)
    assert road.why


def test_auto_takes_the_road_and_says_so(tiny_folder, tiny_export, sounds, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "ptlab")
    monkeypatch.setattr(models, "this_equipment", lambda _: Equipment("cpu", ("avx2",), True, True))
    for what in (tiny_folder, tiny_export):
        model = load_model(what, device="cpu", runtime="auto")
        assert (model.runtime, model.dtype) == ("openvino", "float32")
        assert str(model.road) in caplog.messages[-1]
        assert model.log_probs(sounds[:1])[0].shape == (model.frames(len(sounds[0])), 46)
    monkeypatch.setattr(models, "this_equipment", lambda _: Equipment("cpu", ("avx2",)))
    assert isinstance(load_model(tiny_folder, device="cpu", runtime="auto"), SpeechModel)
    assert load_model(tiny_export, runtime="auto").runtime == "onnxruntime"


def test_auto_stays_in_torch_with_what_cannot_become_a_graph(make_tiny, monkeypatch):
    monkeypatch.setattr(models, "this_equipment", lambda _: Equipment("cpu", ("avx2",), True, True))
    model = load_model(make_tiny("wav2vec2-bert").folder, device="cpu", runtime="auto")
    assert isinstance(model, SpeechModel)
    assert str(model.road).startswith("torch in float32: it cannot become a graph.")
    assert "filter banks" in model.road.why


def test_this_machine_has_what_it_has(monkeypatch):
    here = this_equipment("cuda:1")
    assert (here.device, here.openvino, here.onnx) == ("cuda", True, True)
    monkeypatch.setattr(roads, "has_openvino", lambda: False)
    assert not this_equipment("cpu").openvino
    assert str(Road("torch", "auto", "so")) == "torch: so"
