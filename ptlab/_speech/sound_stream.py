"""Sound of any length, block by block: the samples of `load_audio`, never all of them at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ptlab._speech.decoders import open_bytes, open_file, read_blocks
from ptlab._speech.samples import (
    CANCELLED,
    NO_SAMPLES,
    SILENCE_PEAK,
    checked_rate,
    checked_samples,
    mean_of_channels,
)
from ptlab.audio import SAMPLE_RATE, load_audio
from ptlab.errors import AudioError

__all__ = ["SoundStream", "encoded"]

BLOCK_S = 20.0  # of the source, read at once


class SoundStream:
    """Blocks (samples,) of a sound at one rate; its facts are known when the last has come.

    Attributes
    ----------
    sampling_rate : int
        Of the blocks, in Hz.
    original_sampling_rate, original_channels : int or None
        Of the source; None until it is open.

    Raises
    ------
    AudioError
        As `load_audio`, but some blocks may have come before.

    Examples
    --------
    >>> stream = SoundStream({"array": np.zeros(8_000, "float32"), "sampling_rate": 8_000})
    >>> [len(block) for block in stream], stream.duration_s, stream.is_silent
    ([16000], 1.0, True)
    """

    def __init__(self, source: Any, sampling_rate: int = SAMPLE_RATE):
        self.source, self.sampling_rate = source, sampling_rate
        self.original_sampling_rate: int | None = None
        self.original_channels: int | None = None
        self._level = _Level()

    @property
    def samples(self) -> int:
        """So far, at ``sampling_rate``."""
        return self._level.count

    @property
    def duration_s(self) -> float:
        """Length so far, in seconds."""
        return self.samples / self.sampling_rate

    @property
    def was_resampled(self) -> bool:
        """Whether the source has another rate."""
        return self.original_sampling_rate not in (None, self.sampling_rate)

    @property
    def is_silent(self) -> bool:
        """As `Audio.is_silent`, of what has come."""
        return self._level.is_silent

    def __iter__(self) -> Iterator[np.ndarray]:
        self._level = _Level()
        for block in self._blocks():
            self._level.add(block)
            yield block

    def _blocks(self) -> Iterator[np.ndarray]:
        source = encoded(self.source)
        if isinstance(source, str | os.PathLike):
            opened = open_file(source)
        elif isinstance(source, bytes):
            opened = open_bytes(source)
        else:
            yield self._loaded(source)
            return
        with opened as (sound, name):
            rate = checked_rate(sound.samplerate, "sampling_rate")
            self.original_sampling_rate, self.original_channels = rate, sound.channels
            blocks = read_blocks(sound, name, round(BLOCK_S * rate))
            yield from _resampled(_mono(blocks), rate, self.sampling_rate)

    def _loaded(self, source: Any) -> np.ndarray:
        audio = load_audio(source, target_rate=self.sampling_rate)
        self.original_sampling_rate = audio.original_sampling_rate
        self.original_channels = audio.original_channels
        return audio.waveform


class _Level:
    """Whether a signal that comes in pieces is silent, by the rule of `is_silent`."""

    def __init__(self) -> None:
        self.count, self.total, self.low, self.high = 0, 0.0, np.inf, -np.inf

    def add(self, samples: np.ndarray) -> None:
        if len(samples):
            self.count += len(samples)
            self.total += float(samples.sum(dtype=np.float64))
            self.low = min(self.low, float(samples.min()))
            self.high = max(self.high, float(samples.max()))

    @property
    def is_silent(self) -> bool:
        if not self.count:
            return True
        mean = self.total / self.count
        return max(self.high - mean, mean - self.low) < SILENCE_PEAK


def encoded(source: Any) -> Any:
    """The path or bytes in a row of a data set, if it has not been decoded; else the source."""
    if not isinstance(source, Mapping) or source.get("array") is not None:
        return source
    found = source.get("bytes") if source.get("bytes") is not None else source.get("path")
    return source if found is None else found


def _mono(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    mean, first = _Level(), _Level()
    for block in blocks:
        mono = mean_of_channels(checked_samples(block))
        mean.add(mono)
        first.add(block[:, 0])
        yield mono
    if not mean.count:
        raise AudioError(NO_SAMPLES, "empty")
    if mean.is_silent and not first.is_silent:
        raise AudioError(CANCELLED, "unsupported")


def _resampled(
    blocks: Iterable[np.ndarray], original_rate: int, target_rate: int
) -> Iterator[np.ndarray]:
    """By soxr as in `ptlab.audio.resample`; its stream gives the same samples, bit by bit."""
    if original_rate == target_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(original_rate, target_rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
