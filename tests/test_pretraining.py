"""Pre-training: languages, masks, negatives, quantizer, the loss against HF's, and resuming."""

from __future__ import annotations

import doctest
import importlib
import json
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile
import torch
import torch.distributed as dist
import torch.nn.functional as F
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining

from ptlab import load_corpus, load_model, normalize, normalize_text, plot_transfer
from ptlab.data import data_dir
from ptlab.errors import PtlabError

sys.path.insert(0, str(data_dir() / "recipes"))
import clusters
import front_end
import languages
import make_babel
import make_espeak
import pretrain_mini
import ship_xlsr
import speech
import train_mini
import transfer
import unlabelled
from fast_wav2vec2 import FastForward

CODES = 8
TINY = {  # the shape of XLSR-53, made tiny, without dropout
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (8, 12, 12, 16, 16, 16, 16),
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
}


@pytest.mark.parametrize("name", ["languages", "pretrain_mini", "train_mini", "transfer"])
def test_examples_in_the_recipes(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0 and found.attempted > 0


# -- languages


def test_the_languages_are_53_and_each_is_its_own() -> None:
    rows = languages.LANGUAGES.values()
    assert len(rows) == 53 and sum(row.xlsr for row in rows) == 35
    for column in ("name", "voice", "declaration"):
        assert len({getattr(row, column) for row in rows}) == 53


def test_the_sampling_rule_is_xlsrs() -> None:
    """p_l = (n_l / N)^alpha, made to sum to 1 (Conneau et al. 2020, section 3)."""
    amounts = {"a": 16.0, "b": 4.0, "c": 1.0}
    for alpha in (0.0, 0.3, 0.5, 1.0):
        shares = languages.language_shares(amounts, alpha)
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["a"] / shares["c"] == pytest.approx(16**alpha)
        assert shares["b"] / shares["c"] == pytest.approx(4**alpha)


def test_no_share_for_a_language_without_speech() -> None:
    assert languages.language_shares({"a": 2.0, "b": 0.0}, 0.0) == {"a": 1.0}


def test_pieces_are_whole_sentences_or_clauses_of_a_length() -> None:
    long = ", ".join(["muitas palavras que ninguém escreveu"] * 12)
    text = f"Curta. {long}. Uma frase que tem o tamanho certo! 这是一个完整的句子，有很多字。"
    found = languages.pieces(text)
    assert "Uma frase que tem o tamanho certo!" in found and "Curta." not in found
    assert all(20 <= languages.letters(piece) <= 150 for piece in found)
    assert "".join(found).count("muitas") == 12


def test_markup_gives_its_paragraphs_only() -> None:
    page = (
        "<page><info><desc>Fora</desc></info><p>Um <em>bom</em> dia &amp; tal</p><!-- <p>x</p> -->"
    )
    assert languages.paragraphs(page + "<code><p>cd /</p></code><li>Dois</li>") == [
        "Um bom dia & tal",
        "Dois",
    ]


@pytest.fixture
def text_folder(tmp_path: Path) -> Path:
    """Declarations and help as `fetch` leaves them, of English and Portuguese."""
    for file, body in (
        ("package/declaration/eng.html", "<p>All people are born free and equal.</p>"),
        ("package/declaration/por_BR.html", "<p>Todas as pessoas nascem livres.</p>"),
        ("usr/share/help/C/gnome-help/a.page", "<p>Press the button to close it all.</p>"),
        (
            "usr/share/help/pt_BR/gnome-help/a.page",
            "<p>Press the button to close it all.</p><p>Aperte o botão que fecha tudo.</p>"
            "<p>Esta frase é da prova, e não se diz.</p>",
        ),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(body, "utf-8")
    (tmp_path / "complete").touch()
    return tmp_path


def test_untranslated_and_forbidden_sentences_are_left_out(text_folder: Path) -> None:
    kept_free = ["Esta frase é da prova, e não se diz."]
    assert languages.texts("pt", languages.fetch(text_folder), kept_free) == [
        ("Aperte o botão que fecha tudo.", "gnome-user-docs"),
        ("Todas as pessoas nascem livres.", "udhr"),
    ]
    assert len(languages.texts("en", text_folder)) == 2


SAID = {
    "pt": [(f"{'uma frase longa ' * 4}{c}", "udhr") for c in "abcdefghi"],
    "cy": [("brawddeg fer", "udhr"), ("brawddeg fach", "udhr")],
}


def test_a_plan_draws_languages_by_the_rule_and_is_the_same_twice() -> None:
    rows = list(islice(make_babel.plan(SAID, ("", "f1"), 3, 0.5), 3_000))
    assert rows[:50] == list(islice(make_babel.plan(SAID, ("", "f1"), 3, 0.5), 50))
    amounts = {c: sum(languages.letters(s) for s, _ in said) for c, said in SAID.items()}
    expected = languages.language_shares(amounts, 0.5)["pt"]
    assert np.mean([r["language"] == "pt" for r in rows]) == pytest.approx(expected, abs=0.03)
    texts = [row["text"] for row in rows if row["language"] == "pt"]
    assert sorted(texts[:9]) == sorted(s for s, _ in SAID["pt"])  # all before any again
    assert len({row["path"] for row in rows}) == 3_000


def tone(row: dict) -> np.ndarray:
    """Half a second a word."""
    return 0.3 * np.sin(np.arange(8_000 * len(row["text"].split())) / 9).astype(np.float32)


def test_a_second_call_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    def call(hours: float, folder: str) -> Counter:
        return make_babel.make(make_babel.plan(SAID, ("",), 0), tone, tmp_path / folder, hours)

    call(0.002, "twice")
    first = (tmp_path / "twice" / "part0.jsonl").read_text("utf-8")
    assert call(0.006, "twice") == call(0.006, "once")
    both = [(tmp_path / name / "part0.jsonl").read_text("utf-8") for name in ("twice", "once")]
    assert both[0] == both[1] and both[0].startswith(first) and len(first) > 100
    seconds = sum(json.loads(line)["duration_s"] for line in both[0].splitlines())
    assert 0.006 * 3600 <= seconds < 0.006 * 3600 + 15


def test_silence_and_sound_that_is_too_long_are_left_out(tmp_path: Path) -> None:
    bad = {"a": np.zeros(32_000, np.float32), "b": np.ones(16 * 16_000, np.float32)}
    bad["c"] = np.ones(8_000, np.float32)
    rows = [{"path": f"{n}.ogg", "language": "pt", "text": n} for n in (*bad, "d")]
    good = np.sin(np.arange(32_000) / 9).astype(np.float32)
    made = make_babel.make(iter(rows), lambda r: bad.get(r["text"], good), tmp_path, 1.0)
    assert made == {"pt": 2.0}
    assert [p.name for p in tmp_path.glob("*.ogg")] == ["d.ogg"]


def test_no_variant_kept_for_measuring_is_heard() -> None:
    assert not set(make_espeak.HELD_OUT) & set(make_babel.VARIANTS)


# -- sounds


@pytest.fixture
def babel(tmp_path: Path) -> Path:
    """Noise of two languages, three clips to one of the one."""
    folder, rng = tmp_path / "babel", np.random.default_rng(0)
    folder.mkdir()
    with (folder / "part0.jsonl").open("w", encoding="utf-8") as out:
        for number in range(8):
            language = "cy" if number % 4 == 0 else "pt"
            path = f"{number}.wav"
            wave = np.convolve(rng.standard_normal(40_000 + 1_000 * number), np.ones(5), "same")
            soundfile.write(folder / path, 0.1 * wave, 16_000)
            out.write(json.dumps({"path": path, "language": language}) + "\n")
    return folder


def test_sounds_are_those_of_the_files(babel: Path) -> None:
    found = unlabelled.read_sounds([babel])
    for number in range(8):
        samples, _ = soundfile.read(babel / f"{number}.wav", dtype="int16")
        assert np.array_equal(found.clip(number), samples)
    assert found.seconds == pytest.approx({"cy": 84_000 / 16_000, "pt": 264_000 / 16_000})
    only = unlabelled.read_sounds([babel], ["cy"])
    assert np.array_equal(only.clip(1), found.clip(4)) and set(only.languages) == {"cy"}
    with pytest.raises(SystemExit, match="No clip in"):
        unlabelled.read_sounds([babel], ["ja"])


def test_a_pack_that_was_cut_short_is_mended_and_grows(babel: Path) -> None:
    lines = (babel / "part0.jsonl").read_text("utf-8").splitlines(keepends=True)
    (babel / "part0.jsonl").write_text("".join(lines[:3]) + lines[3][:9], "utf-8")
    assert len(unlabelled.pack(babel)) == 3
    with (babel / "pack.i16").open("ab") as out:
        out.write(b"killed here")
    (babel / "part0.jsonl").write_text("".join(lines), "utf-8")
    found = unlabelled.read_sounds([babel])
    samples, _ = soundfile.read(babel / "7.wav", dtype="int16")
    assert len(found.places) == 8 and np.array_equal(found.clip(7), samples)
    written = (babel / "pack.json").stat().st_mtime_ns
    assert len(unlabelled.pack(babel)) == 8  # a run beside this one reads the file
    assert (babel / "pack.json").stat().st_mtime_ns == written


def test_languages_are_drawn_by_the_rule(babel: Path) -> None:
    found = unlabelled.read_sounds([babel])
    cy_lengths = {len(found.clip(i)) for i in np.flatnonzero(found.languages == "cy")}
    for alpha in (1.0, 0.5):
        drawer, rng = unlabelled.Drawer(found, alpha), np.random.default_rng(1)
        heard = np.mean([len(drawer.draw(rng)) in cy_lengths for _ in range(3_000)])
        expected = languages.language_shares(found.seconds, alpha)["cy"]
        assert heard == pytest.approx(expected, abs=0.03)


# -- masks and negatives


def test_half_of_the_frames_are_hidden_in_spans() -> None:
    """Starts with a share of 0.065, spans of 10: 1 - (1 - 0.065)^10 = 49 % of the frames."""
    rng, lengths = np.random.default_rng(0), torch.full((200,), 600)
    mask = pretrain_mini.span_mask(lengths, 600, rng)
    hidden = 1 - (1 - 0.065) ** 10
    assert float(mask[:, 10:-10].float().mean()) == pytest.approx(hidden, abs=0.015)
    edges = torch.diff(F.pad(mask.int(), (1, 1)), dim=1)
    starts, ends = ((edges == sign).nonzero() for sign in (1, -1))
    assert int((ends - starts)[:, 1].min()) == 10
    counts = mask.sum(1)
    assert counts.min() != counts.max()  # rounded at random, overlapping at random


@pytest.mark.parametrize("length", [12, 19, 20, 30, 50])
def test_short_clips_keep_something_to_hear_and_to_guess(length: int) -> None:
    for seed in range(50):
        mask = pretrain_mini.span_mask(torch.tensor([length]), 60, np.random.default_rng(seed))[0]
        assert not mask[length:].any() and 5 < int(mask.sum()) <= max(20, 0.9 * length)
        assert int(mask.sum()) < length or length == 20


def test_negatives_are_other_hidden_frames_of_the_same_clip() -> None:
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[0, 2:7] = mask[1, 1:4] = True
    found = pretrain_mini.draw_negatives(mask, 4_000, np.random.default_rng(0))
    assert found.shape == (8, 4_000)
    for place, row in enumerate(found):
        clip = range(5) if place < 5 else range(5, 8)
        counts = torch.bincount(row, minlength=8) / 4_000
        others = [i for i in clip if i != place]
        assert set(row.tolist()) == set(others)
        assert counts[others].tolist() == pytest.approx([1 / len(others)] * len(others), abs=0.04)


# -- quantizer and loss, against HF


@pytest.fixture
def network() -> Wav2Vec2ForPreTraining:
    return tiny()


def tiny(codes: int = CODES) -> Wav2Vec2ForPreTraining:
    """A tiny XLSR-53 with gains and biases that are not their starting values."""
    config = Wav2Vec2Config(
        **TINY,
        num_codevectors_per_group=codes,
        codevector_dim=24,
        proj_codevector_dim=24,
        num_negatives=pretrain_mini.NEGATIVES,
        contrastive_logits_temperature=pretrain_mini.KAPPA,
        diversity_loss_weight=pretrain_mini.DIVERSITY,
        feat_quantizer_dropout=0.0,
    )
    torch.manual_seed(0)
    model = Wav2Vec2ForPreTraining(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "quantizer" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch_of_two() -> tuple[torch.Tensor, ...]:
    """Waves, samples, frames, mask and negatives of two clips, one of them padded."""
    samples = torch.tensor([16_000, 12_345])
    waves = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(1))
    waves[torch.arange(16_000) >= samples[:, None]] = 0
    rng, frames = np.random.default_rng(0), (samples - 400) // 320 + 1
    mask = pretrain_mini.span_mask(frames, 49, rng)
    return waves, samples, frames, mask, pretrain_mini.draw_negatives(mask, 100, rng)


def as_hf(mask: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """Places among the hidden frames -> HF's places among all frames of the batch."""
    places = torch.zeros(*mask.shape, negatives.shape[1], dtype=torch.long)
    places[mask] = mask.flatten().nonzero()[:, 0][negatives]
    return places


def without_noise(scores, tau=1.0, hard=False):
    """A Gumbel softmax that draws no noise, so that two codes of it can be compared."""
    soft = (scores / tau).softmax(-1)
    best = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
    return best - soft.detach() + soft


@pytest.mark.parametrize("training", [False, True])
def test_losses_and_gradients_are_hfs(network, monkeypatch, training: bool) -> None:
    monkeypatch.setattr(F, "gumbel_softmax", without_noise)
    network.train(training)
    network.config.apply_spec_augment = True
    network.set_gumbel_temperature(1.3)
    waves, samples, frames, mask, negatives = batch_of_two()
    valid = (torch.arange(waves.shape[1]) < samples[:, None]).long()
    theirs = network(
        waves,
        attention_mask=valid,
        mask_time_indices=mask,
        sampled_negative_indices=as_hf(mask, negatives),
    )
    theirs.loss.backward()
    expected = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    heard, last = pretrain_mini.hear(FastForward(network, 0), waves, frames, mask)
    ours = pretrain_mini.losses(network, heard[mask], last[mask], negatives)
    assert ours.perplexity.min() > 1.1  # more than one code a group is used
    torch.testing.assert_close(ours.contrastive, theirs.contrastive_loss, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(ours.diversity, theirs.diversity_loss, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(ours.perplexity.sum(), theirs.codevector_perplexity)
    (ours.contrastive + pretrain_mini.DIVERSITY * ours.diversity).backward()
    found = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys() and len(found) > 50
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), 1.0)
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=2e-4 * scale)


def test_a_negative_of_the_same_codes_is_none() -> None:
    predicted = targets = torch.tensor([[1.0, 0], [0, 1], [1, 0]])
    codes, negatives = (
        torch.tensor([[0, 1], [2, 3], [0, 1]]),
        torch.tensor([[1, 2], [0, 2], [0, 1]]),
    )
    loss, right = pretrain_mini.contrast(predicted, targets, codes, negatives)
    # Frames 0 and 2 have one true negative at cosine 0; frame 1 has two.
    first, second = (np.log(1 + n * np.exp(-1 / pretrain_mini.KAPPA)) for n in (1, 2))
    assert float(loss) == pytest.approx(2 * first + second, rel=1e-3) and right.all()


def test_perplexity_counts_codes_that_are_used_alike() -> None:
    quantizer = tiny().quantizer.eval()
    with torch.no_grad():
        quantizer.weight_proj.weight.zero_()
        for code in range(CODES):
            quantizer.weight_proj.weight[code, code] = 1  # group 0 follows the input
        quantizer.weight_proj.bias[CODES + 3] = 5  # group 1 always takes code 3
        vectors, codes, perplexity = pretrain_mini.quantize(quantizer, torch.eye(16)[:6])
    assert codes.tolist() == [[i, 3] for i in range(6)]
    assert perplexity.tolist() == pytest.approx([6, 1])
    book = quantizer.codevectors.view(2, CODES, -1)
    assert torch.equal(vectors[4], torch.cat([book[0, 4], book[1, 3]]))
    assert pretrain_mini.usage(codes, CODES) == [6, 1]


# -- the second target


def test_cepstra_are_librosas_one_a_frame() -> None:
    import librosa

    wave = torch.randn(8_000, generator=torch.Generator().manual_seed(0))
    ours = clusters.mfcc(wave[None], torch.tensor([24]))[0]
    assert ours.shape == (speech.frames_of(8_000), 26) == (24, 26)
    # librosa centres a window of 400 in its 512 samples: its frame 56 samples later is ours.
    shifted = torch.from_numpy(np.pad(wave.numpy(), (56, 56)))
    power = librosa.feature.melspectrogram(
        y=shifted.numpy(), sr=16_000, n_fft=512, win_length=400, hop_length=320, center=False,
        n_mels=40, fmin=60, fmax=7_600,
    )  # fmt: skip
    theirs = librosa.feature.mfcc(S=np.log(power + clusters.FLOOR), n_mfcc=13).T[:24]
    expected = (theirs - theirs.mean(0)) / theirs.std(0)
    assert np.abs(ours[:, :13].numpy() - expected).max() < 0.05


def test_cepstra_do_not_hear_the_padding_and_are_normal() -> None:
    wave = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0))
    alone = clusters.mfcc(wave, torch.tensor([24]))
    padded = clusters.mfcc(F.pad(wave, (0, 4_000)), torch.tensor([24]))
    assert (padded[0, 24:] == 0).all()
    torch.testing.assert_close(padded[0, :23, :13], alone[0, :23, :13], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(alone[0].mean(0), torch.zeros(26), rtol=0, atol=1e-4)
    torch.testing.assert_close(alone[0].std(0, correction=0), torch.ones(26), rtol=0, atol=0.02)


def test_clusters_are_found_and_told() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 26)) * 10
    points = np.concatenate([c + rng.normal(size=(50, 26)) for c in centres]).astype("f4")
    found = torch.from_numpy(clusters.fit(points, 5, 0))
    numbers = clusters.nearest(torch.from_numpy(points), found).view(5, 50)
    assert (numbers == numbers[:, :1]).all() and len(numbers.unique()) == 5


