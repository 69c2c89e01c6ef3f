"""Frames, samples and seconds of a model, and which of its tokens are letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptlab.ctc import SPACES, SPECIAL, greedy_path

__all__ = ["Grid", "Spelling"]


@dataclass(frozen=True)
class Grid:
    """Frames and samples: frame ``t`` hears ``hop * t`` up to ``hop * t + receptive_field``.

    Examples
    --------
    >>> grid = Grid(320, 400, 16_000)
    >>> grid.samples(50), grid.seconds(50), grid.frames_in(0.5)  # 80 samples over the hops
    (16080, 1.0, 25)
    """

    hop: int
    receptive_field: int
    sampling_rate: int

    def samples(self, frame: int) -> int:
        """Samples that the frames before ``frame`` need."""
        return frame * self.hop + self.receptive_field - self.hop

    def seconds(self, frames: float) -> float:
        """Time from one frame to another so many further."""
        return frames * self.hop / self.sampling_rate

    def frames_in(self, seconds: float) -> float:
        """Frames in so many seconds; infinite if they are."""
        frames = seconds * self.sampling_rate / self.hop
        return frames if np.isinf(frames) else round(frames)


@dataclass(frozen=True)
class Spelling:
    """Which tokens are letters and which delimit words.

    Examples
    --------
    >>> spelling = Spelling.of(("<pad>", "|", "o", "i"), blank=0)
    >>> spelling.spaces, spelling.silent
    ((1,), (0,))
    """

    blank: int
    spaces: tuple[int, ...]
    silent: tuple[int, ...]

    @classmethod
    def of(cls, vocabulary: Sequence[str], blank: int, delimiter: str = "|") -> Spelling:
        """The spelling of a vocabulary."""
        spaces = [i for i, token in enumerate(vocabulary) if token in SPACES | {delimiter}]
        silent = {blank} | {i for i, token in enumerate(vocabulary) if token in SPECIAL}
        return cls(blank, tuple(spaces), tuple(sorted(silent)))

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames ``(n,)`` of letters, and frames ``(m,)`` of delimiters."""
        path = greedy_path(rows)
        space = np.isin(path, self.spaces)
        letter = ~space & ~np.isin(path, self.silent)
        return np.flatnonzero(letter), np.flatnonzero(space)

    def delimiters(self, frames: int, vocab: int) -> np.ndarray:
        """Log-probs ``(frames, vocab)`` that are sure of a delimiter, or of a blank without one."""
        rows = np.full((frames, vocab), -30.0, np.float32)
        rows[:, self.spaces[0] if self.spaces else self.blank] = 0.0
        return rows
