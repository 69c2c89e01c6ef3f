"""Sounds to measure with: speech of the corpus as clips, as one long file, as many small files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from ptlab.audio import resample
from ptlab.data import load_corpus

RATE = 16_000
DRESSES = (  # container, subtype, suffix, rate, channels: clips come as people have them
    ("WAV", "PCM_16", "wav", 16_000, 1),
    ("FLAC", "PCM_16", "flac", 44_100, 2),
    ("MP3", "MPEG_LAYER_III", "mp3", 24_000, 1),
    ("OGG", "VORBIS", "ogg", 48_000, 1),
)


def tape(seconds: float, seed: int) -> np.ndarray:
    """Speech of many voices (samples,), 16 kHz: clips of the corpus, one after another."""
    corpus = load_corpus()
    order = np.random.default_rng(seed).permutation(len(corpus))
    pieces, length = [], 0
    while length < seconds * RATE:
        for number in order:
            pieces += [corpus.audio(int(number)).waveform, np.zeros(RATE // 5, np.float32)]
            length += len(pieces[-2]) + len(pieces[-1])
            if length >= seconds * RATE:
                break
    return np.concatenate(pieces)[: round(seconds * RATE)]


def make_clips(folder: Path, count: int, longest_s: float, seed: int = 0) -> list[str]:
    """``count`` files of 1 s and more, all lengths alike often, in four formats by turns."""
    lengths = np.random.default_rng(seed).uniform(1, longest_s, count)
    speech, start, paths = tape(float(lengths.sum()) + 1, seed), 0, []
    for n, length in enumerate(lengths):
        container, subtype, suffix, rate, channels = DRESSES[n % len(DRESSES)]
        samples = resample(speech[start : start + round(length * RATE)], RATE, rate)
        start += round(length * RATE)
        columns = np.repeat(samples[:, None], channels, axis=1)
        paths.append(str(folder / f"{n:04d}.{suffix}"))
        soundfile.write(paths[-1], columns, rate, format=container, subtype=subtype)
    return paths


def make_long(folder: Path, seconds: float) -> str:
    """One file of speech."""
    path = folder / f"{seconds:.0f}s.flac"
    hour = tape(min(seconds, 600.0), seed=1)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        left = round(seconds * RATE)
        while left:
            file.write(hour[:left])
            left -= min(left, len(hour))
    return str(path)


def make_many(folder: Path, count: int) -> list[str]:
    """``count`` different files of a second."""
    speech, paths = tape(600.0, seed=2), []
    for n in range(count):
        start = (n * 2_311) % (len(speech) - RATE)
        paths.append(str(folder / f"{n:05d}.wav"))
        soundfile.write(paths[-1], speech[start : start + RATE], RATE)
    return paths


def audio_seconds(paths: Sequence[str]) -> float:
    return sum(soundfile.info(path).duration for path in paths)
