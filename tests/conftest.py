"""Shared by all tests: tiers, and small random models of the kinds that ptlab runs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import no_network
import numpy as np
import pytest
from hypothesis import settings

from ptlab.text import VOCABULARY

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
settings.register_profile("ptlab", deadline=None)  # a loaded machine is no error
settings.load_profile("ptlab")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell starts what ends in & so
    signal.signal(signal.SIGINT, signal.default_int_handler)

TIERS = {
    "slow": "full-size architecture (6 GB of memory, minutes): run `pytest -m slow`",
    "network": "needs the Hugging Face Hub and 1.3 GB: run `pytest -m network`",
    "browser": "drives a headless Chromium: `apt install chromium`, then run `make browser`",
    "colab": "makes an environment of 5 GB, runs all notebooks in it: run `make colab`",
    "notebook": "runs whole notebooks: run `pytest -m notebook tests/test_notebooks.py`",
}

# The shape of XLSR-53 (layer-norm feature encoder, stable layer norm, 46 tokens), made tiny.
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 46,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
RAW = {
    "conv_dim": [16] * 7,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}


def pytest_configure(config):
    config.pluginmanager.register(no_network)  # for the doctests too, which are in another folder


def pytest_collection_modifyitems(config, items):
    for item in items:
        for tier, reason in TIERS.items():
            if item.get_closest_marker(tier) and tier not in (config.option.markexpr or ""):
                item.add_marker(pytest.mark.skip(reason=reason))


def save_tiny(folder, kind="wav2vec2", *, seed=0, vocabulary=VOCABULARY, normalize=True, **config):
    """Save a random CTC model of a kind, laid out as the real checkpoint's repository is."""
    import torch
    from transformers import AutoConfig, AutoModelForCTC
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    raw = {} if kind == "wav2vec2-bert" else RAW
    model = AutoModelForCTC.from_config(
        AutoConfig.for_model(kind, **{**TINY, **raw, **config, "vocab_size": len(vocabulary)})
    )
    with torch.no_grad():
        model.lm_head.weight.mul_(50)  # so that the frames differ in what they spell
        model.lm_head.bias[1:4] = -1e4  # <s>, </s> and <unk> are never spelled
    folder = Path(folder)
    model.save_pretrained(folder)
    ids = {token: i for i, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), "utf-8")
    # The real repository names a processor with a language model; loading must not ask for it.
    features = {"sampling_rate": 16_000, "padding_side": "right", "padding_value": 0.0}
    if kind == "wav2vec2-bert":
        features |= {"feature_extractor_type": "SeamlessM4TFeatureExtractor", "feature_size": 80}
    else:
        features |= {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "do_normalize": normalize,
            "return_attention_mask": True,
            "processor_class": "Wav2Vec2ProcessorWithLM",
        }
    (folder / "preprocessor_config.json").write_text(json.dumps(features), "utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Folder of a tiny random model of the XLSR-53 kind with the real 46 tokens."""
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_model(tiny_folder):
    """The same, loaded."""
    from ptlab.models import load_model

    return load_model(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def tiny_export(tiny_model, tmp_path_factory):
    """The same as an ONNX graph, not to be changed."""
    from ptlab.export import export_onnx

    return export_onnx(tiny_model, tmp_path_factory.mktemp("export") / "tiny")


@pytest.fixture(scope="session")
def make_tiny(tmp_path_factory):
    """Save and load a tiny model of any kind, as in ``make_tiny("hubert")``."""
    from ptlab.models import load_model

    def make(kind="wav2vec2", **options):
        return load_model(save_tiny(tmp_path_factory.mktemp(kind), kind, **options), device="cpu")

    return make


@pytest.fixture(scope="session")
def speechlike():
    """``speechlike(seconds, seed)``: a waveform that changes as speech does, 16 kHz float32."""

    def make(seconds, seed=0, rate=16_000):
        rng = np.random.default_rng(seed)
        time = np.arange(round(seconds * rate)) / rate
        pitch = 120 + 40 * np.sin(2 * np.pi * 0.7 * time + seed)
        tones = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / rate) / k for k in range(1, 6))
        loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time + seed)
        noise = 0.05 * rng.standard_normal(len(time))
        return (0.1 * (loudness * tones + noise)).astype(np.float32)

    return make
