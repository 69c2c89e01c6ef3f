"""What to encode at each step of a stream, and which of the new frames are settled.

A policy has a chunk, a left and a right context in seconds, says whether chunks stand ``alone``,
and has one method: ``settle(rows, spelling, grid, memory)`` is how many of the frames that were not
settled yet will not change any more. ``memory`` is a list of its own for every stream. All else is
done by the stream (`ptlab.streaming`), so that policies can be compared on equal terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ptlab._metrics.edits import common_beginning
from ptlab._stream.grid import Grid, Spelling
from ptlab.errors import PtlabError

__all__ = ["BufferedCTC", "LocalAgreement", "Memory", "NaiveChunks"]

Memory = list[list[tuple[int, ...]]]  # readings, each the tokens of its words
PAUSE_S = 0.6  # without a letter: the word is whole even where no delimiter was written


@dataclass(frozen=True)
class BufferedCTC:
    """Encode left context, chunk and right context; settle all but the right context.

    As the buffered CTC of NeMo: a frame is settled when ``right_s`` were heard after it; the frames
    after it are the tentative end. wav2vec2's positional convolution sees 1.28 s to both sides: a
    left context below changes the frames that are kept.

    Attributes
    ----------
    chunk_s : float
        Heard between two steps.
    left_s, right_s : float
        Contexts. With ``math.inf`` all is encoded again at each step, and memory grows.

    Examples
    --------
    >>> from ptlab.text import VOCABULARY
    >>> grid = Grid(320, 400, 16_000)
    >>> BufferedCTC().settle(np.zeros((60, 46)), Spelling.of(VOCABULARY, 0), grid, [])
    35
    """

    chunk_s: float = 0.5
    left_s: float = 3.0
    right_s: float = 0.5
    alone: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self)

    def settle(self, rows: np.ndarray, spelling: Spelling, grid: Grid, memory: Memory) -> int:
        """All frames but those of the right context."""
        return len(rows) - int(min(len(rows), grid.frames_in(self.right_s)))


@dataclass(frozen=True)
class LocalAgreement:
    """Settle the words on which the last ``n`` looks at the sound agree.

    As Whisper-Streaming (Macháček et al., 2023) does with words: each step encodes all that is not
    settled, and the common beginning of the last ``n`` readings is settled. Only whole words count.

    Attributes
    ----------
    n : int
        Readings that must agree; 1 trusts the first.
    chunk_s, left_s : float
        As in `BufferedCTC`.
    longest_s : float
        After so much without agreement the newest reading is taken, so that cost is bounded.
    hold_s : float
        Of silence at the end is not settled: a word may begin in it.

    Examples
    --------
    >>> LocalAgreement(n=0)
    Traceback (most recent call last):
    ptlab.errors.PtlabError: n=0; LocalAgreement needs 1 reading or more, 2 is usual.
    """

    n: int = 2
    chunk_s: float = 0.5
    left_s: float = 3.0
    longest_s: float = 15.0
    hold_s: float = 0.5
    right_s: ClassVar[float] = 0.0
    alone: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self)
        if self.n < 1:
            raise PtlabError(f"n={self.n}; LocalAgreement needs 1 reading or more, 2 is usual.")

    def settle(self, rows: np.ndarray, spelling: Spelling, grid: Grid, memory: Memory) -> int:
        """The frames of the words that agree; without words all frames but the last."""
        words = _whole_words(rows, spelling, grid)
        reading = [letters for letters, _ in words]
        agreed = common_beginning([*memory, reading]) if len(memory) >= self.n - 1 else 0
        settled = words[agreed - 1][1] if agreed else 0
        if len(rows) - settled > grid.frames_in(self.longest_s):
            agreed = len(words)
            settled = words[-1][1] if words else len(rows) // 2
        if not len(spelling.read(rows[settled:])[0]):
            settled = max(settled, len(rows) - int(grid.frames_in(self.hold_s)))
        readings = [r[agreed:] for r in (*memory, reading)]
        memory[:] = readings[max(0, len(readings) - self.n + 1) :]
        return settled


@dataclass(frozen=True)
class NaiveChunks:
    """Transcribe each chunk alone and put the texts in a row: what not to do.

    A word on a seam is broken in two, and the model hears no context, be it for the loudness of the
    chunk or for its first and last sounds. Here to be compared.

    Examples
    --------
    >>> NaiveChunks(chunk_s=2.0).left_s
    0.0
    """

    chunk_s: float = 1.0
    left_s: ClassVar[float] = 0.0
    right_s: ClassVar[float] = 0.0
    alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)

    def settle(self, rows: np.ndarray, spelling: Spelling, grid: Grid, memory: Memory) -> int:
        """All of them."""
        return len(rows)


def _check(policy: BufferedCTC | LocalAgreement | NaiveChunks) -> None:
    if not 0.02 <= policy.chunk_s <= 60:
        raise PtlabError(f"chunk_s={policy.chunk_s}; expected 0.02 to 60 seconds.")
    if not (policy.left_s >= 0 and policy.right_s >= 0):
        raise PtlabError(f"left_s={policy.left_s}, right_s={policy.right_s}; expected 0 or more.")


def _whole_words(
    rows: np.ndarray, spelling: Spelling, grid: Grid
) -> list[tuple[tuple[int, ...], int]]:
    """Tokens of every word that is over, and the frame after it: in the middle of the gap."""
    letters, spaces = spelling.read(rows)
    path, pause = rows.argmax(axis=1), grid.frames_in(PAUSE_S)
    begins = [0, *(np.searchsorted(letters, spaces))]
    words = []
    for i, begin in enumerate(begins):
        inside = letters[begin : begins[i + 1] if i + 1 < len(begins) else None]
        if not len(inside):
            continue
        last, following = int(inside[-1]) + 1, letters[letters > inside[-1]]
        if i < len(spaces):
            end = max(int(spaces[i]) + 1, (last + int(following[0])) // 2 if len(following) else 0)
        elif len(rows) - last >= pause:
            end = last + int(pause) // 2
        else:
            break
        words.append((_tokens(path, inside), end))
    return words


def _tokens(path: np.ndarray, letters: np.ndarray) -> tuple[int, ...]:
    """Tokens of the frames of a word, repeats in neighbouring frames merged."""
    new = (np.diff(letters, prepend=-2) > 1) | (np.diff(path[letters], prepend=-1) != 0)
    return tuple(path[letters][new].tolist())
