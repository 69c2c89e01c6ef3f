"""Export: the graph gives what torch gives, carries what it needs, and takes a model's place."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import save_tiny
from test_full_size import XLSR_53
from test_speech_model import EVERY

from ptlab import cli, export
from ptlab._export import onnx_graph
from ptlab._export.graph_sessions import OnnxRuntimeSession
from ptlab._speech.speech_model import digest_of_model
from ptlab.audio import load_audio
from ptlab.batch import transcribe_files
from ptlab.data import load_corpus
from ptlab.embeddings import embed
from ptlab.errors import ModelError
from ptlab.export import check_clips, check_parity, export_onnx, new_folder
from ptlab.minibatches import MiniBatches, lanes_for
from ptlab.models import load_model
from ptlab.onnx_model import OnnxModel, load_onnx
from ptlab.streaming import Final, StreamingRecognizer
from ptlab.transcribe import Transcriber

onnx = pytest.importorskip("onnx", reason="writing ONNX files: pip install 'ptlab[export]'")


@pytest.fixture(scope="module")
def torch_model():
    return load_model("mini", device="cpu")


@pytest.fixture(scope="module")
def made(torch_model, tmp_path_factory):
    """The export of mini, with the state of the model before it."""
    before = {k: v.clone() for k, v in torch_model.model.state_dict().items()}
    return export_onnx(torch_model, tmp_path_factory.mktemp("export") / "mini"), before


@pytest.fixture(scope="module")
def model(made):
    return load_model(made[0])


@pytest.fixture(scope="module")
def tiny_export(tiny_model, tmp_path_factory):
    """Of this file's own, for it is overwritten here."""
    return export_onnx(tiny_model, tmp_path_factory.mktemp("export") / "tiny")


@pytest.fixture(scope="module")
def clips():
    """Short clips, none as long as another."""
    corpus = load_corpus("test")
    by_length = corpus.frame.sort_values("duration_s")
    return by_length.iloc[[4, 40, 80]].to_dict("records")


def said(model, file):
    """The text of a stream."""
    events = StreamingRecognizer(model, clock=None).stream([load_audio(file).waveform], 16_000)
    return [event.text for event in events if isinstance(event, Final)]


def sounds(clips):
    return [c["file"] for c in clips]


# -- the same as torch


def test_the_folder_loads_as_a_model_of_onnx_runtime(model, torch_model, made):
    assert isinstance(model, OnnxModel)
    for name in (
        "vocabulary", "blank", "word_delimiter", "sampling_rate", "hop", "encoder_hop",
        "receptive_field", "pads_exactly", "normalizes", "num_parameters",
    ):  # fmt: skip
        assert getattr(model, name) == getattr(torch_model, name), name
    assert [model.frames(n) for n in range(0, 3_000, 7)] == [
        torch_model.frames(n) for n in range(0, 3_000, 7)
    ]
    assert made[0].size_bytes == model.size_bytes == (made[0].folder / "model.onnx").stat().st_size
    assert 0 < made[0].difference < 1e-3


def test_text_times_and_confidence_are_those_of_torch(model, torch_model, clips):
    one, other = Transcriber(torch_model), Transcriber(model)
    assert one.calibrator == other.calibrator is not None
    for sound in sounds(clips):
        a, b = one.transcribe(sound), other.transcribe(sound)
        assert a.text == b.text != ""
        assert [(w.start_s, w.end_s) for w in a.words] == [(w.start_s, w.end_s) for w in b.words]
        left, right = ([w.confidence for w in t.words] for t in (a, b))
        assert left == pytest.approx(right, abs=0.01)
        assert a.calibrated and b.calibrated


def test_alignment_batches_windows_and_streams_run_on_it(model, torch_model, clips, tmp_path):
    files = sounds(clips)
    for how in (
        lambda m: [w.start_s for w in Transcriber(m).align(files[0], clips[0]["text"]).words],
        lambda m: [r.text for r in transcribe_files(files, m, progress=False).results],
        lambda m: Transcriber(m, window_s=1.0, overlap_s=0.4).transcribe(files[-1]).text,
        lambda m: said(m, files[-1]),
    ):
        assert how(model) == how(torch_model)


def test_the_command_runs_on_it(made, torch_model, clips, capsys):
    file = sounds(clips)[0]
    assert cli.main(["transcribe", file, "--model", str(made[0].folder)]) == 0
    assert capsys.readouterr().out.strip() == Transcriber(torch_model).transcribe(file).text


