"""The recipes behind corpus and weights: fast forward, augmentation, batches, who may train."""

from __future__ import annotations

import copy
import csv
import doctest
import importlib
import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import save_tiny

from ptlab.data import data_dir, load_corpus, load_story
from ptlab.models import load_model
from ptlab.text import VOCABULARY, normalize_text

DATA = data_dir()
sys.path.insert(0, str(DATA / "recipes"))
import augment  # noqa: E402
import kokoro  # noqa: E402
import make_domain  # noqa: E402
import make_speech  # noqa: E402
import opus  # noqa: E402
import phonemes  # noqa: E402
import ship_mini  # noqa: E402
import speech  # noqa: E402
import splice  # noqa: E402
import story  # noqa: E402
import train_mini  # noqa: E402
import voices  # noqa: E402

KEPT_FREE = set(voices.DEV) | set(voices.TEST)
KNOWN_WORDS = ["o", "gato", "dorme", "na", "casa", "azul"]


@pytest.mark.parametrize(
    "name",
    [
        "make_domain",
        "make_espeak",
        "phonemes",
        "prune_neurons",
        "sentences",
        "train_mini",
        "voices",
    ],
)
def test_examples_in_the_recipes(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0 and found.attempted > 0


def test_domain_keeps_voices_and_sentences_apart() -> None:
    texts = (DATA / "recipes" / "pharmacy_br.txt").read_text("utf-8").splitlines()
    rows = make_domain.plan(texts)
    for column in ("speaker", "text"):
        of_split = [{r[column] for r in rows if r["split"] == s} for s in ("train", "dev", "test")]
        assert sum(map(len, of_split)) == len(set().union(*of_split))
    with (DATA / "pharmacy" / "metadata.csv").open(encoding="utf-8") as table:
        made = list(csv.DictReader(table))
    assert [(r["text"], r["speaker"]) for r in made] == [(r["text"], r["speaker"]) for r in rows]


# -- the fast forward of the training


@pytest.fixture(scope="module")
def network():
    """A tiny XLSR-53 with biases and gains that are not their starting values."""
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=46,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(8, 12, 12, 16, 16, 16, 16),
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        mask_time_prob=0.05,
        pad_token_id=0,
    )
    model = Wav2Vec2ForCTC(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def both_logits(model, waveforms, samples):
    """Logits of HF and of the fast forward on a padded batch, and the valid frames of each."""
    import torch
    from fast_wav2vec2 import FastForward

    mask = (torch.arange(waveforms.shape[1]) < samples[:, None]).long()
    frames = model._get_feat_extract_output_lengths(samples)
    with torch.inference_mode():
        theirs = model(waveforms, attention_mask=mask).logits
        ours, inner = FastForward(model, 2)(waveforms, frames)
    return theirs, ours, inner, frames


def test_fast_forward_is_the_model(network) -> None:
    waveforms = torch.randn(2, 9_000, generator=torch.Generator().manual_seed(1))
    theirs, ours, inner, _ = both_logits(network, waveforms, torch.tensor([9_000, 9_000]))
    assert theirs.std() > 0.05  # there is something to agree on
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
    with torch.inference_mode():
        states = network(waveforms, output_hidden_states=True).hidden_states
    torch.testing.assert_close(inner, states[2], rtol=1e-4, atol=2e-5)


def test_fast_forward_of_a_padded_batch_is_the_model(network) -> None:
    samples = torch.tensor([9_000, 4_321, 6_000])
    waveforms = torch.randn(3, 9_000, generator=torch.Generator().manual_seed(2))
    waveforms[torch.arange(9_000) >= samples[:, None]] = 0.0
    theirs, ours, _, frames = both_logits(network, waveforms, samples)
    for row, count in enumerate(frames.tolist()):
        torch.testing.assert_close(ours[row, :count], theirs[row, :count], rtol=1e-4, atol=2e-5)


def test_fast_forward_learns_what_the_model_learns(network) -> None:
    from fast_wav2vec2 import FastForward

    waveforms = torch.randn(1, 6_000, generator=torch.Generator().manual_seed(3))
    lengths = network._get_feat_extract_output_lengths(torch.tensor([6_000]))
    gradients = []
    for run in (network, lambda x: FastForward(network, 1)(x, lengths)[0]):
        network.zero_grad()
        out = run(waveforms)
        getattr(out, "logits", out).square().sum().backward()
        grads = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        gradients.append(grads)
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    for name, gradient in gradients[0].items():
        # Some gradients are 0 but for rounding (a bias of all keys moves no softmax): 1e-6.
        scale = max(float(gradient.abs().max()), 1e-2)
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("multiplies_it", [True, False])
def test_bf16_is_left_alone_where_it_is_software(multiplies_it, monkeypatch) -> None:
    import fast_wav2vec2

    monkeypatch.setattr(fast_wav2vec2, "cpu_has_bfloat16", lambda: multiplies_it)
    with fast_wav2vec2.mixed_precision():
        found = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    assert found == (torch.bfloat16 if multiplies_it else torch.float32)


def test_dropped_channels_are_dropped_for_a_whole_clip(network) -> None:
    from fast_wav2vec2 import FastForward, drop_channels

    torch.manual_seed(0)
    y = drop_channels(torch.ones(50, 7, 40), 0.25)
    assert (y == y[:, :1]).all() and y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=0.04)
    waveforms, lengths = torch.randn(1, 6_000), torch.tensor([18])
    one, two = (FastForward(network, 2, dropout=0.2)(waveforms, lengths)[0] for _ in range(2))
    assert not torch.allclose(one, two)


