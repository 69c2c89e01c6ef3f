"""Smaller weights: which ones, by which formula, what stays, and that the result still runs."""

import shutil

import numpy as np
import pytest
from conftest import save_tiny
from test_full_size import XLSR_53

from ptlab._export.half_precision import bfloat16_bits
from ptlab._export.int4 import BLOCK_SIZES, _taps, put_int4, rounded
from ptlab._export.int8_convolutions import becomes_a_product, put_int8_convolutions
from ptlab._export.int8_weights import coded
from ptlab._export.onnx_weights import weights_of
from ptlab.ctc import greedy_path
from ptlab.data import load_corpus
from ptlab.errors import DataError, ModelError
from ptlab.export import Export, export_onnx
from ptlab.machine import this_machine
from ptlab.models import load_model
from ptlab.onnx_model import OnnxModel
from ptlab.quantize import CALIBRATED, METHODS, quantize, weight_groups
from ptlab.transcribe import Transcriber

onnx = pytest.importorskip("onnx", reason="quantizing ONNX files: pip install 'ptlab[export]'")


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return export_onnx("mini", tmp_path_factory.mktemp("quantize") / "mini")


@pytest.fixture(scope="module")
def clips():
    """Waveforms of short test clips."""
    corpus = load_corpus("test")
    shortest = corpus.frame.duration_s.nsmallest(30).index[::10]
    return [corpus.audio(i).waveform for i in shortest]


@pytest.fixture(scope="module")
def made(mini, tmp_path_factory):
    """``made("int8_dynamic")``: mini by a method, made once."""
    folder, done = tmp_path_factory.mktemp("made"), {}
    heard = [load_corpus("dev").audio(i) for i in range(0, 12, 3)]

    def get(method):
        if method not in done:
            options = {"calibration": heard} if method in CALIBRATED else {}
            done[method] = quantize(mini, folder / method, method, **options)
        return done[method]

    return get


def graph_of(export):
    return onnx.load(export.folder / "model.onnx").graph


def count(export, operator):
    return sum(n.op_type == operator for n in graph_of(export).node)


def arrays_of(export):
    return {i.name: onnx.numpy_helper.to_array(i) for i in graph_of(export).initializer}


def linears_and_convolutions(model):
    import torch

    layers = list(model.model.modules())
    return [
        [m for m in layers if isinstance(m, kind)] for kind in (torch.nn.Linear, torch.nn.Conv1d)
    ]


@pytest.mark.parametrize("method", METHODS)
def test_the_folder_loads_runs_and_writes_nearly_the_same(mini, made, clips, method):
    done = made(method)
    model = load_model(done)
    assert isinstance(model, OnnxModel)
    assert isinstance(done, Export)
    assert model.precision == done.precision == method.removesuffix("_gptq")
    assert done.size_bytes == model.size_bytes < mini.size_bytes
    assert Transcriber(model).calibrator == Transcriber(mini.load()).calibrator is not None
    same = [
        greedy_path(a) == greedy_path(b)
        for a, b in zip(mini.load().log_probs(clips), model.log_probs(clips), strict=True)
    ]
    assert np.concatenate(same).mean() > (0.85 if "int4" in method else 0.95)


def test_sizes_are_what_the_bits_say(mini, made, tmp_path):
    """4 bytes a weight become 2, or 1 where int8 multiplies; the rest is biases, norms, graph."""
    groups = weight_groups(mini)
    total = sum(groups.values())
    convolutions = groups["feature_extractor"] + groups["pos_conv_embed"]
    rest = mini.size_bytes - 4 * total
    assert 0 < rest < 0.02 * mini.size_bytes
    assert made("float16").size_bytes == pytest.approx(rest + 2 * total, rel=0.01)
    assert made("bfloat16").size_bytes == pytest.approx(rest + 2 * total, rel=0.01)
    expected = rest + (total - convolutions) + 4 * convolutions
    assert made("int8_dynamic").size_bytes == pytest.approx(expected, rel=0.04)
    matrices = (4 + 16 / 32) / 8 * (total - convolutions)  # 32 weights share a scale of 16 bits
    assert made("int4").size_bytes == pytest.approx(rest + matrices + 4 * convolutions, rel=0.01)
    coarser = quantize(mini, tmp_path / "coarser", "int4", block_size=128)
    saved = made("int4").size_bytes - coarser.size_bytes
    assert saved == pytest.approx((16 / 32 - 16 / 128) / 8 * (total - convolutions), rel=0.02)
    all_of_it = quantize(mini, tmp_path / "all", "int4", operators=["MatMul", "Conv"])
    assert all_of_it.size_bytes == pytest.approx(rest + matrices + convolutions / 2, rel=0.01)


