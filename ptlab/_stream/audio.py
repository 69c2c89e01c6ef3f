"""Sound that comes in packets: one rate out, a window of the past, and how loud it was so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptlab._speech.samples import (
    SILENCE_PEAK,
    checked_rate,
    checked_samples,
    mean_of_channels,
    to_columns,
    to_float,
    to_numpy,
)
from ptlab.errors import AudioError, PtlabError

__all__ = ["PacketReader", "RunningLevel", "SampleWindow"]

HALF_LIFE_S = 30.0  # after which loudness counts half: a speaker moves, another speaks


class PacketReader:
    """Packets of any size and type, of one rate, to mono float32 at the model's rate.

    By soxr's stream: what comes out, put together, is what `ptlab.audio.resample` gives for the
    whole, sample by sample.

    Examples
    --------
    >>> reader = PacketReader(16_000)
    >>> len(reader.read(8_000, np.zeros(8_000, "int16"))) + len(reader.finish())
    16000
    """

    def __init__(self, target_rate: int):
        self.target_rate = target_rate
        self.rate: int | None = None
        self._resampler: Any = None

    def read(self, sampling_rate: int, samples: Any) -> np.ndarray:
        """What a packet adds at the target rate; perhaps nothing yet.

        Raises
        ------
        AudioError
            If the samples are no sound, or the rate is another than before.
        """
        array = to_numpy(samples)
        if not array.size:
            return np.zeros(0, np.float32)
        mono = mean_of_channels(checked_samples(to_columns(to_float(array))))
        self._use(sampling_rate)
        return mono if self._resampler is None else self._resampler.resample_chunk(mono)

    def finish(self) -> np.ndarray:
        """What the resampler still held back."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        resampler, self._resampler = self._resampler, None
        return resampler.resample_chunk(np.zeros(0, np.float32), last=True)

    def _use(self, sampling_rate: int) -> None:
        rate = checked_rate(sampling_rate, "sampling_rate")
        if self.rate is None:
            self.rate = rate
            if rate != self.target_rate:
                import soxr

                self._resampler = soxr.ResampleStream(
                    rate, self.target_rate, 1, dtype="float32", quality="HQ"
                )
        elif rate != self.rate:
            raise AudioError(
                f"A packet at {rate} Hz in a stream at {self.rate} Hz; a stream has one rate. "
                "Create another stream for another rate."
            )


class SampleWindow:
    """The last samples of a stream, by their position in the whole; the older ones are let go.

    Examples
    --------
    >>> window = SampleWindow()
    >>> window.add(np.arange(5.0))
    >>> window.forget(2)
    >>> window.add(np.arange(5.0, 8.0))
    >>> window.read(3, 6).tolist(), window.start, window.end
    ([3.0, 4.0, 5.0], 2, 8)
    """

    def __init__(self) -> None:
        self.start = self.end = 0
        self._held = np.zeros(0, np.float32)
        self._new: list[np.ndarray] = []

    def add(self, samples: np.ndarray) -> None:
        """Put samples at the end."""
        self._new.append(samples)  # joined when read: packets may be very small
        self.end += len(samples)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Samples ``begin`` to ``end``; `PtlabError` if some are not there any more, or not yet."""
        if not self.start <= begin <= end <= self.end:
            raise PtlabError(f"Samples {begin} to {end} of a window {self.start} to {self.end}.")
        self._join()
        return self._held[begin - self.start : end - self.start]

    def forget(self, begin: int) -> None:
        """Let go of what is before ``begin``."""
        if begin > self.start:
            self._join()
            self._held = self._held[begin - self.start :].copy()
            self.start = begin

    def _join(self) -> None:
        if self._new:
            self._held, self._new = np.concatenate([self._held, *self._new]), []


class RunningLevel:
    """Mean and deviation of what was heard so far, in the place of those of a whole utterance.

    Taken chunk by chunk they would amplify the silences to the loudness of speech. Here silent
    hops do not count, and what was long ago counts less.

    Examples
    --------
    >>> level = RunningLevel(hop=4, sampling_rate=16_000)
    >>> level.add(np.array([1.0, 3.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0]))
    >>> level.normalize(np.array([1.0, 2.0, 3.0])).round(3).tolist()
    [-1.0, 0.0, 1.0]
    """

    def __init__(self, hop: int, sampling_rate: int):
        self.hop = hop
        self._fading = 0.5 ** (hop / (HALF_LIFE_S * sampling_rate))
        self._sums = np.zeros(3)  # weight, sum and sum of squares, a hop weighing one

    def add(self, samples: np.ndarray) -> None:
        """Hear what comes next: whole hops, at the end perhaps less."""
        if not len(samples):
            return
        starts = np.arange(0, len(samples), self.hop)
        counts, wide = np.diff(starts, append=len(samples)), samples.astype(np.float64)
        means = np.add.reduceat(wide, starts) / counts
        squares = np.add.reduceat(wide**2, starts) / counts
        loud = squares - means**2 >= SILENCE_PEAK**2
        weights = counts[loud] / self.hop * self._fading ** np.arange(loud.sum())[::-1]
        moments = np.stack([np.ones(loud.sum()), means[loud], squares[loud]])
        self._sums = self._sums * self._fading ** loud.sum() + moments @ weights

    def normalize(self, samples: np.ndarray) -> np.ndarray:
        """Samples as the model wants them; as they are while only silence was heard."""
        weight, total, squares = self._sums
        if not weight:
            return samples
        mean = total / weight
        variance = max(0.0, squares / weight - mean**2)
        return ((samples - mean) / np.sqrt(variance + 1e-7)).astype(np.float32)