def test_views_of_a_clip_are_the_clip_behind_other_masks(network) -> None:
    from fast_wav2vec2 import FastForward

    torch.manual_seed(1)
    forward, waveforms, lengths = FastForward(network, 2), torch.randn(2, 6_000), [18, 12]
    mask = torch.zeros(4, 18, dtype=torch.bool)
    mask[2:, 3:6] = True
    both = forward(waveforms, torch.tensor(lengths * 2), mask)[0]
    for view, rows in enumerate((mask[:2], mask[2:])):
        alone = forward(waveforms, torch.tensor(lengths), rows)[0]
        torch.testing.assert_close(both[2 * view : 2 * view + 2], alone, rtol=1e-4, atol=2e-5)
    assert not torch.allclose(both[:2], both[2:])


def test_another_pace_keeps_ends_order_and_phones(network) -> None:
    from fast_wav2vec2 import FastForward

    lengths = torch.tensor([80, 50])
    phones = torch.arange(1, 81).repeat(2, 1)
    phones[1, 50:] = speech.NO_PHONE
    batch = (torch.randn(2, 80 * 320 + 80), lengths, [[7], [8]], phones)
    (waves, paced, labels, heard), places = train_mini.at_another_pace(
        batch, np.random.default_rng(5), 0.3
    )
    assert waves is batch[0] and labels is batch[2]
    assert heard.shape == places.shape == (2, int(paced.max())) and (paced != lengths).all()
    for row in range(2):
        own = places[row, : paced[row]]
        assert own[0] == 0 and float(own[-1]) == pytest.approx(int(lengths[row]) - 1)
        steps = own.diff()
        assert float(steps.min()) > 0.5 and float(steps.max()) < 2 and float(steps.std()) > 0.02
        assert (heard[row, : paced[row]] == own.round().long() + 1).all()
        assert (heard[row, paced[row] :] == speech.NO_PHONE).all()
    same = train_mini.at_another_pace(batch, np.random.default_rng(5), 0.0)
    assert (same[0][1] == lengths).all() and (same[0][3] == phones).all()
    with torch.inference_mode():
        forward = FastForward(network, 2)
        plain, at_own_pace = forward(waves, lengths)[0], forward(waves, lengths, None, same[1])[0]
        half = forward(waves[:1], paced[:1], None, places[:1, : paced[0]])[0]
    torch.testing.assert_close(at_own_pace[0], plain[0], rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(at_own_pace[1, :50], plain[1, :50], rtol=1e-4, atol=2e-5)
    assert half.shape[1] == paced[0]


def test_between_two_frames_lies_their_mean() -> None:
    from fast_wav2vec2 import between

    x, places = torch.tensor([[[0.0], [2.0], [6.0]]]), torch.tensor([[0.0, 0.5, 1.0, 1.25, 2.0]])
    assert between(x, places).flatten().tolist() == [0, 1, 2, 3, 6]


def test_disagreement_is_the_divergence_both_ways_over_valid_frames() -> None:
    torch.manual_seed(2)
    log_probs, lengths = torch.randn(2, 5, 4).log_softmax(-1), torch.tensor([3, 3])
    p, q = log_probs[0, :3].double(), log_probs[1, :3].double()
    expected = (p.exp() * (p - q)).sum() + (q.exp() * (q - p)).sum()
    found = train_mini.disagreement(log_probs, log_probs.roll(1, 0), lengths)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert float(train_mini.disagreement(log_probs, log_probs, lengths)) == 0


def test_a_teacher_hears_all_of_every_clip_and_learns_nothing(network) -> None:
    """A model that is its own teacher has nothing to learn, but for what masks hide from it."""
    from fast_wav2vec2 import FastForward

    torch.manual_seed(3)
    waves, lengths = torch.randn(2, 6_000), torch.tensor([18, 12])
    phones = torch.full((2, 18), speech.NO_PHONE)
    phones[0, :5] = 1
    batch = (waves, lengths, [[7, 8], [9]], phones)
    head = torch.nn.Linear(32, len(speech.PHONES) + 1)
    whole = copy.deepcopy(network)

    def taught(student, mask):
        forward = FastForward(student, 2)
        *_, apart = train_mini.losses(forward, head, batch, mask, FastForward(whole, 2))
        return apart

    bare = torch.zeros(2, 18, dtype=torch.bool)
    hidden = bare.clone()
    hidden[0, 4:9] = True
    smaller = copy.deepcopy(network)
    del smaller.wav2vec2.encoder.layers[1]
    assert taught(network, bare).item() == pytest.approx(0, abs=1e-6)
    assert taught(network, hidden).item() > 1e-4
    assert taught(smaller, bare).item() > 1e-4
    two_views = torch.cat([bare, hidden])
    both = taught(network, two_views).item()
    assert both == pytest.approx(taught(network, hidden).item() / 2, rel=1e-3)
    taught(smaller, bare).backward()
    assert all(p.grad is None for p in whole.parameters())
    assert smaller.lm_head.weight.grad.abs().sum() > 0


def test_of_neurons_that_say_the_same_one_is_enough(network) -> None:
    """Each neuron twice: half of them can go, and the other half says it all."""
    from prune_neurons import prune

    torch.manual_seed(4)
    waves = list(torch.randn(3, 8_000))
    double = copy.deepcopy(network)
    with torch.no_grad():
        for layer in double.wav2vec2.encoder.layers:
            inner, outer = layer.feed_forward.intermediate_dense, layer.feed_forward.output_dense
            half = inner.out_features // 2
            inner.weight.normal_(0, 0.5)
            outer.weight.normal_(0, 0.5)
            inner.weight[half:], inner.bias[half:] = inner.weight[:half], inner.bias[:half]
        before = double(waves[0][None]).logits
        smaller = prune(double, waves, half)
        after = smaller(waves[0][None]).logits
        worse = prune(copy.deepcopy(smaller), waves, half // 2)(waves[0][None]).logits
    assert smaller.config.intermediate_size == half
    torch.testing.assert_close(after, before, rtol=0, atol=0.01)
    assert (worse - before).abs().max() > 0.05


@pytest.mark.parametrize("kernel, stride", [(10, 5), (3, 2), (2, 2)])  # all that wav2vec2 has
def test_convolution_by_matrix_products(kernel: int, stride: int) -> None:
    from fast_wav2vec2 import conv_by_matmul

    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, 101, 3, generator=generator)
    weight = torch.randn(4, 3, kernel, generator=generator)
    bias = torch.randn(4, generator=generator)
    expected = torch.nn.functional.conv1d(x.transpose(1, 2), weight, bias, stride).transpose(1, 2)
    torch.testing.assert_close(conv_by_matmul(x, weight, bias, stride), expected)


# -- augmentation


@pytest.fixture
def tone() -> np.ndarray:
    time = np.arange(16_000) / 16_000
    return (0.3 * np.sin(2 * np.pi * 440 * time) * np.sin(np.pi * time)).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_augmented_speech_keeps_length_and_is_finite(tone: np.ndarray, seed: int) -> None:
    out = augment.augment(tone, np.random.default_rng(seed), 1.0, babble=tone[::-1])
    again = augment.augment(tone, np.random.default_rng(seed), 1.0, babble=tone[::-1])
    assert out.shape == tone.shape and out.dtype == np.float32 and np.isfinite(out).all()
    assert np.abs(out).max() > 0.01 and (out == again).all()


def test_augmentation_of_silence_is_finite() -> None:
    silence = np.zeros(4_000, np.float32)
    for seed in range(20):
        out = augment.augment(silence, np.random.default_rng(seed), 1.0, babble=silence)
        assert np.isfinite(out).all()


def test_augmentation_changes_some_and_none_at_zero_strength(tone: np.ndarray) -> None:
    changed = [
        not np.array_equal(augment.augment(tone, np.random.default_rng(seed), 1.0), tone)
        for seed in range(60)
    ]
    # Untouched is (1 - .35)(1 - .6)(1 - .5)(1 - .08)^2 = 11 %.
    assert 0.75 <= np.mean(changed) < 1
    for seed in range(20):
        assert (augment.augment(tone, np.random.default_rng(seed), 0.0) == tone).all()


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5, 30.0])
@pytest.mark.parametrize("samples", [700, 16_000, 20_000])  # noise shorter, as long, longer
def test_noise_has_the_level_that_was_asked(tone: np.ndarray, snr_db: float, samples: int) -> None:
    noise = augment.coloured_noise(samples, np.random.default_rng(0))
    added = augment.add_noise(tone, noise, snr_db).astype(np.float64) - tone
    found = 10 * np.log10(np.mean(tone.astype(np.float64) ** 2) / np.mean(added**2))
    assert found == pytest.approx(snr_db, abs=0.05)