def test_clusters_are_asked_for_at_hidden_and_at_visible_frames() -> None:
    """A head that is sure of cluster 0: what is another costs 10 + log(1 + e^-10), what is not, the
    logarithm alone."""
    head = torch.nn.Linear(4, 2)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([10.0, 0.0]))
    head.requires_grad_(False)
    truth = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0]])
    mask = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]], dtype=torch.bool)
    visible = torch.tensor([[1, 0, 0, 1], [1, 0, 0, 0]], dtype=torch.bool)  # the rest is padding
    found = pretrain_mini.cluster_losses(head, torch.zeros(2, 4, 4), truth, mask, visible)
    little = np.log1p(np.exp(-10))
    assert float(found["cluster"]) == pytest.approx(20 + 3 * little, rel=1e-5)
    assert int(found["known"]) == 1
    assert float(found["visible"]) == pytest.approx(10 / 3 + little, rel=1e-5)


# -- the front end


@pytest.fixture
def alone(tmp_path: Path):
    """A group of one process, as a run is."""
    store = dist.FileStore(str(tmp_path / "meeting"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def tones(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight clips of one tone each, 9 frames long, the same noise under all."""
    hz = rng.uniform(200, 6_000, (8, 1))
    waves = np.sin(2 * np.pi * hz * np.arange(3_200) / 16_000) + 0.1 * rng.standard_normal(3_200)
    return torch.from_numpy(waves.astype(np.float32)), torch.full((8,), 9)


def test_convolutions_learn_the_energies_of_mel_bands(network, alone, monkeypatch) -> None:
    monkeypatch.setattr(front_end, "STEPS", 300)
    rng, said = np.random.default_rng(0), []
    before = {n: p.clone() for n, p in network.named_parameters()}
    front_end.fit(network, (tones(rng) for _ in range(300)), said.append)
    told = [float(line.split()[4]) for line in said]  # per cent of the variance
    assert told[0] < told[2] and told[2] > 15, told
    changed = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n in before if n.startswith("wav2vec2.feature_extractor")}


def test_the_position_layer_looks_near_by_at_the_same_norm(network) -> None:
    conv = network.wav2vec2.encoder.pos_conv_embed.conv
    before = conv.weight.detach().clone()
    front_end.look_nearby(network, 2.0)
    after = conv.weight.detach()
    assert float(after.norm()) == pytest.approx(float(before.norm()), rel=1e-5)
    shares = (after / before).mean((0, 1))  # 16 taps, the middle is tap 8
    torch.testing.assert_close(shares / shares[8], torch.exp(-(torch.arange(16) - 8).abs() / 2))


@pytest.mark.parametrize("shape", [(6, 9), (6, 3, 5), (20, 2, 4)])
def test_muon_makes_matrices_and_kernels_orthogonal(shape: tuple[int, ...]) -> None:
    """An update is near U V^T of the gradient U S V^T, times 0.2 sqrt(longer side)."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape)
    train_mini.Muon([weight]).step(1.0)
    update = -weight.detach().flatten(1)
    strength = torch.linalg.svdvals(update) / (0.2 * max(update.shape) ** 0.5)
    assert float(strength.min()) > 0.6 and float(strength.max()) < 1.3


def test_noise_is_heard_and_the_clean_sound_is_the_target(babel: Path) -> None:
    drawer = unlabelled.Drawer(unlabelled.read_sounds([babel]))
    rng = np.random.default_rng(0)
    waves, clean, lengths = pretrain_mini.make_batch(drawer, rng, 30, 0.0)
    assert torch.equal(waves, clean) and waves.shape[0] == len(lengths) > 2
    waves, clean, lengths = pretrain_mini.make_batch(drawer, rng, 30, 1.0)
    assert not torch.equal(waves, clean)
    for heard, pure, frames in zip(waves, clean, lengths.tolist(), strict=True):
        part = slice(0, 320 * frames)  # of the same place, loudness and speed
        assert float(torch.corrcoef(torch.stack([heard[part], pure[part]]))[0, 1]) > 0.3


# -- the run


def test_schedules_start_and_end_where_they_should() -> None:
    assert pretrain_mini.temperature(0) == 2 and pretrain_mini.temperature(0.7) == 0.5
    assert pretrain_mini.temperature(0.35) == pytest.approx(1.0)  # the geometric middle
    assert pretrain_mini.temperature(1) == 0.5
    rates = [pretrain_mini.rate(step, 1_000) for step in range(1_000)]
    assert rates[0] == pytest.approx(1 / 50) and max(rates) == rates[50] == rates[699] == 1
    assert rates[-1] < 0.01 and np.all(np.diff(rates[:50]) > 0) and np.all(np.diff(rates[700:]) < 0)


def pretrain(folder: Path, babel: Path, *more: str) -> list[dict]:
    """Run the recipe in this process with a tiny network; the lines of its log."""
    short = ["--processes", "1", "--steps", "6", "--log-every", "2", "--batch-s", "5"]
    short += ["--cluster-weight", "1", "--clusters", "6"]
    pretrain_mini.main([str(babel), "--out", str(folder), *short, "--codes", str(CODES), *more])
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_mini, "new_encoder", tiny)
    monkeypatch.setattr(pretrain_mini, "keep_memory", lambda: None)
    monkeypatch.setattr(pretrain_mini, "CLUSTER_S", 10)
    monkeypatch.setattr(front_end, "STEPS", 2)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_run_that_was_stopped_is_the_same_as_one_that_was_not(
    tmp_path: Path, babel: Path, small: None
) -> None:
    straight = pretrain(tmp_path / "straight", babel)
    for _ in range(8):  # a call of no minutes makes one step
        pretrain(tmp_path / "halting", babel, "--minutes", "0")
    states = [
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        for name in ("straight", "halting")
    ]
    assert [s["step"] for s in states] == [6, 6] and [r["step"] for r in straight] == [2, 4, 6]
    for name, value in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], value, rtol=1e-4, atol=1e-5)
    moved = states[0]["model"]["quantizer.codevectors"] - tiny().quantizer.codevectors.detach()
    assert float(moved.abs().max()) > 1e-3
    kept = torch.load(tmp_path / "straight" / "front_end.pt", weights_only=True)
    assert len(kept) == 28 and all(
        torch.equal(value, states[0]["model"][f"wav2vec2.feature_extractor.{name}"])
        for name, value in kept.items()
    )
    saved = Wav2Vec2ForPreTraining.from_pretrained(tmp_path / "straight" / "model")
    assert torch.equal(saved.project_q.weight, states[0]["model"]["project_q.weight"])