def test_groups_are_the_weights_of_torch(mini):
    model, groups = load_model("mini", device="cpu"), weight_groups(mini)
    linear, convolutions = linears_and_convolutions(model)
    assert sum(groups.values()) == sum(m.weight.numel() for m in (*linear, *convolutions))
    layers = model.model.wav2vec2.encoder.layers
    assert [g for g in groups if g.startswith("layers.")] == [
        f"layers.{i}" for i in range(len(layers))
    ]
    matrices = sum(p.numel() for p in layers[3].parameters() if p.ndim == 2)
    assert groups["layers.3"] == matrices
    assert groups["lm_head"] == model.model.lm_head.weight.numel()
    extractor = model.model.wav2vec2.feature_extractor
    assert groups["feature_extractor"] == sum(
        p.numel() for p in extractor.parameters() if p.ndim > 1
    )


# -- half precision


def test_bfloat16_is_rounded_as_torch_rounds():
    import torch

    rng = np.random.default_rng(0)
    values = rng.standard_normal(10_000) * 10.0 ** rng.integers(-30, 30, 10_000)
    ties = [1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0.0, -0.0]
    values = np.concatenate([values, ties]).astype(np.float32)
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(bfloat16_bits(values), theirs)


@pytest.mark.parametrize("method", ["float16", "bfloat16"])
def test_half_precision_rounds_the_weights(tiny_export, tiny_folder, clips, tmp_path, method):
    import torch

    done = quantize(tiny_export, tmp_path / "half", method, exclude=["pos_conv_embed"])
    model = load_model(tiny_folder, device="cpu")
    linear, convolutions = linears_and_convolutions(model)
    rounded = [*linear, *(m for m in convolutions if "parametrizations" not in m._modules)]
    assert len(rounded) == len(linear) + len(convolutions) - 1
    before = model.log_probs(clips[:1])[0]
    for layer in rounded:
        layer.weight.data = layer.weight.data.to(getattr(torch, method)).float()
    expected, found = model.log_probs(clips[:1])[0], load_model(done).log_probs(clips[:1])[0]
    letters = [i for i in range(46) if i not in (1, 2, 3)]  # these are near -10,000
    assert found[:, letters] == pytest.approx(expected[:, letters], abs=2e-3)
    assert np.abs(found - before)[:, letters].max() > 0.01


def test_a_weight_that_float16_cannot_hold_is_told(tiny_export, tmp_path):
    shutil.copytree(tiny_export.folder, tmp_path / "large")
    proto = onnx.load(tiny_export.folder / "model.onnx")
    weight = next(i for i in proto.graph.initializer if len(i.dims) == 2)
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] = 1e5
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(proto, tmp_path / "large" / "model.onnx")
    with pytest.raises(ModelError, match=r"1e\+05 does not fit into float16.*bfloat16"):
        quantize(tmp_path / "large", tmp_path / "half", "float16")
    assert not (tmp_path / "half").exists()
    assert quantize(tmp_path / "large", tmp_path / "half", "bfloat16").precision == "bfloat16"


# -- int8


def test_dynamic_int8_multiplies_matrices_and_leaves_convolutions_alone(mini, made):
    linear, convolutions = linears_and_convolutions(load_model("mini", device="cpu"))
    done = made("int8_dynamic")
    assert count(done, "MatMulInteger") == len(linear)
    assert count(done, "MatMul") == count(mini, "MatMul") - len(linear)  # those of attention
    assert (count(done, "Conv"), count(done, "ConvInteger")) == (len(convolutions), 0)


def test_a_dynamic_range_is_that_of_a_clip_and_not_of_its_company(mini, made, clips):
    """ONNX Runtime finds one range for a whole batch, so that a loud clip would coarsen others."""
    model = made("int8_dynamic").load()
    alone = [model.log_probs([clip])[0] for clip in clips]
    together = model.log_probs(clips, batch_size=len(clips))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    model.pads_exactly = True  # as its origin is
    mixed = model.log_probs(clips, batch_size=len(clips))
    assert max(np.abs(a - b).max() for a, b in zip(alone, mixed, strict=True)) > 0.01
    assert mini.load().pads_exactly and made("int8_static").load().pads_exactly