def test_the_command_writes_what_the_package_writes(tiny_folder, tmp_path, capsys):
    for options, precision in ([], "float32"), (["--int8"], "int8_dynamic+int8_convolutions"):
        out = tmp_path / precision
        assert cli.main(["export", str(tiny_folder), str(out), *options]) == 0
        assert capsys.readouterr().out.startswith(f"{precision}: {precision}, ")
        assert load_model(out).precision == precision
    assert cli.main(["export", str(tiny_folder), str(out), "--int8"]) == 1
    assert "there already" in capsys.readouterr().err
    assert cli.main(["export", str(tiny_folder), str(out), "--overwrite"]) == 0
    assert load_model(out).precision == "float32"


def test_a_graph_loads_under_any_name(made, model, clips, tmp_path):
    shutil.copy(made[0].folder / "model.onnx", tmp_path / "mini.int8.onnx")
    renamed, file = load_model(tmp_path / "mini.int8.onnx"), sounds(clips)[0]
    assert Transcriber(renamed).transcribe(file).text == Transcriber(model).transcribe(file).text


def test_odd_lengths_alone_and_padded_are_checked(torch_model, model):
    lengths = [len(c) for c in check_clips(torch_model)]
    assert min(lengths) == torch_model.receptive_field
    assert sum(n % 2 for n in lengths) >= 3 and not any(n % torch_model.hop == 0 for n in lengths)
    assert check_parity(torch_model, model, 1e-3) < 1e-3


@pytest.mark.parametrize("name", ["wavlm", "wav2vec2-group", "wav2vec2-adapter"])
def test_other_kinds_are_exported_and_batched_as_in_torch(make_tiny, speechlike, tmp_path, name):
    kind, options = EVERY[name]
    tiny = make_tiny(kind, **options)
    copy = export_onnx(tiny, tmp_path / "out").load()
    sounds = [speechlike(s, seed) for seed, s in enumerate((0.9, 0.41, 0.033))]
    for a, b in zip(tiny.log_probs(sounds), copy.log_probs(sounds), strict=True):
        assert a.shape == b.shape
        assert np.delete(a - b, [1, 2, 3], axis=1) == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, (kind, _) in EVERY.items() if kind != "wav2vec2-bert"])
def test_every_kind_that_takes_waveforms_is_exported(make_tiny, tmp_path, name):
    kind, options = EVERY[name]
    assert export_onnx(make_tiny(kind, **options), tmp_path / "out").difference < 0.01


@pytest.mark.slow
def test_the_full_size_architecture_is_exported(tmp_path, speechlike):
    folder = save_tiny(tmp_path / "xlsr-53", **XLSR_53)
    full = load_model(folder, device="cpu")
    done = export_onnx(full, tmp_path / "onnx")
    assert 1.25e9 < done.size_bytes < 1.28e9  # 315 M numbers of 4 bytes
    assert check_parity(full, done.load(), 1e-3) < 0.02  # near -10,000, as the tiny ones


# -- the graph


def test_the_model_itself_is_left_as_it_was(made, torch_model):
    from torch.nn.utils import parametrize

    _, before = made
    after = torch_model.model.state_dict()
    assert before.keys() == after.keys()
    assert all(before[k].equal(after[k]) for k in before)
    assert not any(m.training for m in torch_model.model.modules())
    assert any(parametrize.is_parametrized(m) for m in torch_model.model.modules())
    assert torch_model.model.config._attn_implementation == "sdpa"


def test_attention_looks_for_no_nan(made, torch_model):
    """Torch's fused attention would, behind every softmax: a tenth of the time at full size."""
    operators = [n.op_type for n in onnx.load(made[0].folder / "model.onnx").graph.node]
    assert operators.count("Softmax") == torch_model.num_layers
    assert "IsNaN" not in operators


def test_weight_norm_is_folded_into_plain_weights(made, torch_model):
    graph = onnx.load(made[0].folder / "model.onnx").graph
    shapes = [tuple(i.dims) for i in graph.initializer]
    conv = torch_model.model.wav2vec2.encoder.pos_conv_embed.conv
    direction = conv.parametrizations.weight.original1
    assert shapes.count(tuple(direction.shape)) == 1
    assert not any("original" in i.name for i in graph.initializer)
    folded = next(i for i in graph.initializer if tuple(i.dims) == tuple(direction.shape))
    weight = conv.weight.detach().numpy()
    assert onnx.numpy_helper.to_array(folded) == pytest.approx(weight, abs=1e-6)


def test_padding_is_hidden_by_the_mask_and_would_be_heard_without(model, clips):
    waves = [np.zeros(16_000, np.float32), np.ones(4_000, np.float32)]
    waves = [
        w + 0.1 * np.random.default_rng(i).standard_normal(len(w)) for i, w in enumerate(waves)
    ]
    alone = [model.log_probs([w])[0] for w in waves]
    together = model.log_probs(waves, batch_size=2)
    assert max(np.abs(a - b).max() for a, b in zip(alone, together, strict=True)) < 1e-3
    padded = np.pad(waves[1], (0, 12_000)).astype(np.float32)
    valid = model.frames(4_000)
    assert np.abs(model.log_probs([padded], normalized=True)[0][:valid] - alone[1]).max() > 0.01


