"""A file that has to fit: int4 where it does least harm, and no more of it than it takes."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from ptlab import fit_size
from ptlab._export.int8_weights import coded
from ptlab.data import load_corpus
from ptlab.errors import ModelError
from ptlab.export import export_onnx
from ptlab.fit_size import quantize_to_fit
from ptlab.models import load_model
from ptlab.quantize import quantize, weight_groups

onnx = pytest.importorskip("onnx", reason="quantizing ONNX files: pip install 'ptlab[export]'")


STORED = "+int8_convolutions+int8_weights"  # of the convolutions


@pytest.fixture(scope="module")
def clips():
    dev = load_corpus("dev")
    shortest = dev.frame.sort_values("duration_s").head(1)
    return replace(dev, frame=shortest.reset_index(drop=True))


def nodes_of(export, operator):
    graph = onnx.load(export.folder / "model.onnx").graph
    return [n.name for n in graph.node if n.op_type == operator]


@pytest.fixture(scope="module")
def sizes(tiny_export, tmp_path_factory):
    """Bytes with nothing in int4, with the head, with head and first layer."""
    folder = tmp_path_factory.mktemp("sizes")
    groups = ["lm_head", "layers.0"]
    made = [fit_size._mixed(tiny_export, folder / str(n), groups[:n]) for n in range(3)]
    return [m.size_bytes for m in made]


def test_no_more_is_put_in_int4_than_it_takes(tiny_export, clips, sizes, tmp_path, monkeypatch):
    order = ["lm_head", "layers.0", "layers.1"]
    monkeypatch.setattr(fit_size, "_least_sensitive", lambda *_: order)
    assert sizes[0] > sizes[1] > sizes[2]
    for count, size in enumerate(sizes):
        share = (size + 1) / tiny_export.size_bytes
        made = quantize_to_fit(tiny_export, tmp_path / str(count), share, clips=clips)
        assert made.size_bytes == size == (made.folder / "model.onnx").stat().st_size
        assert len(nodes_of(made, "MatMulNBits")) == [0, 1, 7][count]  # six matrices in a layer
        assert made.precision == f"int8_dynamic{'+int4' if count else ''}{STORED}"
        model = load_model(made)
        assert model.precision == made.precision and not model.pads_exactly
        assert np.isfinite(model.log_probs([np.ones(8_000)])[0]).all()


def test_where_int4_is_not_enough_more_weights_share_a_scale(tmp_path, monkeypatch):
    whole = export_onnx("mini", tmp_path / "whole")
    groups = list(weight_groups(whole, ["MatMul"]))
    monkeypatch.setattr(fit_size, "_least_sensitive", lambda *_: groups)
    sizes = {
        block: fit_size._mixed(whole, tmp_path / str(block), groups, block).size_bytes
        for block in (32, 64, 128, 256)
    }
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    for before, block in ((32, 64), (128, 256)):
        share = (sizes[before] - 1) / whole.size_bytes
        made = quantize_to_fit(whole, tmp_path / f"fits{block}", share)
        assert made.size_bytes == sizes[block] and made.precision == f"int4{STORED}"
        used = {a.i for node in onnx.load(made.folder / "model.onnx").graph.node
                for a in node.attribute if a.name == "block_size"}  # fmt: skip
        assert used == {block}
    share = (sizes[256] - 1) / whole.size_bytes
    made = quantize_to_fit(whole, tmp_path / "kernels", share)
    assert made.size_bytes < sizes[256] - 0.25e6
    assert made.precision == "int4+int8_weights"
    assert len(nodes_of(made, "Conv")) == 8


def test_short_names_and_halved_vectors_change_next_to_nothing(tiny_export, speechlike, tmp_path):
    shutil.copytree(tiny_export.folder, tmp_path / "small")
    fit_size.write_small(tmp_path / "small" / "model.onnx")
    small, sound = load_model(tmp_path / "small"), speechlike(0.5)
    assert small.size_bytes < 0.8 * tiny_export.size_bytes  # of the tiny one, most is names
    before = tiny_export.load().log_probs([sound])[0]
    assert 0 < np.abs(small.log_probs([sound])[0] - before).max() < 2e-2
    assert small.facts == tiny_export.load().facts
    graph = onnx.load(tmp_path / "small" / "model.onnx").graph
    halved = [i for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT16]
    assert halved and all(len(i.dims) == 1 for i in halved)
    whole = {i.name for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    norms = [n for n in graph.node if n.op_type == "LayerNormalization"]
    assert norms and not any(set(n.input[1:]) & whole for n in norms)


def test_what_suffers_least_is_taken_first(tiny_export, clips):
    frame = fit_size.sensitivity(
        tiny_export, clips, method="int4", operators=fit_size.MATRICES
    ).frame
    order = fit_size._least_sensitive(tiny_export, clips)
    harm = (frame.difference / frame.saved_mb)[order]
    assert sorted(order) == sorted(frame.index) and harm.is_monotonic_increasing


def test_what_cannot_fit_is_told_and_nothing_is_left(tiny_export, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_size, "_least_sensitive", lambda *_: ["lm_head"])
    with pytest.raises(ModelError, match=r"smallest file would have 0\.\d\d MB") as told:
        quantize_to_fit(tiny_export, tmp_path / "out", 0.01)
    would_do = float(str(told.value).split("Give share=")[1].rstrip("."))
    with pytest.raises(ModelError, match="share=2; expected a number from 0 to 1"):
        quantize_to_fit(tiny_export, tmp_path / "out", 2)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ModelError):
        quantize_to_fit(tiny_export, tmp_path / "out", would_do - 0.002)
    made = quantize_to_fit(tiny_export, tmp_path / "out", would_do)
    assert made.size_bytes <= would_do * tiny_export.size_bytes


def test_stored_int8_is_the_nearest_code_on_a_scale_for_each_output(tiny_export, tmp_path):
    """No weight is further off than half of its output's step, max |w| / 127."""
    made = quantize(tiny_export, tmp_path / "stored", "int8_weights")
    before, after = (
        {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(e.folder / "model.onnx")
         .graph.initializer} for e in (tiny_export, made)
    )  # fmt: skip
    stored = [n.removesuffix("_int8") for n in after if n.endswith("_int8")]
    assert sum(before[n].ndim == 3 for n in stored) == 8  # seven convolutions and the positional
    for name in stored:
        weight, codes, scales = before[name], after[f"{name}_int8"], after[f"{name}_scale"]
        outputs = 0 if weight.ndim == 3 else 1
        assert codes.dtype == np.int8 and scales.shape == (weight.shape[outputs],)
        shape = [-1 if i == outputs else 1 for i in range(weight.ndim)]
        steps = scales.reshape(shape)
        largest = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != outputs))
        assert scales == pytest.approx(largest / 127)
        assert (np.abs(weight - codes * steps) <= 0.5001 * steps).all()


def test_a_weight_of_zeros_has_a_scale():
    codes, scales = coded(np.zeros((2, 3), np.float32), axis=1)
    assert not codes.any() and (scales == 1).all()


def test_convolutions_compute_with_stored_weights(tiny_export, tiny_folder, speechlike, tmp_path):
    """As torch does with its weights rounded in the same way."""
    import torch

    others = [g for g in weight_groups(tiny_export) if g != "feature_extractor"]
    made = quantize(tiny_export, tmp_path / "stored", "int8_weights", exclude=others)
    model = load_model(tiny_folder, device="cpu")
    for layer in model.model.base_model.feature_extractor.modules():
        if isinstance(layer, torch.nn.Conv1d):
            codes, scales = coded(layer.weight.detach().numpy(), axis=0)
            layer.weight.data = torch.from_numpy(codes * scales[:, None, None])
    sound = speechlike(1.0)
    letters = [i for i in range(46) if i not in (1, 2, 3)]  # these are near -10,000
    found, expected = (m.log_probs([sound])[0][:, letters] for m in (made.load(), model))
    assert found == pytest.approx(expected, abs=2e-3)
    assert np.abs(found - tiny_export.load().log_probs([sound])[0][:, letters]).max() > 0.01