def test_int8_weights_are_the_nearest_on_a_scale_for_each_output(mini, made):
    """w = s q with s = max |w| / 127 over a column: no weight is further off than s / 2."""
    weights, found = arrays_of(mini), arrays_of(made("int8_dynamic"))
    checked = 0
    for name, weight in weights.items():
        if f"{name}_quantized" not in found:
            continue
        q, scale = found[f"{name}_quantized"], found[f"{name}_scale"]
        assert q.dtype == np.int8 and scale.shape == (weight.shape[1],)
        assert scale == pytest.approx(np.abs(weight).max(axis=0) / 127, rel=0.01)
        assert (np.abs(weight - q * scale) <= 0.5001 * scale).all()
        checked += 1
    assert checked == count(made("int8_dynamic"), "MatMulInteger")


def test_one_scale_for_all_and_seven_bits_are_coarser(tiny_export, tmp_path):
    fine = arrays_of(quantize(tiny_export, tmp_path / "fine"))
    one = arrays_of(quantize(tiny_export, tmp_path / "one", per_channel=False))
    seven = arrays_of(quantize(tiny_export, tmp_path / "seven", reduce_range=True))
    names = [n.removesuffix("_quantized") for n in fine if n.endswith("_quantized")]
    for name in names:
        assert one[f"{name}_scale"].size == 1 < fine[f"{name}_scale"].size
        assert np.abs(seven[f"{name}_quantized"].astype(int)).max() <= 64
        assert np.abs(fine[f"{name}_quantized"].astype(int)).max() > 120


def test_excluded_groups_stay_as_they_are(mini, made, tmp_path):
    some = quantize(mini, tmp_path / "some", exclude=["lm_head", "layers.0"])
    kept = [n.name for n in graph_of(some).node if n.op_type == "MatMul" and n.input[1] in
            arrays_of(mini)]  # fmt: skip
    assert len(kept) == 7  # of a layer q, k, v, out, two of the feed-forward; and the head
    assert all("lm_head" in n or "/layers.0/" in n for n in kept)
    groups = weight_groups(mini)
    more = some.size_bytes - made("int8_dynamic").size_bytes
    assert more == pytest.approx(3 * (groups["lm_head"] + groups["layers.0"]), rel=0.05)


def test_convolutions_too_if_asked(tiny_export, tmp_path):
    done = quantize(tiny_export, tmp_path / "all", operators=["MatMul", "Conv"])
    assert (count(done, "Conv"), count(done, "ConvInteger")) == (0, 8)


@pytest.mark.parametrize(("taps", "stride", "bias"), [(3, 2, True), (2, 2, False), (4, 1, True)])
@pytest.mark.parametrize("samples", [50, 51])
@pytest.mark.parametrize("largest", [127, 63])
def test_a_convolution_as_a_product_is_that_of_its_rounded_numbers(
    taps, stride, bias, samples, largest, tmp_path
):
    """Sound on 256 lines between its least and its largest number, weights on 255 or 127."""
    flags = this_machine().flags
    if largest == 127 and "avx2" in flags and not any("vnni" in flag for flag in flags):
        pytest.skip("a CPU without VNNI cuts sums of such products to 16 bits")
    import onnxruntime
    import torch
    from onnx import TensorProto, helper

    rng = np.random.default_rng(taps)
    weight = rng.standard_normal((5, 7, taps)).astype(np.float32)
    shift = rng.standard_normal(5).astype(np.float32) if bias else None
    sound = rng.standard_normal((2, 7, samples)).astype(np.float32)
    floats = TensorProto.FLOAT
    known = {"w": weight} | ({"b": shift} if bias else {})
    node = helper.make_node("Conv", ["x", *known], ["y"], "part/Conv", strides=[stride])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", floats, (2, 7, None))],
        [helper.make_tensor_value_info("y", floats, (2, 5, None))],
        [onnx.numpy_helper.from_array(values, name) for name, values in known.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    nodes = list(proto.graph.node)
    assert becomes_a_product(nodes[0], weights_of(proto))
    put_int8_convolutions(proto, nodes, reduce_range=largest == 63)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, tmp_path / "product.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "product.onnx", None, ["CPUExecutionProvider"]
    )
    low, high = min(0, sound.min()), max(0, sound.max())
    step = (high - low) / 255
    zero = np.round(-low / step)
    heard = step * (np.clip(np.round(sound / step) + zero, 0, 255) - zero)
    codes, scales = coded(weight, axis=0, largest=largest)
    kernel = codes * scales[:, None, None]
    convolve = torch.nn.functional.conv1d
    tensors = [torch.tensor(x, dtype=torch.float32) if x is not None else None
               for x in (heard, kernel, shift)]  # fmt: skip
    expected = convolve(*tensors, stride=stride).numpy()
    assert session.run(None, {"x": sound})[0] == pytest.approx(expected, abs=1e-4)
    assert "w" not in {i.name for i in proto.graph.initializer}