def test_the_file_alone_is_enough_and_needs_neither_torch_nor_transformers(made, tmp_path):
    shutil.copy(made[0].folder / "model.onnx", tmp_path / "alone.onnx")
    code = (
        "import sys, numpy as np, ptlab; model = ptlab.load_model(sys.argv[1]); "
        "print(model.log_probs([np.zeros(16_000)])[0].shape, "
        "ptlab.transcribe(np.zeros(16_000, 'float32'), 16_000, model).words, "
        "{'torch', 'transformers', 'onnx'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "alone.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "(49, 46) () set()", done.stderr


def test_the_folder_has_what_other_tools_read(made, torch_model):
    from transformers import AutoFeatureExtractor, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made[0].folder)
    assert tokenizer.get_vocab() == torch_model.tokenizer.get_vocab()
    features = AutoFeatureExtractor.from_pretrained(made[0].folder)
    assert features.to_dict() == torch_model.feature_extractor.to_dict()
    assert made[0].to_dict()["folder"] == str(made[0].folder)
    facts = onnx.load(made[0].folder / "model.onnx").metadata_props
    assert "mini" in next(json.loads(p.value)["source"] for p in facts if p.key == "ptlab")


# -- what goes wrong


def test_a_graph_that_differs_is_not_kept(tiny_model, make_tiny, tmp_path, monkeypatch):
    other, write = make_tiny(seed=1), export.write_graph
    monkeypatch.setattr(export, "write_graph", lambda _, *rest: write(other, *rest))
    with pytest.raises(ModelError, match=r"differs from the model by .* nothing was kept"):
        export_onnx(tiny_model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_another_length_is_not_kept(tiny_model):
    class Short:
        def log_probs(self, waves, batch_size):
            return [m[1:] for m in tiny_model.log_probs(waves, batch_size=batch_size)]

    with pytest.raises(ModelError, match=r"gives \(0, 46\) numbers"):
        check_parity(tiny_model, Short())


def test_a_folder_is_replaced_only_if_told_and_only_an_export(tiny_model, tiny_export, tmp_path):
    with pytest.raises(ModelError, match="there already: give another path, or overwrite=True"):
        export_onnx(tiny_model, tiny_export.folder)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelError, match="no folder of an exported model"):
        export_onnx(tiny_model, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    before = (tiny_export.folder / "model.onnx").stat().st_mtime_ns
    export_onnx(tiny_model, tiny_export.folder, overwrite=True)
    assert (tiny_export.folder / "model.onnx").stat().st_mtime_ns > before


def test_what_fails_leaves_the_old_folder(tiny_export):
    before = (tiny_export.folder / "model.onnx").read_bytes()
    with pytest.raises(ZeroDivisionError), new_folder(tiny_export.folder, True) as folder:
        (folder / "model.onnx").write_bytes(b"half")
        _ = 1 / 0
    assert (tiny_export.folder / "model.onnx").read_bytes() == before
    assert list(tiny_export.folder.parent.iterdir()) == [tiny_export.folder]


def test_a_place_that_cannot_be_written_is_told(tiny_model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        export_onnx(tiny_model, tmp_path / "file" / "out")


def test_models_that_cannot_be_exported_are_refused(make_tiny, tiny_folder, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="takes filter banks"):
        export_onnx(make_tiny("wav2vec2-bert"), tmp_path / "out")
    half = load_model(tiny_folder, device="cpu", dtype="float16")
    with pytest.raises(ModelError, match=r"torch\.float16 on cpu; export it from load_model"):
        export_onnx(half, tmp_path / "out")
    monkeypatch.setattr(onnx_graph, "LARGEST_BYTES", 1_000)
    with pytest.raises(ModelError, match="an ONNX file holds 2"):
        export_onnx(tiny_folder, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"pip install \"ptlab\[export\]\""):
        export_onnx(tiny_folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_loaded_are_told(tiny_export, tmp_path):
    content = (tiny_export.folder / "model.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged, cut short, or needs a newer onnxruntime"):
        load_model(tmp_path / "cut.onnx")
    graph = onnx.load_from_string(content)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "foreign.onnx")
    with pytest.raises(ModelError, match="without ptlab's metadata"):
        load_model(tmp_path / "foreign.onnx")
    with pytest.raises(ModelError, match=r"No ONNX model at 'nothing\.onnx'"):
        load_model("nothing.onnx")


def test_options_that_do_not_fit_are_told(tiny_export):
    with pytest.raises(ModelError, match="precision was chosen when it was written"):
        load_model(tiny_export, dtype="float16")
    with pytest.raises(ModelError, match="'auto', 'cpu' or 'cuda'"):
        load_model(tiny_export, device="mps")
    with pytest.raises(ModelError, match="threads=0; expected 1 or more"):
        load_onnx(tiny_export, threads=0)
    model = load_onnx(tiny_export)
    with pytest.raises(ModelError, match="expected 1 or more"):
        model.log_probs([np.zeros(800)], batch_size=0)
    with pytest.raises(ModelError, match="NaN"):
        model.log_probs([np.full(800, np.nan)])
    with pytest.raises(ModelError, match="an ONNX graph: it gives text, but no hidden states"):
        embed([np.zeros(800, "float32")], tiny_export, sampling_rate=16_000)


def test_a_folder_with_torch_weights_too_is_loaded_by_torch(tiny_folder, tiny_export, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "both")
    shutil.copy(tiny_export.folder / "model.onnx", tmp_path / "both")
    assert not isinstance(load_model(tmp_path / "both", device="cpu"), OnnxModel)
    assert isinstance(load_onnx(tmp_path / "both"), OnnxModel)


def test_a_journal_tells_graphs_of_one_name_apart(tiny_export, made, tmp_path):
    shutil.copy(made[0].folder / "model.onnx", tmp_path / "a.onnx")
    one = digest_of_model(load_onnx(tmp_path / "a.onnx"))
    shutil.copy(tiny_export.folder / "model.onnx", tmp_path / "a.onnx")
    assert one != digest_of_model(load_onnx(tmp_path / "a.onnx"))


@pytest.mark.parametrize(
    ("said", "kind"),
    [("Failed to allocate memory for requested buffer", MemoryError), ("bad shape", ModelError)],
)
def test_memory_that_runs_out_is_told_from_other_failures(tiny_export, monkeypatch, said, kind):
    """Mini-batches are halved for the one, and not for the other; ONNX Runtime has one error."""
    model = load_onnx(tiny_export)

    class Failing:
        def run(self, *_):
            raise Exception(said)

    monkeypatch.setattr(model, "_session", Failing())
    with pytest.raises(kind, match=said):
        model.log_probs([np.zeros(800)])


# -- several at once


def test_two_mini_batches_run_at_once_each_on_its_share_of_the_threads(made, clips, monkeypatch):
    """Files are written as they are one by one, and what is left over has all threads."""
    model = load_onnx(made[0], device="cpu", threads=2)
    waves = [load_audio(file).waveform for file in sounds(clips)]
    alone = [model.log_probs([wave])[0] for wave in waves]
    used, run_graph = [], OnnxRuntimeSession.run

    def spy(session, *arguments):
        used.append(session.threads)
        return run_graph(session, *arguments)

    monkeypatch.setattr(OnnxRuntimeSession, "run", spy)
    assert lanes_for(model) == 2
    batches = MiniBatches(model, batch_s=40.0, lanes=2)
    batches.most = 1  # as for graphs that round what flows through them
    for outcome in batches.run(waves):
        assert outcome.error is None
        assert np.abs(outcome.log_probs - alone[outcome.index]).max() < 1e-3
    assert sorted(used) == [1, 1, 2]
    assert model.of_a_lane() is model.of_a_lane() is not model


def test_a_graph_is_not_loaded_twice_without_threads_memory_or_file(made, tmp_path, monkeypatch):
    assert load_onnx(made[0], device="cpu", threads=1).lanes == 1
    assert load_onnx(made[0], device="cpu", threads=8).of_a_lane()._session.threads == 4
    model = load_onnx(shutil.copytree(made[0].folder, tmp_path / "gone"), device="cpu", threads=2)
    assert model.lanes == 2
    os.utime(model.path, ns=(0, 0))  # another graph may be in its place
    assert model.lanes == 1
    os.utime(model.path, ns=(model._written_ns, model._written_ns))
    assert model.lanes == 2
    shutil.rmtree(tmp_path / "gone")
    assert model.lanes == 1
    monkeypatch.setattr("ptlab.onnx_model.MOST_BYTES_TWICE", 1e6)
    assert load_onnx(made[0], device="cpu", threads=2).lanes == 1


def test_a_batch_on_a_graph_loads_no_torch(made, clips):
    code = (
        "import sys, ptlab; model = ptlab.load_onnx(sys.argv[1], threads=2); "
        "done = ptlab.transcribe_files(sys.argv[2:], model, progress=False); "
        "print(all(r.text for r in done), model.lanes, {'torch'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(made[0].folder), *map(str, sounds(clips))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True 2 set()", done.stderr
