"""Waveforms to log-probs: the same alone and in a batch, for every kind of model."""

import numpy as np
import pytest
from conftest import save_tiny

from ptlab._speech.speech_model import batches
from ptlab.errors import ModelError
from ptlab.models import SUPPORTED, load_model

GROUP = {"feat_extract_norm": "group", "do_stable_layer_norm": False}  # as wav2vec2-base has it
# Kinds that the padding of a batch changes, and that are therefore run one by one.
INEXACT = {
    "wav2vec2-group": ("wav2vec2", GROUP),
    "hubert-group": ("hubert", GROUP),
    "wavlm-group": ("wavlm", GROUP),
    "hubert-batch-norm": ("hubert", {"conv_pos_batch_norm": True}),
    "data2vec-audio": ("data2vec-audio", {}),
    "wav2vec2-adapter": ("wav2vec2", {"add_adapter": True}),
    "wav2vec2-bert-adapter": ("wav2vec2-bert", {"add_adapter": True}),
}
EXACT = {k: (k, {}) for k in ("wav2vec2", "hubert", "wavlm", "wav2vec2-bert")}
EVERY = EXACT | INEXACT


@pytest.fixture(scope="module")
def model_of(make_tiny):
    """``model_of("wav2vec2-group")``: a tiny model of a kind, made once."""
    made = {}

    def get(name):
        if name not in made:
            kind, options = EVERY[name]
            made[name] = make_tiny(kind, **options)
            if name == "hubert-batch-norm":  # a trained one has statistics that are not zero
                made[name].model.hubert.encoder.pos_conv_embed.batch_norm.running_mean.fill_(1.0)
        return made[name]

    return get


@pytest.fixture(scope="module")
def clips(speechlike):
    """Clips of unlike length and loudness."""
    return [(1 + seed) * speechlike(s, seed) for seed, s in enumerate((1.0, 0.57, 0.3, 0.035))]


def letters(log_probs):
    """Without <s>, </s> and <unk>, which the tiny models hold near -10,000."""
    return np.delete(log_probs, [1, 2, 3], axis=1)