def test_a_collapse_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def outcome(codes: torch.Tensor) -> pretrain_mini.Outcome:
        zero = torch.tensor(0.0)
        right, soft = torch.ones(64) > 0, torch.ones(2)
        return pretrain_mini.Outcome(zero, zero, right, codes, soft, zero, zero, zero)

    journal = pretrain_mini.Journal(tmp_path / "log.jsonl", CODES)
    journal.add(outcome(torch.arange(64)[:, None].repeat(1, 2) % CODES))
    assert journal.write(50, 100)["perplexity"] == [CODES, CODES]
    assert "WARNING" not in capsys.readouterr().out
    journal.add(outcome(torch.tensor([[i % CODES, 0] for i in range(64)])))
    assert journal.write(100, 100)["perplexity"] == [CODES, 1]
    assert "WARNING: codebook collapse" in capsys.readouterr().out


# -- the transfer experiment


@pytest.fixture
def tiny_corpora(monkeypatch: pytest.MonkeyPatch) -> dict:
    """A dozen clips to train on and a few to test on, and a tiny network to do it with."""
    whole = {split: load_corpus(split) for split in ("train", "test")}
    some = {
        s: replace(c, frame=c.frame.iloc[::60].reset_index(drop=True)) for s, c in whole.items()
    }

    def new_model() -> Wav2Vec2ForCTC:
        return Wav2Vec2ForCTC(Wav2Vec2Config(**TINY, vocab_size=46, pad_token_id=0))

    monkeypatch.setattr(transfer, "load_corpus", some.__getitem__)
    monkeypatch.setattr(transfer, "new_model", new_model)
    monkeypatch.setattr(transfer, "keep_memory", lambda: None)
    threads = torch.get_num_threads()
    yield some
    torch.set_num_threads(threads)


