"""The road of the real checkpoint at full size: its exact architecture with random weights."""

import json

import numpy as np
import pytest
from conftest import save_tiny

from ptlab import ctc
from ptlab.embeddings import embed
from ptlab.models import load_model
from ptlab.text import VOCABULARY, normalize_text
from ptlab.transcribe import Transcriber, hf_pipeline

pytestmark = pytest.mark.slow

# config.json of jonatasgrosman/wav2vec2-large-xlsr-53-portuguese, as far as it shapes the network
XLSR_53 = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(save_tiny(tmp_path_factory.mktemp("xlsr-53"), **XLSR_53), device="cpu")


@pytest.fixture(scope="module")
def clip():
    from ptlab.data import load_corpus

    corpus = load_corpus("test")
    return corpus.audio(0), corpus.row(0)["text"]


@pytest.fixture(scope="module")
def result(model, clip):
    return Transcriber(model).transcribe(clip[0])


def test_it_is_the_network_of_the_real_checkpoint(model):
    assert 315.4e6 < model.num_parameters < 315.6e6
    assert model.vocabulary == VOCABULARY
    assert (model.hidden_size, model.num_layers) == (1024, 24)
    assert (model.hop, model.receptive_field, model.pads_exactly) == (320, 400, True)


def test_a_clip_is_transcribed(model, clip, result):
    frames = (len(clip[0]) - 400) // 320 + 1
    assert model.frames(len(clip[0])) == frames
    assert result.words
    assert all(0 <= w.start_s < w.end_s <= clip[0].duration_s for w in result.words)
    pipeline = hf_pipeline(model)(clip[0].waveform.copy())
    assert " ".join(pipeline["text"].split()) == result.text


def test_its_text_is_aligned(model, clip):
    audio, text = clip
    aligned = Transcriber(model).align(audio, text)
    assert aligned.text == normalize_text(text)
    assert all(a.end_s <= b.start_s for a, b in zip(aligned.words, aligned.words[1:], strict=False))


def test_results_are_written_in_every_format(result):
    assert json.loads(result.to_json())["text"] == result.text
    assert len(result.to_frame()) == len(result.words)
    assert len(result.to_frame("characters")) == len(result.characters)
    assert result.to_srt().startswith("1\n00:00:0")
    assert result.to_vtt().startswith("WEBVTT\n\n00:00:0")
    assert result.to_textgrid().count('class = "IntervalTier"') == 2


def test_a_batch_gives_what_each_clip_gives_alone(model, clip):
    waveform = clip[0].waveform
    clips = [waveform[:32_000], waveform[16_000:35_000], waveform[:10_000]]
    alone = [model.log_probs([c])[0] for c in clips]
    for one, other in zip(alone, model.log_probs(clips, batch_size=3), strict=True):
        letters = np.delete(one - other, [1, 2, 3], axis=1)  # <s>, </s>, <unk> are near -10,000
        assert np.abs(letters).max() < 0.02
        assert ctc.decode(one) == ctc.decode(other)


def test_every_layer_is_read(model, clip):
    audio = clip[0]
    found = embed(audio, model)
    assert found.layers == tuple(range(25))
    assert found[0].shape == (25, model.frames(len(audio)), 1024)
    mean = embed(audio, model, pool="mean")[0]
    assert mean.shape == (25, 1024)
    np.testing.assert_allclose(mean, found[0].mean(axis=1), atol=1e-3)


def test_a_long_recording_is_run_in_windows(model, clip):
    waveform = np.tile(clip[0].waveform, 3)[: 6 * 16_000]
    transcriber = Transcriber(model, window_s=2.5, overlap_s=0.5, batch_size=2)
    result = transcriber.transcribe(waveform, 16_000)
    assert result.windows == 3
    assert result.words[-1].end_s <= 6
