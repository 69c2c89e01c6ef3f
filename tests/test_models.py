"""From a name, a folder or a Hub id to a model: what is found, and what is refused with advice."""

import gc
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import save_tiny
from fakes import Speller

from ptlab import models
from ptlab._speech.devices import find_device, find_dtype
from ptlab._speech.speech_model import SpeechModel
from ptlab.errors import ModelError
from ptlab.models import (
    MODELS,
    as_model,
    default_model,
    list_models,
    load_model,
    load_speech_model,
    read_calibration,
)
from ptlab.text import VOCABULARY
from ptlab.transcribe import Transcriber


@pytest.fixture
def copy(tiny_folder, tmp_path):
    """A copy of the tiny model's folder, to be damaged."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_folder_is_loaded_as_str_or_path(tiny_folder):
    for folder in (tiny_folder, str(tiny_folder)):
        model = load_model(folder, device="cpu")
        assert model.vocabulary == VOCABULARY
        assert (model.blank, model.word_delimiter, model.sampling_rate) == (0, "|", 16_000)
        assert (model.hop, model.receptive_field) == (320, 400)
        assert (model.hidden_size, model.num_layers, model.folder) == (32, 2, tiny_folder)
        assert not model.model.training
        assert repr(model).startswith(f"SpeechModel({str(folder)!r}, wav2vec2, 0.0 M parameters")


def test_the_default_is_mini_unless_the_environment_says_otherwise(tiny_folder, monkeypatch):
    monkeypatch.delenv("PTLAB_MODEL", raising=False)
    assert default_model() == "mini"
    monkeypatch.setenv("PTLAB_MODEL", str(tiny_folder))
    assert load_model(device="cpu").name == str(tiny_folder)
    monkeypatch.setenv("PTLAB_MODEL", "")
    assert default_model() == "mini"


def test_known_models_are_pinned_and_described():
    names = [spec.name for spec in list_models()]
    assert names == list(MODELS) == ["mini", "mini-xlsr-53", "xlsr-53-pt"]
    real = MODELS["xlsr-53-pt"]
    assert real.source == "jonatasgrosman/wav2vec2-large-xlsr-53-portuguese"
    assert re.fullmatch("[0-9a-f]{40}", real.revision)  # a branch or a tag can move
    assert all(spec.licence and spec.parameters and spec.description for spec in list_models())


def test_no_such_model_lists_what_exists(tmp_path):
    for name in ("large", str(tmp_path / "none"), "./none"):
        known = "Known names: mini, mini-xlsr-53, xlsr-53-pt; or give a folder"
        with pytest.raises(ModelError, match=known):
            load_model(name)


def test_missing_weights_of_mini_say_how_to_get_them(tmp_path, monkeypatch):
    spec = models.ModelSpec("mini", str(tmp_path), None, "", "", "")
    monkeypatch.setitem(MODELS, "mini", spec)
    with pytest.raises(ModelError, match="Install ptlab again, or clone"):
        load_model("mini")


def test_without_the_hub_the_likely_causes_are_named(offline):
    for name in ("xlsr-53-pt", "someone/some-model"):
        with pytest.raises(ModelError, match=r"Likely causes: no network.*'mini' works without"):
            load_model(name, device="cpu")


def test_the_pinned_commit_is_asked_for_unless_another_is(monkeypatch):
    asked = []

    def read(spec, revision, dtype):
        asked.append(revision)
        raise OSError("stop")

    monkeypatch.setattr(models, "_read", read)
    for revision in (None, "v2"):
        with pytest.raises(ModelError, match="stop"):
            load_model("xlsr-53-pt", device="cpu", revision=revision)
    with pytest.raises(ModelError, match="stop"):
        load_model("someone/some-model", device="cpu")
    assert asked == [MODELS["xlsr-53-pt"].revision, "v2", "main"]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", r"lacks config\.json.*save_pretrained"),
        ("vocab.json", r"lacks the vocabulary \(vocab\.json or tokenizer\.json\)"),
        ("preprocessor_config.json", r"lacks preprocessor_config\.json"),
        ("model.safetensors", r"has no model\.safetensors\. Save the model"),
    ],
)
def test_a_folder_with_a_file_missing_says_which(copy, file, message):
    (copy / file).unlink()
    with pytest.raises(ModelError, match=message):
        load_model(copy)


@pytest.mark.parametrize("file", ["config.json", "vocab.json", "model.safetensors"])
def test_a_damaged_file_is_a_model_error(copy, file):
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"Cannot load .* from its folder"):
        load_model(copy, device="cpu")


def test_pickled_weights_are_refused(copy):
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"does not read pickled weights.*write safetensors once"):
        load_model(copy)


def test_code_from_a_repository_is_never_run(copy):
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCTC": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text("raise SystemExit('was run')")
    assert load_model(copy, device="cpu").model.__class__.__name__ == "Wav2Vec2ForCTC"


@pytest.fixture
def encoder(copy):
    """A folder as a pre-trained encoder has it: no vocabulary, no head."""
    from transformers import AutoModel

    AutoModel.from_pretrained(copy).save_pretrained(copy)
    for name in ("vocab.json", "tokenizer_config.json"):
        (copy / name).unlink(missing_ok=True)
    return copy


def test_an_encoder_without_a_head_gives_hidden_states(encoder, tiny_folder):
    import torch

    found, whole = load_model(encoder, device="cpu"), load_model(tiny_folder, device="cpu")
    assert found.vocabulary == () and found.tokenizer is None
    assert (found.hidden_size, found.num_layers, found.frames(16_000)) == (32, 2, 49)
    assert repr(found).startswith(f"SpeechModel({str(encoder)!r}, wav2vec2, 0.0 M")
    wave = torch.randn(1, 8_000)
    ours = found.model(wave, output_hidden_states=True).hidden_states
    theirs = whole.model(wave, output_hidden_states=True).hidden_states
    assert len(ours) == 3 and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_an_encoder_without_a_head_cannot_transcribe(encoder):
    model = load_model(encoder, device="cpu")
    refused = "Wav2Vec2Model, an encoder without a CTC head: it hears but cannot spell"
    for use in (
        lambda: Transcriber(model),
        lambda: Transcriber(encoder),
        lambda: model.log_probs([np.zeros(8_000)]),
        lambda: model.processor,
    ):
        with pytest.raises(ModelError, match=refused):
            use()


def test_a_checkpoint_of_pre_training_is_its_encoder(copy):
    config = json.loads((copy / "config.json").read_text())
    pretrained = config | {"architectures": ["Wav2Vec2ForPreTraining"]}
    (copy / "config.json").write_text(json.dumps(pretrained))
    assert type(load_model(copy, device="cpu").model).__name__ == "Wav2Vec2Model"


def test_an_encoder_whose_weights_are_not_there_is_refused(encoder):
    from safetensors.torch import load_file, save_file

    weights = load_file(encoder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if "layers.1." not in k}
    save_file(kept, encoder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack encoder\.layers\.1\..*random numbers"):
        load_model(encoder, device="cpu")


def test_random_weights_where_the_file_has_none_are_refused(copy):
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    kept = {k: v for k, v in weights.items() if not k.startswith("lm_head")}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack lm_head\.bias and 1 more.*random numbers"):
        load_model(copy, device="cpu")


@pytest.mark.parametrize("kind", ["whisper", "bert"])
def test_models_of_other_kinds_are_refused(copy, kind):
    (copy / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelError, match=f"is a '{kind}' model. ptlab runs CTC models"):
        load_model(copy, device="cpu")


@pytest.mark.parametrize("kind", models.SUPPORTED)
def test_every_supported_kind_is_loaded(make_tiny, kind):
    model = make_tiny(kind)
    assert model.model.config.model_type == kind
    assert model.vocabulary == VOCABULARY


def test_upper_case_vocabularies_are_taken_as_they_are(tmp_path):
    vocabulary = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ABCÇÃO")
    model = load_model(save_tiny(tmp_path, vocabulary=vocabulary), device="cpu")
    assert model.vocabulary == vocabulary


def test_half_precision_on_disk_is_computed_in_single(tiny_folder, tmp_path):
    from transformers import AutoModelForCTC

    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    AutoModelForCTC.from_pretrained(tiny_folder).half().save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    assert str(model.dtype) == "torch.float32"


def test_devices_and_types_that_do_not_exist_are_refused(tiny_folder, monkeypatch):
    import torch

    assert load_model(tiny_folder, device=torch.device("cpu"), dtype=torch.float32)
    with pytest.raises(ModelError, match="No device 'gpu'; use 'auto', 'cpu'"):
        load_model(tiny_folder, device="gpu")
    with pytest.raises(ModelError, match=r"dtype 'int8'; choose one of auto, float32"):
        load_model(tiny_folder, dtype="int8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="has no CUDA device; use device='auto'"):
        load_model(tiny_folder, device="cuda:1")


@pytest.mark.parametrize(
    ("cuda", "mps", "device", "dtype"),
    [
        (True, False, "cuda", "float16"),
        (False, True, "mps", "float32"),
        (False, False, "cpu", "float32"),
    ],
)
def test_auto_takes_the_fastest_device(monkeypatch, cuda, mps, device, dtype):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert find_device("auto") == device
    assert str(find_dtype("auto", device)) == f"torch.{dtype}"


@pytest.mark.parametrize("probe", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_bfloat16_is_refused_on_a_cpu_without_it(tiny_folder, monkeypatch, probe):
    import torch

    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    with pytest.raises(ModelError, match=r"neither AVX512-BF16 nor AMX.*use dtype='float32'"):
        load_model(tiny_folder, device="cpu", dtype="bfloat16")
    monkeypatch.setattr(torch.cpu, probe, lambda: True, raising=False)
    model = load_model(tiny_folder, device="cpu", dtype="bfloat16")
    (log_probs,) = model.log_probs([np.zeros(8_000)])
    assert log_probs.dtype == np.float32
    assert np.exp(log_probs).sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_loading_leaves_the_settings_of_transformers_as_they_were(tiny_folder, monkeypatch):
    from transformers.utils import logging

    monkeypatch.setenv("DISABLE_SAFETENSORS_CONVERSION", "0")
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_model(tiny_folder, device="cpu")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert models.os.environ["DISABLE_SAFETENSORS_CONVERSION"] == "0"


def test_calibration_is_read_from_beside_the_weights(tmp_path):
    assert read_calibration(None) is None
    assert read_calibration(tmp_path) is None
    (tmp_path / "calibration.json").write_text('{"offset_s": 0.02}')
    assert read_calibration(tmp_path) == {"offset_s": 0.02}
    (tmp_path / "calibration.json").write_text("{")
    with pytest.raises(ModelError, match=r"calibration\.json in .* is not JSON"):
        read_calibration(tmp_path)


def test_a_loaded_model_is_taken_as_it_is_and_a_name_is_loaded(tiny_model, tiny_folder):
    assert load_speech_model(tiny_model) is tiny_model
    assert isinstance(load_speech_model(tiny_folder, device="cpu"), SpeechModel)


def test_a_wrapper_that_passes_the_rest_on_is_a_model(tiny_model):
    class Wrapper:
        def __getattr__(self, name):
            return getattr(tiny_model, name)

    for model in (Wrapper(), Speller()):
        assert as_model(model) is model


def test_what_is_neither_a_name_nor_a_model_is_refused():
    with pytest.raises(ModelError, match=r"int is no model: it has no sampling_rate, hop, name"):
        as_model(3)


def test_what_only_transcribes_is_no_model_to_train():
    with pytest.raises(ModelError, match=r"'speller' is a Speller.*give a name, a folder"):
        load_speech_model(Speller())


@pytest.mark.parametrize("before", [True, False])
def test_no_garbage_is_looked_for_while_a_model_is_loaded_and_then_as_before(monkeypatch, before):
    seen, read = [], models._read

    def noted(*args):
        seen.append(gc.isenabled())
        return read(*args)

    monkeypatch.setattr(models, "_read", noted)
    try:
        if not before:
            gc.disable()
        load_model("mini", device="cpu")
        with pytest.raises(ModelError):
            load_model("nobody knows it")
        after = gc.isenabled()
    finally:
        gc.enable()
    assert seen == [False] and after == before