@pytest.mark.parametrize("samples", [1, 399, 16_000, 16_001])
def test_noise_is_as_long_as_asked(samples: int) -> None:
    assert augment.coloured_noise(samples, np.random.default_rng(1)).shape == (samples,)


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.25])
def test_speed_moves_length_and_pitch_together(factor: float) -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(32_000) / 16_000).astype(np.float32)
    out = augment.change_speed(tone, factor)
    assert len(out) == pytest.approx(len(tone) / factor, abs=2) and out.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(out * np.hanning(len(out))))
    assert np.argmax(spectrum) * 16_000 / len(out) == pytest.approx(1_000 * factor, abs=2)


def test_the_direct_sound_stays_where_it_is() -> None:
    """A room or a microphone that delays the sound would make every known time wrong."""
    click = np.zeros(8_000, np.float32)
    click[1_000] = 1.0
    for seed in range(30):
        out = augment.room_and_microphone(click, np.random.default_rng(seed), 1.0, 1.0)
        assert abs(int(np.argmax(np.abs(out))) - 1_000) <= 16  # 1 ms
        assert len(out) == len(click)


def test_companding_is_near_the_original(tone: np.ndarray) -> None:
    out = augment.companded(tone) * np.abs(tone).max()
    noise = np.mean((out - tone) ** 2)
    snr_db = 10 * np.log10(np.mean(tone**2) / noise)
    assert 30 < snr_db < 45  # G.711 reaches about 38 dB