def test_convolutions_become_products_but_the_first_and_the_positional(mini, made, tmp_path):
    linear, convolutions = linears_and_convolutions(load_model("mini", device="cpu"))
    done = quantize(made("int8_dynamic"), tmp_path / "both", "int8_convolutions")
    assert done.precision == "int8_dynamic+int8_convolutions"
    left = [n.name for n in graph_of(done).node if n.op_type == "Conv"]
    assert len(left) == 2 and "conv_layers.0" in left[0] and "pos_conv_embed" in left[1]
    assert count(done, "MatMulInteger") == len(linear) + len(convolutions) - 2
    assert not done.load().pads_exactly  # one range for all clips of a batch
    some = quantize(mini, tmp_path / "some", "int8_convolutions", exclude=["pos_conv_embed"])
    seven = quantize(mini, tmp_path / "seven", "int8_convolutions", reduce_range=True)
    for made_of, largest in ((some, 127), (seven, 63)):
        codes = [
            v for n, v in arrays_of(made_of).items() if "conv_layers" in n and v.dtype == np.int8
        ]
        assert len(codes) == 6 and {np.abs(c.astype(int)).max() for c in codes} == {largest}
    assert (count(some, "MatMulInteger"), some.load().pads_exactly) == (6, False)
    with pytest.raises(ModelError, match=r"Nothing to do: .* no float32 weights in Conv"):
        quantize(done, tmp_path / "again", "int8_convolutions")
    with pytest.raises(ModelError, match="Nothing to do"):
        quantize(mini, tmp_path / "none", "int8_convolutions", exclude=["feature_extractor"])


def test_what_int8_leaves_can_be_stored_in_half_precision(mini, made, clips, tmp_path):
    both = quantize(made("int8_dynamic"), tmp_path / "both", "float16")
    assert both.precision == "int8_dynamic+float16"
    groups = weight_groups(mini)
    convolutions = groups["feature_extractor"] + groups["pos_conv_embed"]
    saved = made("int8_dynamic").size_bytes - both.size_bytes
    assert saved == pytest.approx(2 * convolutions, rel=0.01)
    weights, found = arrays_of(mini), arrays_of(both)
    stored = {n.removesuffix("_float16"): w for n, w in found.items() if n.endswith("_float16")}
    assert sum(w.size for w in stored.values()) == convolutions
    assert all(np.array_equal(w, weights[n].astype(np.float16)) for n, w in stored.items())
    expected, heard = (
        load_model(made("int8_dynamic")).log_probs(clips),
        both.load().log_probs(clips),
    )
    same = [greedy_path(a) == greedy_path(b) for a, b in zip(expected, heard, strict=True)]
    assert np.concatenate(same).mean() > 0.95


def test_static_int8_reads_ranges_from_the_calibration_clips(tiny_export, speechlike, tmp_path):
    linear, convolutions = linears_and_convolutions(tiny_of(tiny_export))
    ranges = []
    for seed in (0, 1):
        sound = speechlike(1.0, seed)
        done = quantize(
            tiny_export, tmp_path / str(seed), "int8_static",
            calibration=[{"array": sound, "sampling_rate": 16_000}],
        )  # fmt: skip
        nodes = graph_of(done).node
        assert count(done, "QuantizeLinear") > 0
        assert count(done, "Conv") == len(convolutions)
        weights = {n.output[0] for n in nodes if n.op_type == "DequantizeLinear"}
        multiplied = [n for n in nodes if n.op_type == "MatMul" and n.input[1] in weights]
        assert len(multiplied) == len(linear)
        found = arrays_of(done)
        ranges.append({k: v for k, v in found.items() if k.endswith("_scale") and v.ndim == 0})
    assert ranges[0].keys() == ranges[1].keys()
    assert any(ranges[0][k] != ranges[1][k] for k in ranges[0])