def test_subsets_are_of_their_minutes_and_nested() -> None:
    durations = np.random.default_rng(0).uniform(1, 8, 600).tolist()
    for seed in range(3):
        chosen = [transfer.subset(durations, minutes, seed) for minutes in (1, 3, 10, 30)]
        for minutes, clips in zip((1, 3, 10, 30), chosen, strict=True):
            assert sum(durations[i] for i in clips) == pytest.approx(60 * minutes, abs=4)
            assert len(set(clips)) == len(clips)
        assert all(set(a) < set(b) for a, b in pairwise(chosen))
    assert transfer.subset(durations, 1, 0) != transfer.subset(durations, 1, 1)


def test_a_start_takes_the_encoder_and_draws_the_head(tiny_corpora, network, tmp_path) -> None:
    network.save_pretrained(tmp_path)
    first, again, other = (transfer.start_model(tmp_path, seed) for seed in (0, 0, 1))
    for name, value in network.wav2vec2.state_dict().items():
        assert torch.equal(first.wav2vec2.state_dict()[name], value), name
    assert torch.equal(first.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    heard = transfer.start_model(tmp_path, 0, convolutions_only=True).wav2vec2.state_dict()
    random = transfer.start_model(None, 0).wav2vec2.state_dict()
    for name, value in network.wav2vec2.state_dict().items():
        source = value if name.startswith("feature_extractor") else random[name]
        assert torch.equal(heard[name], source), name


def test_features_of_frozen_convolutions_give_the_loss_of_the_waveform(tiny_corpora) -> None:
    model = transfer.start_model(None, 0)
    forward, found = FastForward(model, 0), []
    for kept in (forward, None):
        clips = transfer.Clips(tiny_corpora["train"], [0, 1, 2, 3, 4], kept)
        batch = next(clips.batches(np.random.default_rng(0), 2_000))
        assert len(batch[1]) > 1 and len(batch[1]) * int(batch[1].max()) <= 2_000
        loss = transfer.ctc_loss(forward, *batch, clips.of_features, np.random.default_rng(0))
        found.append(loss.item())
    assert found[0] == pytest.approx(found[1], rel=0.01)


def test_an_epoch_holds_each_clip_once(tiny_corpora) -> None:
    clips = transfer.Clips(tiny_corpora["train"], list(range(12)), None)
    heard: Counter[str] = Counter()
    for _, _, labels in clips.batches(np.random.default_rng(0), 500):
        heard.update(map(str, labels))
        if heard.total() == 24:
            break
    assert set(heard.values()) == {2} and len(heard) == 12


@pytest.mark.parametrize("frozen", [True, False])
def test_fine_tuning_learns_and_trains_what_it_should(tiny_corpora, frozen: bool) -> None:
    model = transfer.start_model(None, 0)
    before = {n: p.clone() for n, p in model.named_parameters()}
    forward = FastForward(model, 0) if frozen else None
    clips = transfer.Clips(tiny_corpora["train"], [0, 1, 2], forward)
    args = Namespace(steps=20, batch_s=10, muon_lr=1e-2, adam_lr=3e-3)
    losses = transfer.finetune(model, clips, args, 0)
    assert losses[-1] < 0.6 * losses[0]
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    convolutions = {n for n in before if "feature_extractor" in n}
    assert (moved & convolutions == set()) is frozen
    assert before.keys() - moved - convolutions == set()


def test_the_experiment_is_resumed_and_summarised(tiny_corpora, network, tmp_path) -> None:
    network.save_pretrained(tmp_path / "model")
    results = tmp_path / "results" / "transfer.json"
    options = ["--multilingual", str(tmp_path / "model"), "--out", str(tmp_path / "runs")]
    options += ["--results", str(results), "--starts", "53 languages", "random"]
    options += ["--minutes", "1", "--seeds", "0", "1", "--steps", "2", "--batch-s", "5"]
    transfer.main(options)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    found = json.loads(results.read_text("utf-8"))
    assert len(files) == len(found["runs"]) == 4 and len(found["cells"]) == 2
    removed = tmp_path / "runs" / "random_1_1.json"
    removed.unlink()
    transfer.main(options)
    again = {path for path, time in files.items() if path.stat().st_mtime_ns != time}
    assert again == {removed}
    with pytest.raises(SystemExit, match="was made with 2 steps"):
        transfer.main([*options, "--steps", "3"])
    with pytest.raises(SystemExit, match="Where is the model of 'Portuguese'"):
        transfer.main([*options, "--starts", "Portuguese"])


def test_the_summary_counts_as_the_metrics_do(tiny_corpora, tmp_path) -> None:
    """All right in one start, all empty in the other: 0 and 100 %, and 100 apart."""
    test = tiny_corpora["test"]
    right = [normalize_text(text) for text in test.frame.text]
    for seed in (0, 1):
        for start, texts in (("53 languages", right), ("random", [""] * len(right))):
            run = {"start": start, "minutes": 10, "seed": seed, "hypotheses": texts}
            transfer.write(tmp_path / f"{start}_10_{seed}.json", run)
    found = transfer.summarise(tmp_path, test)
    assert [(c["start"], c["wer"], c["cer"]) for c in found["cells"]] == [
        ("53 languages", [0, 0, 0], [0, 0, 0]),
        ("random", [100, 100, 100], [100, 100, 100]),
    ]
    assert found["cells"][0]["seeds"] == [0, 1] and "hypotheses" not in found["runs"][0]
    assert [(d["start"], d["wer"]) for d in found["differences"]] == [("53 languages", [-100] * 3)]


def test_the_figure_shows_every_cell(tmp_path: Path) -> None:
    cells = [
        {"start": start, "minutes": minutes, "wer": [w, w - 5, w + 5], "cer": [1, 0, 2]}
        for start, w in (("53 languages", 50), ("random", 90))
        for minutes in (10, 1)
    ]
    ax = plot_transfer({"cells": cells})
    lines = [container.lines[0] for container in ax.containers]
    assert [line.get_ydata().tolist() for line in lines] == [[50, 50], [90, 90]]
    assert all(np.diff(line.get_xdata()) > 0 for line in lines)
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 2
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "10"]
    plt.close(ax.figure)
    for bad, message in (({"cells": []}, "0 starts"), ({}, "0 starts")):
        with pytest.raises(PtlabError, match=message):
            plot_transfer(bad)
    with pytest.raises(PtlabError, match="Metric 'per'"):
        plot_transfer({"cells": cells}, "per")