def distance(left, right):
    assert [m.shape for m in left] == [m.shape for m in right]
    return max(
        float(np.abs(letters(a) - letters(b)).max()) for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("name", EVERY)
def test_log_probs_sum_to_one_and_a_batch_gives_what_each_clip_gives_alone(model_of, clips, name):
    model = model_of(name)
    alone = [model.log_probs([c])[0] for c in clips]
    for matrix, clip in zip(alone, clips, strict=True):
        assert matrix.shape == (model.frames(len(clip)), 46)
        assert matrix.dtype == np.float32
        assert np.exp(matrix).sum(axis=1) == pytest.approx(1, abs=1e-5)
    for batch_size in (None, 2, 8):
        assert distance(model.log_probs(clips, batch_size=batch_size), alone) < 1e-3
    assert distance(model.log_probs(clips[::-1])[::-1], alone) < 1e-3


@pytest.mark.parametrize("name", EVERY)
def test_models_that_padding_changes_are_known(model_of, clips, name):
    model = model_of(name)
    assert model.pads_exactly == (name in EXACT)
    alone = [model.log_probs([c])[0] for c in clips]
    model.__dict__["pads_exactly"] = True  # padded all the same, as a plain batch would be
    try:
        moved = distance(model.log_probs(clips), alone)
    finally:
        del model.__dict__["pads_exactly"]
    assert (moved < 1e-3) == (name in EXACT)


def test_without_the_mask_padding_changes_even_a_layer_norm_model(tiny_model, clips):
    import torch

    inputs = tiny_model._inputs(clips)
    with torch.inference_mode():
        masked = tiny_model.model(**inputs).logits[1].numpy()
        bare = tiny_model.model(inputs["input_values"]).logits[1].numpy()
    valid = tiny_model.frames(len(clips[1]))
    assert len(masked) > valid  # what a pipeline would decode as well
    assert np.abs(letters(masked[:valid] - bare[:valid])).max() > 0.1


@pytest.mark.parametrize("name", EVERY)
def test_frames_is_the_length_that_the_model_gives(model_of, name):
    import torch

    model, rng = model_of(name), np.random.default_rng(0)
    for samples in (400, 401, 559, 560, 719, 720, *range(733, 4_001, 173)):
        if not model.frames(samples):
            assert samples < model.receptive_field
            continue
        inputs = model._inputs([rng.standard_normal(samples).astype(np.float32)])
        with torch.inference_mode():
            given = model.model(**inputs).logits.shape[1]
        if "attention_mask" in inputs and name == "wav2vec2-bert":
            given = int(inputs["attention_mask"].sum())  # the last half frame is masked
        if name == "wav2vec2-bert-adapter":
            given = -(-int(inputs["attention_mask"].sum()) // 2)
        assert model.frames(samples) == given


def test_frames_of_every_odd_length_are_the_formula_of_transformers(tiny_model):
    for samples in range(401, 4_001, 2):
        theirs = int(tiny_model.model._get_feat_extract_output_lengths(samples))
        assert tiny_model.frames(samples) == theirs == (samples - 400) // 320 + 1


def test_clips_that_are_too_short_give_no_frames(tiny_model, clips):
    matrices = tiny_model.log_probs([clips[0], np.zeros(399), np.zeros(0), np.ones(400)])
    assert [len(m) for m in matrices] == [49, 0, 0, 1]
    assert tiny_model.log_probs([]) == []


def test_each_clip_is_normalised_over_its_own_samples_and_padded_with_zeros(tiny_model, clips):
    inputs = tiny_model._inputs(clips)["input_values"].numpy()
    for row, clip in zip(inputs, clips, strict=True):
        valid, padding = row[: len(clip)], row[len(clip) :]
        assert valid.mean() == pytest.approx(0, abs=1e-4)
        assert valid.std() == pytest.approx(1, abs=1e-3)
        assert not padding.any()


def test_loudness_matters_only_to_models_that_do_not_normalise(tmp_path, tiny_model, clips):
    raw = load_model(save_tiny(tmp_path, normalize=False), device="cpu")
    assert (tiny_model.normalizes, raw.normalizes) == (True, False)
    loud = [4 * clips[0]]
    assert distance(tiny_model.log_probs(loud), tiny_model.log_probs(clips[:1])) < 0.01
    assert np.array_equal(raw._inputs(loud)["input_values"][0], loud[0])


def test_alone_means_what_the_feature_extractor_and_the_model_give(tiny_model, clips):
    import torch

    inputs = tiny_model.processor(clips[0], sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        expected = tiny_model.model(**inputs).logits.log_softmax(-1)[0].numpy()
    assert distance([expected], tiny_model.log_probs(clips[:1])) < 1e-3


def test_batches_are_bounded_and_hold_clips_of_like_length(tiny_model):
    seconds = [30, 1, 29, 2, 31, 1, 0.01]
    found = list(batches(tiny_model, [round(s * 16_000) for s in seconds], None))
    assert sorted(i for b in found for i in b) == [0, 1, 2, 3, 4, 5]  # the last has no frames
    for batch in found:
        assert len(batch) * max(seconds[i] for i in batch) <= 80 or len(batch) == 1
    order = [seconds[i] for b in found for i in b]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        ([np.array([0.1, np.nan] * 400)], "NaN or infinite"),
        ([np.array([0.1, np.inf] * 400)], "NaN or infinite"),
        ([np.zeros((2, 800))], r"shape \(2, 800\); expected a list of arrays"),
        (np.zeros(800), r"one alone is log_probs\(\[waveform\]\)"),
    ],
)
def test_what_a_model_cannot_hear_is_refused(tiny_model, waveforms, message):
    with pytest.raises(ModelError, match=message):
        tiny_model.log_probs(waveforms)
    with pytest.raises(ModelError, match="expected 1 or more"):
        tiny_model.log_probs([np.zeros(800)], batch_size=0)


def test_the_processor_is_built_from_what_was_loaded(model_of):
    for name, kind in {
        "wav2vec2": "Wav2Vec2Processor",
        "wav2vec2-bert": "Wav2Vec2BertProcessor",
    }.items():
        assert type(model_of(name).processor).__name__ == kind


def test_every_supported_kind_is_tested_here():
    assert {kind for kind, _ in EVERY.values()} == set(SUPPORTED)