def tiny_of(export):
    """The torch model that an export was made from."""
    return load_model(export.load().facts["source"], device="cpu")


# -- int4


def meant_by(codes, scales, size):
    """The matrix that codes and the scales of blocks of so many rows stand for."""
    return codes * np.repeat(scales.astype(np.float32), size, axis=0)[: len(codes)]


@pytest.mark.parametrize("size", BLOCK_SIZES)
@pytest.mark.parametrize("rows", [64, 50])  # 50: no block size divides it
def test_int4_is_a_product_with_the_weights_that_its_codes_stand_for(rows, size, tmp_path):
    """Nearest codes on the best of the scales tried, and ONNX Runtime reads (code - 8) * scale."""
    import onnxruntime
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((rows, 7)).astype(np.float32)
    sound = rng.standard_normal((3, rows)).astype(np.float32)
    if rows == 64:
        size = min(size, 64)  # a larger one would not divide the rows
    codes, scales = rounded(weight, size)
    meant = meant_by(codes, scales, size)
    for start in range(0, rows, size):
        block, scale = weight[start : start + size], scales[start // size].astype(np.float32)
        assert np.array_equal(codes[start : start + size], np.clip(np.round(block / scale), -8, 7))
        widest = block[np.abs(block).argmax(axis=0), np.arange(7)] / -8
        widest = widest.astype(np.float16).astype(np.float32)
        assert (scale / widest <= 1).all() and (scale / widest > 0.59).all()
        nearest = np.clip(np.round(block / widest), -8, 7) * widest
        error = ((block - meant[start : start + size]) ** 2).sum(axis=0)
        assert (error <= ((block - nearest) ** 2).sum(axis=0)).all()
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (3, rows))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (3, 7))],
        [onnx.numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    put_int4(proto, list(proto.graph.node), size)
    onnx.save(proto, tmp_path / "int4.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "int4.onnx", None, ["CPUExecutionProvider"])
    assert session.run(None, {"x": sound})[0] == pytest.approx(sound @ meant, abs=1e-4)


def test_int4_takes_matrices_and_what_it_leaves_can_be_halved(mini, made, clips, tmp_path):
    linear, convolutions = linears_and_convolutions(load_model("mini", device="cpu"))
    assert count(made("int4"), "MatMulNBits") == len(linear)
    assert count(made("int4"), "Conv") == len(convolutions)
    both = quantize(made("int4"), tmp_path / "both", "float16")
    assert both.precision == "int4+float16" and both.size_bytes < made("int4").size_bytes
    some = quantize(mini, tmp_path / "some", "int4", exclude=["lm_head"])
    assert count(some, "MatMulNBits") == len(linear) - 1
    int8 = quantize(mini, tmp_path / "int8", exclude=["lm_head"])
    mixed = quantize(int8, tmp_path / "mixed", "int4")
    assert (mixed.precision, count(mixed, "MatMulNBits")) == ("int8_dynamic+int4", 1)
    assert not mixed.load().pads_exactly  # one range for all clips of a batch, as in its origin


def test_a_kernel_in_int4_is_what_its_codes_stand_for(tiny_export, tmp_path):
    """A scale for each output, two codes in a byte; the nodes stay convolutions."""
    made = quantize(tiny_export, tmp_path / "made", "int4", operators=["Conv"])
    assert made.precision == "int4" and count(made, "MatMulNBits") == 0
    assert count(made, "Conv") == count(tiny_export, "Conv") == count(made, "DequantizeLinear") + 1
    before, after = arrays_of(tiny_export), arrays_of(made)
    kernels = [name.removesuffix("_int4") for name in after if name.endswith("_int4")]
    for name in kernels:
        weight = before[name].reshape(len(before[name]), -1)
        codes, scales = rounded(weight.T, weight.shape[1])
        assert np.array_equal(after[f"{name}_int4"].astype(int).reshape(weight.shape), codes.T)
        assert np.array_equal(after[f"{name}_scale"], scales[0].astype(np.float32))
    heard = [np.sin(np.arange(8_000) / 7).astype(np.float32)]
    spoken = arrays_of(made)
    whole = onnx.load(tiny_export.folder / "model.onnx")
    for name in kernels:
        old = next(i for i in whole.graph.initializer if i.name == name)
        scale = spoken[f"{name}_scale"].reshape(-1, *[1] * (before[name].ndim - 1))
        values = (spoken[f"{name}_int4"].astype(np.float32) * scale).astype(np.float32)
        old.CopyFrom(onnx.numpy_helper.from_array(values, name))
    shutil.copytree(tiny_export.folder, tmp_path / "widened")
    onnx.save(whole, tmp_path / "widened" / "model.onnx")
    widened = load_model(tmp_path / "widened").log_probs(heard)[0]
    assert load_model(made).log_probs(heard)[0] == pytest.approx(widened, abs=1e-4)


@pytest.mark.parametrize("groups, stride, pads", [(1, 2, [0, 0]), (3, 1, [4, 3])])
def test_what_kernels_hear_is_what_a_convolution_multiplies(groups, stride, pads):
    import torch

    rng = np.random.default_rng(0)
    sound, kernel = rng.standard_normal((1, 12, 40)), rng.standard_normal((6, 12 // groups, 8))
    padded = torch.nn.functional.pad(torch.from_numpy(sound), pads)
    expected = torch.nn.functional.conv1d(
        padded, torch.from_numpy(kernel), stride=stride, groups=groups
    )
    options = {"strides": [stride], "pads": pads}
    sums = [
        _taps(sound, kernel.shape, options, group) @ part.reshape(len(part), -1).T
        for group, part in enumerate(np.split(kernel, groups))
    ]
    heard = np.concatenate(sums, axis=1).T
    assert heard == pytest.approx(expected[0].numpy())


def sums_apart(weight, sound, codes, scales, size):
    """How far products with four-bit weights are from those with the weights, as a share."""
    stored = meant_by(codes, scales, size)
    return np.linalg.norm(sound @ (weight - stored)) / np.linalg.norm(sound @ weight)


@pytest.mark.parametrize("size", [16, 64, 256])
def test_gptq_makes_up_for_what_rounding_does_to_the_sums(size):
    """Channels that say nearly the same share out each other's errors; strangers cannot."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((80, 24)).astype(np.float32)
    alike = rng.standard_normal((400, 12)) @ rng.standard_normal((12, 80))
    alike += 0.1 * rng.standard_normal(alike.shape)
    nearest = sums_apart(weight, alike, *rounded(weight, size), size)
    made_up = sums_apart(weight, alike, *rounded(weight, size, alike.T @ alike), size)
    assert made_up < 0.6 * nearest
    strangers = rounded(weight, size, np.eye(80))
    for one, other in zip(strangers, rounded(weight, size), strict=True):
        assert np.array_equal(one, other)


def test_gptq_rounds_the_loudest_rows_first_wherever_they_stand():
    rng = np.random.default_rng(4)
    weight = rng.standard_normal((40, 8)).astype(np.float32)
    sound = rng.standard_normal((200, 6)) @ rng.standard_normal((6, 40))
    sound = (sound + 0.1 * rng.standard_normal(sound.shape)) * np.linspace(0.2, 5, 40)
    codes, scales = rounded(weight, 64, sound.T @ sound)
    order = rng.permutation(40)
    moved, same = rounded(weight[order], 64, sound[:, order].T @ sound[:, order])
    assert np.array_equal(moved, codes[order]) and np.array_equal(same, scales)


def test_a_scale_serves_the_loud_rows_of_its_block():
    """A quiet row with the largest weight may be cut short when a loud one gains by it."""
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((32, 16))
    weight[0] *= 4
    loudness = np.where(np.arange(32) == 0, 0.001, 1.0)

    def heard_error(codes, scales):
        return (loudness[:, None] * (weight - meant_by(codes, scales, 32)) ** 2).sum()

    told = heard_error(*rounded(weight, 32, np.diag(loudness)))
    assert told < 0.8 * heard_error(*rounded(weight, 32))


def test_gptq_hears_the_clips_and_leaves_the_graph_as_int4_does(tiny_export, speechlike, tmp_path):
    sounds = (speechlike(1.0, seed=seed) for seed in (1, 2))
    clips = [{"array": sound, "sampling_rate": 16_000} for sound in sounds]
    made = {
        name: quantize(tiny_export, tmp_path / name, method, **options)
        for name, method, options in (
            ("nearest", "int4", {}),
            ("one", "int4_gptq", {"calibration": clips[:1]}),
            ("both", "int4_gptq", {"calibration": clips}),
        )
    }
    assert {export.precision for export in made.values()} == {"int4"}
    assert len({export.size_bytes for export in made.values()}) == 1
    outputs = [[o.name for o in graph_of(export).output] for export in made.values()]
    assert outputs[0] == outputs[1] == outputs[2] and len(outputs[0]) == len(set(outputs[0]))
    codes = [
        b"".join(a.tobytes() for name, a in arrays_of(export).items() if name.endswith("_int4"))
        for export in made.values()
    ]
    assert len(set(codes)) == 3 and codes[0]
    kernels = [
        quantize(tiny_export, tmp_path / f"kernels_{method}", method, operators=["Conv"], **options)
        for method, options in (("int4", {}), ("int4_gptq", {"calibration": clips}))
    ]
    assert kernels[0].size_bytes == kernels[1].size_bytes
    nearest, made_up = map(arrays_of, kernels)
    names = [name for name in nearest if name.endswith("_int4")]
    assert names and all((nearest[name] != made_up[name]).any() for name in names)
    assert kernels[1].difference < kernels[0].difference


# -- what goes wrong


def test_calibration_clips_are_checked(tiny_export, tmp_path):
    with pytest.raises(DataError, match=r"from the test split.*load_corpus\('dev'\)"):
        quantize(tiny_export, tmp_path / "out", "int8_static", calibration=load_corpus("test"))
    for clips in ([], [{"array": np.ones(300, "float32"), "sampling_rate": 16_000}]):
        with pytest.raises(DataError, match="No calibration clip is long enough"):
            quantize(tiny_export, tmp_path / "out", "int8_static", calibration=clips)
    with pytest.raises(ModelError, match="int8_static and int4_gptq; int8_dynamic takes none"):
        quantize(tiny_export, tmp_path / "out", calibration=load_corpus("dev"))
    with pytest.raises(ModelError, match="block_size=48; choose one of 16, 32, 64, 128, 256"):
        quantize(tiny_export, tmp_path / "out", "int4", block_size=48)


def test_options_that_do_not_fit_are_told(tiny_export, tmp_path):
    with pytest.raises(ModelError, match="reduce_range is for products of int8; int4 only stores"):
        quantize(tiny_export, tmp_path / "out", "int4", reduce_range=True)
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="method='int3'; choose one of float16"):
        quantize(tiny_export, out, "int3")
    for operators in ("MatMul", [], ["Gemm"]):
        with pytest.raises(ModelError, match="choose from MatMul, Conv, in a list"):
            quantize(tiny_export, out, operators=operators)
    with pytest.raises(ModelError, match=r"No group 'layers\.9'.*there are: feature_extractor, .*"):
        quantize(tiny_export, out, exclude=["layers.9"])
    with pytest.raises(ModelError, match="Nothing to do"):
        quantize(tiny_export, out, exclude=list(weight_groups(tiny_export)))
    with pytest.raises(ModelError, match="No ONNX model at"):
        quantize("mini", out)
    assert not out.exists()


def test_weights_are_quantized_once(tiny_export, tmp_path):
    half = quantize(tiny_export, tmp_path / "half", "float16", exclude=["lm_head"])
    with pytest.raises(ModelError, match="float16 weights; int8_dynamic is made from the float32"):
        quantize(half, tmp_path / "out")
    whole = quantize(half, tmp_path / "whole", "float16")
    with pytest.raises(ModelError, match=r"Nothing to do.*precision is float16\+float16"):
        quantize(whole, tmp_path / "out", "float16")


def test_only_what_belongs_to_a_model_is_copied(tiny_export, tmp_path):
    shutil.copytree(tiny_export.folder, tmp_path / "source")
    (tmp_path / "source" / "diary.json").write_text("{}")
    done = quantize(tmp_path / "source" / "model.onnx", tmp_path / "out")
    names = {f.name for f in done.folder.iterdir()}
    assert names == {f.name for f in tiny_export.folder.iterdir()}


@pytest.mark.slow
def test_the_full_size_architecture_is_quantized(tmp_path):
    folder = save_tiny(tmp_path / "xlsr-53", **XLSR_53)
    whole = export_onnx(folder, tmp_path / "onnx")
    small = quantize(whole, tmp_path / "int8")
    assert 3.4 < whole.size_bytes / small.size_bytes < 3.7  # 1,261 to 354 MB
    assert load_model(small).log_probs([np.zeros(16_000)])[0].shape == (49, 46)