# -- from recorded sentences to training examples


def test_weights_of_runs_are_averaged_and_one_named_twice_counts_twice(tmp_path: Path) -> None:
    folders = [save_tiny(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    one, other = (load_model(folder, device="cpu").model.state_dict() for folder in folders)
    mean = ship_mini.averaged([folders[0], folders[1], folders[1]]).state_dict()
    assert mean.keys() == one.keys()
    for name, tensor in mean.items():
        assert torch.allclose(tensor, (one[name] + 2 * other[name]) / 3, atol=1e-6), name


def test_vocabulary_of_the_training_is_that_of_the_package() -> None:
    assert load_model("mini", device="cpu").vocabulary == train_mini.VOCABULARY == VOCABULARY
    assert train_mini.new_model().config.vocab_size == len(VOCABULARY)


def test_labels_are_the_normalised_text() -> None:
    texts = list(load_corpus().frame.text) + list(load_story().sentences.text)
    for text in texts:
        ids, words = speech.to_labels(text)
        assert " ".join(words) == normalize_text(text)
        assert "".join(VOCABULARY[i] for i in ids).replace("|", " ") == normalize_text(text)


def test_labels_of_odd_texts() -> None:
    assert speech.to_labels("— Copo d’água, 3 vezes…")[1] == ["copo", "d'água", "vezes"]
    assert speech.to_labels("'sim' - não-")[1] == ["sim", "não"]
    assert speech.to_labels("") == ([], [])
    assert speech.to_labels("ac\u0327a\u0303o")[1] == ["ação"]


@pytest.mark.parametrize("samples", [0, 399, 400, 719, 720, 16_000, 100_001])
def test_frames_are_those_of_the_model(samples: int, network) -> None:
    theirs = int(network._get_feat_extract_output_lengths(torch.tensor([samples]))[0])
    assert speech.frames_of(samples) == max(0, theirs)


TEXT = "Bom dia, Ana."
SYMBOLS = "bˈoŋ ʤˈiæ, ˈænæ."


@pytest.fixture
def part(tmp_path: Path) -> tuple[Path, dict]:
    """A folder of one clip as make_speech.py writes it."""
    frames = [12, *[3] * len(SYMBOLS), 10]
    samples = sum(frames) * 400
    noise = 0.1 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    opus.write(tmp_path / "00000.ogg", noise)
    words = [["Bom", 0.3, 0.6], ["dia", 0.6, 0.95], ["Ana", 1.1, 1.5]]
    row = {"path": "00000.ogg", "text": TEXT, "symbols": SYMBOLS, "frames": frames, "words": words}
    (tmp_path / "part0.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    return tmp_path, row


def test_a_clip_is_read_with_one_phone_a_token(part: tuple[Path, dict]) -> None:
    (clip,) = speech.read_folder(part[0])
    assert len(clip.samples) == round(clip.ends_s[-1] * 16_000)
    assert len(clip.phones) == len(clip.ends_s) == len(SYMBOLS) + 2
    names = ["-" if k == 0 else speech.PHONES[k - 1] for k in clip.phones]
    # A stress mark counts to the sound after it; comma, space and full stop are pauses.
    assert "".join(names) == "-booŋ-ʤiiæ--ææn æ--".replace(" ", "")
    assert clip.word_cuts.tolist() == pytest.approx([0.0, 0.6, 1.025, clip.ends_s[-1]])


def test_a_line_that_is_still_being_written_is_left(part: tuple[Path, dict]) -> None:
    folder, row = part
    with (folder / "part0.jsonl").open("a", encoding="utf-8") as out:
        out.write(json.dumps(row)[:40])
    assert len(speech.read_folder(folder)) == 1


def test_a_clip_of_another_rate_is_refused(part: tuple[Path, dict]) -> None:
    folder, row = part
    soundfile.write(folder / "b.wav", np.zeros(2_400), 24_000)
    with pytest.raises(ValueError, match="24000 Hz, expected 16000"):
        speech.read_clip(row | {"path": "b.wav"}, folder)


def test_without_word_times_a_word_begins_with_its_space(part: tuple[Path, dict]) -> None:
    """The token of a space sounds as the next word, and all sound is 50 ms ahead of its token."""
    folder, row = part
    clip = speech.read_clip({k: v for k, v in row.items() if k != "words"}, folder)
    token_starts = np.concatenate([[0], np.cumsum(row["frames"])]) * 0.025
    spaces = [i + 1 for i, symbol in enumerate(SYMBOLS) if symbol == " "]
    begins = [token_starts[i] - 0.05 for i in spaces]
    assert clip.word_cuts.tolist() == pytest.approx([0.0, *begins, token_starts[-1]])


def test_a_tilde_is_of_the_vowel_before_it(part: tuple[Path, dict]) -> None:
    folder, row = part
    symbols = "pˈɐ\u0303ʊ\u0303"
    row = {**row, "text": "pão", "symbols": symbols, "frames": [1] * 8, "lead_frames": 0}
    clip = speech.read_clip(row, folder)
    names = "".join("-" if k == 0 else speech.PHONES[k - 1] for k in clip.phones)
    assert names == "-pɐɐɐʊʊ-"


def test_the_corpus_gives_clips_too() -> None:
    clips, corpus = speech.read_corpus(load_corpus().root, "dev"), load_corpus("dev")
    assert [c.text for c in clips] == corpus.frame.text.tolist()
    for i in (0, len(clips) - 1):
        words = corpus.words(i)
        gaps = (words.end_s[:-1].to_numpy() + words.start_s[1:].to_numpy()) / 2
        assert clips[i].word_cuts[1:-1] == pytest.approx(gaps)
        assert clips[i].ends_s[-1] == pytest.approx(corpus.frame.duration_s[i])
        assert set(clips[i].phones) == {speech.NO_PHONE}


def test_a_span_is_a_run_of_whole_words(part: tuple[Path, dict]) -> None:
    (clip,) = speech.read_folder(part[0])
    words, cuts = ["bom", "dia", "ana"], clip.word_cuts
    seen = Counter()
    for seed in range(200):
        start, end, text = speech._span(clip, np.random.default_rng(seed), 1.6)
        first = int(np.argmin(np.abs(cuts - start)))
        last = int(np.argmin(np.abs(cuts - end)))
        assert (cuts[first], min(cuts[last], len(clip.samples) / 16_000)) == (start, end)
        assert text.split() == words[first:last]
        assert end - start <= 1.6 or last == first + 1
        seen[text] += 1
    assert set(seen) == {"bom", "bom dia", "dia", "dia ana"}


def test_an_unknown_cut_gives_the_whole_clip(part: tuple[Path, dict]) -> None:
    folder, row = part
    clip = speech.read_clip(row | {"words": row["words"][:2]}, folder)
    assert clip.word_cuts is None
    whole = len(clip.samples) / 16_000
    assert speech._span(clip, np.random.default_rng(0), 0.5) == (0.0, whole, TEXT)


def test_frame_phones_follow_the_sound(part: tuple[Path, dict]) -> None:
    """The phone of a frame is the one that is spoken at the centre of its receptive field."""
    (clip,) = speech.read_folder(part[0])
    whole = speech.Clip(clip.samples, clip.phones, clip.ends_s, TEXT, None)
    lengths = set()
    for seed in range(20):
        example = speech.make_example(whole, np.random.default_rng(seed), 9.0, 0.0, clip.samples)
        lengths.add(len(example.waveform))
        factor = len(clip.samples) / len(example.waveform)  # the speed that was drawn
        centres_s = (np.arange(len(example.frame_phones)) * 320 + 200) / 16_000 * factor
        clear = np.abs(centres_s[:, None] - clip.ends_s).min(1) > 0.001
        token = np.array([np.sum(clip.ends_s < centre_s) for centre_s in centres_s])
        assert (example.frame_phones == clip.phones[token])[clear].all() and clear.mean() > 0.8
    assert len(lengths) > 5 and len(clip.samples) in lengths


def test_examples_are_normalised(part: tuple[Path, dict]) -> None:
    (clip,) = speech.read_folder(part[0])
    babble = clip.samples.astype(np.float32) / 32768
    for seed in range(20):
        example = speech.make_example(clip, np.random.default_rng(seed), 1.2, 1.0, babble)
        assert len(example.frame_phones) == speech.frames_of(len(example.waveform))
        assert example.waveform.mean() == pytest.approx(0, abs=1e-3)
        assert example.waveform.std() == pytest.approx(1, abs=1e-3)


def test_batches_keep_their_budget(part: tuple[Path, dict]) -> None:
    (clip,) = speech.read_folder(part[0])
    endless = speech.batches(lambda: clip, np.random.default_rng(0), 4.0, lambda: (1.0, 0.5))
    for _ in range(30):
        batch = next(endless)
        longest = max(len(example.waveform) for example in batch)
        assert len(batch) == 1 or len(batch) * longest <= 4.0 * 16_000
        assert all(0 < len(e.labels) < len(e.frame_phones) for e in batch)


def test_joined_clips_keep_sound_text_and_times(part: tuple[Path, dict]) -> None:
    (clip,) = speech.read_folder(part[0])
    both = speech.join(clip, clip, 0.5)
    start = len(clip.samples) / 16_000 + 0.5
    assert np.array_equal(both.samples[-len(clip.samples) :], clip.samples)
    assert len(both.samples) == 2 * len(clip.samples) + 8_000
    assert both.text.split() == clip.text.split() * 2
    assert np.allclose(both.ends_s[-len(clip.ends_s) :], clip.ends_s + start)
    assert np.array_equal(both.phones[-len(clip.phones) :], clip.phones)
    words = len(speech.to_labels(clip.text)[1])
    assert len(both.word_cuts) == 2 * words + 1 and (np.diff(both.word_cuts) > 0).all()
    assert start - 0.5 < both.word_cuts[words] < start
    unknown = replace(clip, word_cuts=None)
    assert speech.join(clip, unknown, 0.5).word_cuts is None


def test_a_share_of_the_examples_is_joined(part: tuple[Path, dict]) -> None:
    (clip,) = speech.read_folder(part[0])
    alone = len(speech.to_labels(clip.text)[0])

    def longest(joined: float) -> int:
        rng = np.random.default_rng(0)
        endless = speech.batches(lambda: clip, rng, 40.0, lambda: (14.0, 0.0), joined)
        return max(len(e.labels) for _ in range(20) for e in next(endless))

    assert longest(0.0) == alone
    assert longest(0.3) > alone


# -- spliced sentences


def a_clip(text: str, word_s: float = 0.3) -> speech.Clip:
    """A word every ``word_s``: the sound of a word is a number of its own, its phone another."""
    words = text.split()
    length = round(word_s * augment.RATE)
    levels = [1000 * (1 + KNOWN_WORDS.index(word)) for word in words]
    ends = np.arange(1, len(words) + 1) * word_s
    return speech.Clip(
        np.repeat(levels, length).astype(np.int16),
        np.array([1 + KNOWN_WORDS.index(word) for word in words]),
        ends,
        text,
        np.concatenate([[0.0], ends]),
    )


def test_spliced_words_keep_their_sound_phones_and_times() -> None:
    """Middles of words hold the sound of that word in equal loudness; the joints are 20 ms."""
    first, second = a_clip("o gato dorme"), a_clip("na casa azul", 0.5)
    both = splice.spliced([(second, 0, 2), (first, 1, 2)], "na casa gato")
    assert len(both.samples) == round(1.3 * augment.RATE)
    assert both.word_cuts == pytest.approx([0, 0.5, 1.0, 1.3])
    assert both.ends_s == pytest.approx([0.5, 1.0, 1.3])
    assert both.phones.tolist() == [4, 5, 2]
    middles = both.samples[(both.word_cuts[:-1] * augment.RATE).astype(int) + 2000].astype(float)
    assert middles[1] / middles[0] == pytest.approx(5 / 4, rel=0.01)  # as they were
    assert middles[2] == pytest.approx(splice.LOUDNESS, rel=0.06)
    joint = both.samples[augment.RATE - 160 : augment.RATE + 160].astype(float)
    assert joint.min() > 0.9 * splice.LOUDNESS and joint.max() < 1.7 * splice.LOUDNESS


def test_a_text_is_said_by_runs_of_words_of_clips() -> None:
    clips = [a_clip("o gato dorme na casa"), a_clip("na casa azul")]
    splicer = splice.Splicer(["o gato azul dorme", "", "na casa verde", "..."])
    rng = np.random.default_rng(0)
    said = [splicer.say(clips, rng) for _ in range(60)]
    texts = Counter(clip.text if clip else None for clip in said)
    assert set(texts) == {"o gato azul dorme", None}  # nobody has said "verde"
    clip = next(clip for clip in said if clip)
    assert clip.phones.tolist() == [1, 2, 6, 3]
    clips.append(a_clip("azul"))  # a folder that is still being filled
    splicer.say(clips, rng)
    assert (2, 0) in splicer.places["azul"]


def test_clips_without_known_cuts_give_no_words() -> None:
    clips = [replace(a_clip("o gato"), word_cuts=None)]
    assert splice.Splicer(["o gato"]).say(clips, np.random.default_rng(0)) is None


# -- rare words


@pytest.mark.skipif(find_spec("wordfreq") is None, reason="wordfreq is of the recipes alone")
def test_lines_of_rare_words_hold_every_word() -> None:
    import rare_words

    words = [f"palavra{'a' * n}" for n in range(1, 60)]
    lines = list(rare_words.lines(words, 200, seed=1))
    said = [word.lower() for line in lines for word in line.rstrip(".").split()]
    assert set(words) <= set(said) <= {*words, *rare_words.SMALL_WORDS}
    assert lines == list(rare_words.lines(words, 200, seed=1))
    assert lines != list(rare_words.lines(words, 200, seed=2))


# -- who may train


@pytest.fixture(scope="module")
def all_voices() -> tuple[str, ...]:
    return tuple(sorted(load_corpus().frame.speaker.unique()))


def test_a_crossed_voice_is_of_training_voices_alone(all_voices: tuple[str, ...]) -> None:
    training = voices.training_voices(all_voices)
    rng = np.random.default_rng(0)
    for _ in range(50):
        timbre, prosody = make_speech.draw_crossed(rng, training).split("/")
        parts = [part.split("*") for part in timbre.split("+")]
        assert {name for name, _ in parts} | {prosody} <= set(training)
        assert sum(float(weight) for _, weight in parts) == pytest.approx(1)


def test_a_crossed_voice_has_the_timbre_of_one_and_the_prosody_of_another(tmp_path: Path) -> None:
    speaker = object.__new__(kokoro.Kokoro)
    speaker.folder, speaker._styles = tmp_path, {}
    (tmp_path / "voices").mkdir()
    for value, name in enumerate(("a", "b", "c"), 1):
        np.full((510, 256), value, np.float32).tofile(tmp_path / "voices" / f"{name}.bin")
    style = speaker.style("a*1.20+b*-0.20/c")
    assert style.shape == (510, 256)
    assert np.allclose(style[:, :128], 0.8) and np.allclose(style[:, 128:], 3)
    assert np.allclose(speaker.style("a*0.50+b*0.50"), 1.5)


def test_voices_kept_free_are_apart(all_voices: tuple[str, ...]) -> None:
    assert not set(voices.DEV) & set(voices.TEST) and set(all_voices) >= KEPT_FREE
    training = voices.training_voices(all_voices)
    assert set(training) == set(all_voices) - KEPT_FREE and make_speech.NATIVE in training


def test_no_voice_of_dev_or_test_is_drawn_even_blended(all_voices: tuple[str, ...]) -> None:
    training = voices.training_voices(all_voices)
    drawn: Counter[str] = Counter()
    native = 0
    for seed in range(4_000):
        voice = make_speech.draw_voice(np.random.default_rng(seed), training)
        names = [piece.partition("*")[0] for piece in voice.split("+")]
        weights = [float(piece.partition("*")[2] or 1) for piece in voice.split("+")]
        assert sum(weights) == pytest.approx(1) and len(set(names)) == len(names) <= 2
        native += names == [make_speech.NATIVE]
        drawn.update(names)
    assert set(drawn) == set(training) and not set(drawn) & KEPT_FREE
    # Its own share, and as often as any other voice where one is drawn alone (45 % of 38).
    assert native / 4_000 == pytest.approx(0.15 + 0.45 / len(training), abs=0.02)


def test_the_command_leaves_them_out_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_speech.py", "--text", "a.txt", "--out", "b"])
    assert set(make_speech._arguments().exclude_voices) == KEPT_FREE


def test_a_plan_says_every_text_once_before_it_repeats_and_is_the_same_twice() -> None:
    texts = [f"frase {word}" for word in "abcdefg"]
    rows = [row for row, _ in zip(make_speech.plan(texts, ("a", "b"), 3), range(14), strict=False)]
    again = [row for row, _ in zip(make_speech.plan(texts, ("a", "b"), 3), range(14), strict=False)]
    assert rows == again and sorted(r["text"] for r in rows[:7]) == texts
    assert len({row["path"] for row in rows}) == 14


def test_texts_that_were_spoken_already_and_digits_are_left_out(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Uma frase boa.\nEm 1999 choveu.\nJá foi dita.\nUma\nUma frase boa.\n", "utf-8")
    (tmp_path / "part0.jsonl").write_text('{"text": "Já foi dita."}\n', "utf-8")
    skip = make_speech.spoken([tmp_path / "part0.jsonl"])
    assert make_speech.sentences(text, skip) == ["Uma frase boa."]


# -- sound and story


def test_sound_is_resampled_as_long_and_never_clips() -> None:
    loud = (1.5 * np.sin(2 * np.pi * 500 * np.arange(24_000) / 24_000)).astype(np.float32)
    out = opus.to_16k(loud)
    assert len(out) == 16_000 and np.abs(out).max() == pytest.approx(opus.PEAK, abs=1e-3)
    quiet = opus.to_16k(0.1 * loud)
    assert np.abs(quiet).max() == pytest.approx(0.15, abs=2e-3)  # left as it was


def test_opus_shifts_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = np.convolve(rng.standard_normal(16_000), np.ones(8) / 8, "same").astype(np.float32)
    noise *= 0.2 * (np.sin(2 * np.pi * 3 * np.arange(16_000) / 16_000) > 0)
    opus.write(tmp_path / "a.ogg", noise)
    back, rate = soundfile.read(tmp_path / "a.ogg", dtype="float32")
    assert (len(back), rate) == (16_000, 16_000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ogg"]
    size = 32_768
    lags = np.fft.irfft(np.fft.rfft(back, size) * np.conj(np.fft.rfft(noise, size)), size)
    assert int(np.argmax(lags)) in (0, 1, size - 1)


def test_a_story_is_put_together_with_its_times() -> None:
    def said(seconds: float) -> kokoro.Speech:
        wave = np.zeros(round((seconds + 0.6) * 24_000), np.float32)
        wave[7_200 : 7_200 + round(seconds * 24_000)] = 0.5
        word = ("Oi", 0.3, 0.3 + seconds)
        return kokoro.Speech(wave, (word,), (word,), "o", (1,))

    rows = [
        {"paragraph": paragraph, "voice": voice, "text": "Oi"}
        for paragraph, voice in (("1", "narrator"), ("1", "character"), ("2", "narrator"))
    ]
    sound, times = story.assemble(rows, [said(1.0), said(0.5), said(0.8)])
    edges = np.array([[row["start_s"], row["end_s"]] for row in times["sentences"]])
    assert edges[0, 0] == pytest.approx(story.LEAD_IN_S, abs=1e-3)
    assert np.diff(edges)[:, 0] == pytest.approx([1.0, 0.5, 0.8], abs=1e-3)
    pauses = edges[1:, 0] - edges[:-1, 1]
    assert 0.299 <= pauses[0] <= 0.701 and 0.999 <= pauses[1] <= 1.501
    loud = np.abs(sound) > 0.25
    for start_s, end_s in edges:
        inside = loud[round(start_s * 16_000) + 20 : round(end_s * 16_000) - 20]
        assert inside.all()
    assert loud.sum() / 16_000 == pytest.approx(2.3, abs=0.01)


# -- phonemes (needs the program espeak-ng)

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="needs espeak-ng: apt install espeak-ng"
)


@needs_espeak
def test_every_word_gets_its_phonemes() -> None:
    for text in ("Guarda-chuva, fazê-lo… d'água!", "O que é que há?", "De onde você é?"):
        spoken = phonemes.phonemize(text)
        assert [word.text.lower() for word in spoken] == normalize_text(text).split()
        assert all(word.symbols.strip() for word in spoken)
        assert not set("".join(word.symbols for word in spoken)) & set("^()_-0123456789")


@needs_espeak
def test_brazil_and_portugal_speak_differently() -> None:
    br, pt = (phonemes.phonemize("De noite, o dente dói", variety) for variety in ("br", "pt"))
    assert [word.text for word in br] == [word.text for word in pt]
    assert "ʧ" in br[1].symbols and "ʧ" not in pt[1].symbols  # noite


@pytest.mark.parametrize(
    "name, count",
    [
        ("everyday_br.txt", 4_000),
        ("everyday_pt.txt", 400),
        ("pharmacy_br.txt", 119),
        ("vocabulary_br.txt.xz", 12_000),
    ],
)
def test_sentences_of_lists_can_be_used_and_are_not_those_to_be_measured_on(
    name: str, count: int
) -> None:
    import sentences

    lines = sentences.lines_of(DATA / "recipes" / name)
    assert len(lines) > count and len(set(lines)) == len(lines)
    assert not [line for line in lines if sentences.trouble(line)]
    kept_free = [t for split in ("dev", "test") for t in load_corpus(split).frame.text]
    assert not sentences.near_pairs(kept_free, lines).keys() - sentences.near_pairs(kept_free)