# -- shipping


def test_the_shipped_folder_is_the_encoder(network, tmp_path, babel, monkeypatch) -> None:
    run = tmp_path / "run"
    network.save_pretrained(run / "model")
    line = {"step": 9_000, "accuracy": 0.456, "contrastive": 2.0, "perplexity": [40.1, 50.2]}
    (run / "log.jsonl").write_text('{"step": 1}\n' + json.dumps(line) + "\n", "utf-8")
    rows = [json.loads(row) for row in (babel / "part0.jsonl").read_text("utf-8").splitlines()]
    rows = [row | {"voice": "f1", "duration_s": 90} for row in rows]
    (babel / "part0.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    cell = {"start": "random", "minutes": 10, "wer": [99.5, 98, 100], "cer": [80, 70, 90]}
    transfer.write(tmp_path / "transfer.json", {"cells": [cell]})
    out = tmp_path / "mini-xlsr-53"
    options = [str(run), "--speech", str(babel), "--out", str(out)]
    ship_xlsr.main([*options, "--results", str(tmp_path / "transfer.json")])
    model = load_model(out, device="cpu")
    assert model.vocabulary == () and model.normalizes
    for name, value in network.wav2vec2.state_dict().items():
        torch.testing.assert_close(model.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    card = (out / "README.md").read_text("utf-8")
    for fact in ("45.6 %", "9,000 steps", "40 and 50", "| random | 10 | 99.5 [98, 100]"):
        assert fact in card
    assert "| Portuguese | pt | yes | 9.0 |" in card and "on 0.2 hours" in card
    monkeypatch.setattr(ship_xlsr, "MOST_BYTES", 1_000)
    with pytest.raises(SystemExit, match="at most 0"):
        ship_xlsr.main(options)


def test_the_real_architecture_fits_into_its_25_mb() -> None:
    """Two bytes a parameter of the encoder."""
    encoder = pretrain_mini.new_encoder().wav2vec2
    assert 2 * sum(p.numel() for p in encoder.parameters()) < ship_xlsr.MOST_BYTES
    fresh = train_mini.new_model().wav2vec2.state_dict()
    assert {n: v.shape for n, v in fresh.items()} == {
        n: v.shape for n, v in encoder.state_dict().items()
    }


def test_the_shipped_encoder_is_what_its_card_says() -> None:
    encoder, mini = load_model("mini-xlsr-53", device="cpu"), load_model("mini", device="cpu")
    assert encoder.vocabulary == () and encoder.num_layers == mini.num_layers
    codes, frames = Counter(), 0
    game = Wav2Vec2ForPreTraining.from_pretrained(encoder.folder, dtype=torch.float32).eval()
    clips = load_corpus("dev")
    for i in range(8):
        wave = torch.from_numpy(normalize(clips.audio(i).waveform))[None]
        with torch.inference_mode():
            heard = game.wav2vec2(wave).extract_features[0]
            found = pretrain_mini.quantize(game.quantizer, heard)[1]
        codes.update(map(tuple, found.tolist()))
        frames += len(found)
    assert len(codes) > 0.1 * frames  # the codes have not collapsed


def test_the_shipped_results_are_of_every_start_with_three_seeds() -> None:
    found = json.loads(transfer.RESULTS.read_text("utf-8"))
    cells = {(c["start"], c["minutes"]): c["seeds"] for c in found["cells"]}
    whole = [start for start in transfer.STARTS if start != transfer.CONVOLUTIONS]
    asked = {(start, m) for start in whole for m in transfer.MINUTES}
    assert set(cells) == asked | {(transfer.CONVOLUTIONS, 10)}
    assert all(seeds == list(transfer.SEEDS) for seeds in cells.values())
    assert {run["steps"] for run in found["runs"]} == {found["steps"]}
