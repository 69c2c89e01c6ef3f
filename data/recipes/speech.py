"""Speech with known phone times, from ``make_speech.py``'s folders to training batches."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from augment import RATE, augment, change_speed

from ptlab.audio import normalize
from ptlab.text import encode, normalize_text

FRAME_S = 0.025  # one frame of Kokoro's duration predictor: 600 samples at 24 kHz
LEAD_FRAMES = 2  # Kokoro's sound runs ahead of its tokens, see times.py
HOP, FIELD = 320, 400  # samples between frames and seen by one frame of wav2vec2
NO_PHONE = -100  # ignored by the phone loss
STRESS, NASAL = "ˈˌ", "\u0303"
MAX_JOINED_S, PAUSES_S = 20.0, (0.05, 1.2)  # of joined clips; 20 s: a window of Transcriber
PHONES = "abdefhijklmnoprstuvwxyzæçðŋɐɑɔəɛɡɨɪɲɹɾʁʃʊʌʎʒʣʤʦʧAIOWỸː"  # class 0: pause or space


def to_labels(text: str) -> tuple[list[int], list[str]]:
    """Character ids and words of a text, as ptlab writes it, but digits are dropped."""
    text = normalize_text(text, spell=False)
    return encode(text).tolist(), text.split()


@dataclass(frozen=True)
class Clip:
    """One spoken sentence: int16 samples, phone ids and ends, words where they map one to one."""

    samples: np.ndarray
    phones: np.ndarray  # class of each token
    ends_s: np.ndarray  # end of each token
    text: str
    word_cuts: np.ndarray | None  # seconds where a cut between words is safe; None: not known


def read_clip(row: dict, folder: Path) -> Clip:
    """Read one line of a part file with its sound."""
    samples, rate = soundfile.read(folder / row["path"], dtype="int16")
    if rate != RATE:
        raise ValueError(f"{row['path']}: {rate} Hz, expected {RATE}")
    symbols = " " + row["symbols"] + " "
    ends = np.cumsum(row["frames"]) * FRAME_S
    ends[:-1] = np.maximum(ends[:-1] - row.get("lead_frames", LEAD_FRAMES) * FRAME_S, 0)
    return Clip(samples, _phones(symbols), ends, row["text"], _cuts(row, symbols, ends))


def _phones(symbols: str) -> np.ndarray:
    """Class of each token: a stress mark is of the phone after it, a tilde of the one before."""
    phones = [PHONES.find(s) + 1 for s in symbols]
    for i in reversed(range(len(phones) - 1)):
        phones[i] = phones[i + 1] if symbols[i] in STRESS else phones[i]
    for i in range(1, len(phones)):
        phones[i] = phones[i - 1] if symbols[i] == NASAL else phones[i]
    return np.array(phones)


def _cuts(row: dict, symbols: str, ends: np.ndarray) -> np.ndarray | None:
    """Seconds between words; where only tokens are known, a space sounds as the word after it."""
    words = to_labels(row["text"])[1]
    if "words" in row:
        gaps = zip(row["words"][:-1], row["words"][1:], strict=True)
        inner = [(before[2] + after[1]) / 2 for before, after in gaps]
    elif len(row["frames"]) == len(symbols):
        places = range(1, len(symbols) - 1)
        inner = [ends[i - 1] for i in places if symbols[i] == " " and symbols[i - 1] != " "]
    else:
        return None
    return np.array([0.0, *inner, ends[-1]]) if len(inner) == len(words) - 1 else None


def join(first: Clip, second: Clip, pause_s: float) -> Clip:
    """Two clips in one, a silence between them: recordings hold more than one sentence."""
    start = len(first.samples) / RATE + pause_s
    silence = np.zeros(int(pause_s * RATE), np.int16)
    cuts = None
    if first.word_cuts is not None and second.word_cuts is not None:
        cuts = [*first.word_cuts[:-1], start - pause_s / 2, *(second.word_cuts[1:] + start)]
    return Clip(
        np.concatenate([first.samples, silence, second.samples]),
        np.concatenate([first.phones, [0], second.phones]),
        np.concatenate([first.ends_s, [start], second.ends_s + start]),
        f"{first.text} {second.text}",
        None if cuts is None else np.array(cuts),
    )


def read_corpus(data: Path, split: str = "train") -> list[Clip]:
    """The clips of a split of the course's corpus, from its true times.

    Its phones hold the space before a word; elsewhere a space is a token of its own. So that the
    two do not contradict each other, no frame of these clips has a phone to be learned (-100).
    """
    times = {}
    for row in map(json.loads, (data / "times.jsonl").read_text("utf-8").splitlines()):
        times[row["id"]] = row
    clips = []
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            if row["split"] == split:
                clip = read_clip(_as_part(row, times[row["id"]]), data)
                clips.append(replace(clip, phones=np.full(len(clip.phones), NO_PHONE)))
    return clips


def _as_part(row: dict[str, str], times: dict) -> dict:
    """A corpus row as a line of a part file."""
    words = [[w, a, b] for w, a, b in times["words"]]
    frames = [0, float(row["duration_s"]) / FRAME_S, 0]
    return row | {"symbols": " ", "frames": frames, "words": words, "lead_frames": 0}


def read_folder(folder: Path, skip: int = 0) -> list[Clip]:
    """The clips of a folder's part files, but for the first ``skip``.

    A last line that a running writer has not finished yet is left for the next call.
    """
    parts = sorted(folder.glob("part*.jsonl"))
    lines = [line for p in parts for line in p.read_text("utf-8").splitlines(keepends=True)]
    whole = [line for line in lines if line.endswith("\n")]
    return [read_clip(json.loads(line), folder) for line in whole[skip:]]


@dataclass(frozen=True)
class Example:
    """A clip or a run of its words, augmented: waveform, labels, phone class of every frame."""

    waveform: np.ndarray
    labels: list[int]
    frame_phones: np.ndarray


def frames_of(samples: int) -> int:
    """Frames that wav2vec2 gives for so many samples."""
    return max(0, (samples - FIELD) // HOP + 1)


def make_example(
    clip: Clip, rng: np.random.Generator, max_s: float, strength: float, babble: np.ndarray
) -> Example:
    """Cut, change speed, augment, normalise."""
    start, end, text = _span(clip, rng, max_s)
    wave = clip.samples[int(start * RATE) : int(end * RATE)].astype(np.float32) / 32768
    factor = float(np.clip(rng.normal(1.0, 0.12), 0.75, 1.3)) if rng.random() < 0.9 else 1.0
    wave = change_speed(wave, factor) if factor != 1.0 else wave
    wave = augment(wave, rng, strength, babble)
    wave = normalize(wave)
    centres = (np.arange(frames_of(len(wave))) * HOP + FIELD / 2) / RATE * factor + start
    token = np.minimum(np.searchsorted(clip.ends_s, centres), len(clip.phones) - 1)
    return Example(wave, to_labels(text)[0], clip.phones[token])


def _span(clip: Clip, rng: np.random.Generator, max_s: float) -> tuple[float, float, str]:
    """A run of whole words no longer than ``max_s`` (the whole clip if cuts are not known)."""
    total = len(clip.samples) / RATE
    if clip.word_cuts is None or (total <= max_s and rng.random() < 0.7):
        return 0.0, total, clip.text
    words = to_labels(clip.text)[1]
    first = int(rng.integers(0, max(1, len(words) - 1)))
    length = rng.uniform(min(1.2, max_s / 2), max_s)
    last = first + 1
    while last < len(words) and clip.word_cuts[last + 1] - clip.word_cuts[first] <= length:
        last += 1
    return clip.word_cuts[first], min(clip.word_cuts[last], total), " ".join(words[first:last])


def batches(
    draw: Callable[[], Clip],
    rng: np.random.Generator,
    budget_s: float,
    limits: Callable[[], tuple[float, float]],
    joined: float = 0.0,
) -> Iterator[list[Example]]:
    """Endless batches of similar lengths, at most ``budget_s`` seconds each with their padding.

    ``draw()`` gives a clip; ``limits()`` the longest example in seconds and the strength of
    augmentation, which may grow while training goes on. A share of ``joined`` of the examples are
    cut from two or three clips in a row.
    """
    while True:
        pool = []
        while len(pool) < 40:
            max_s, strength = limits()
            clip = draw()
            if rng.random() < joined:
                max_s = MAX_JOINED_S
                for _ in range(int(rng.integers(1, 3))):
                    clip = join(clip, draw(), float(rng.uniform(*PAUSES_S)))
            if clip.word_cuts is None and len(clip.samples) > max_s * RATE:
                continue
            other = draw().samples.astype(np.float32) / 32768
            example = make_example(clip, rng, max_s, strength, other)
            if 0 < len(example.labels) < len(example.frame_phones):
                pool.append(example)
        pool.sort(key=lambda e: len(e.waveform))
        yield from _grouped(pool, int(budget_s * RATE), rng)


def _grouped(pool: list[Example], budget: int, rng: np.random.Generator) -> Iterator[list[Example]]:
    groups: list[list[Example]] = [[]]
    for example in pool:
        if groups[-1] and (len(groups[-1]) + 1) * len(example.waveform) > budget:
            groups.append([])
        groups[-1].append(example)
    for i in rng.permutation(len(groups)):
        yield groups[i]
