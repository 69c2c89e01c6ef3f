"""A last look at an utterance that is over: read in one piece, kept where that reading is surer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptlab._metrics.edits import Edit, align_words
from ptlab._stream.events import joined
from ptlab._stream.text import found_words

if TYPE_CHECKING:
    from ptlab._stream.hearing import Hearing
    from ptlab._stream.setup import StreamSetup
    from ptlab.transcription import Word

__all__ = ["STEP_S", "changes", "refined"]

# Lengths of what is encoded once more: torch keeps something for every length it has ever met
# (oneDNN's cache of 1,024 primitives): with steps of 1 s the first minutes added 40 MB.
STEP_S = 4.0


def refined(
    setup: StreamSetup,
    hearing: Hearing,
    committed: tuple[Word, ...],
    frames: tuple[int, int],
    stop: int,
) -> tuple[Word, ...]:
    """The words of an utterance encoded once more in one piece, if those are no less sure.

    Of one that is longer than ``refine_s``, or begins in audio that is gone, only the last part is;
    the words before it stay. Which reading is surer is told by the mean confidence of its words.
    A piece that is longer than what the model learned from is often read worse than in steps: on
    the dev split, joined to streams, the new reading alone did harm.

    Parameters
    ----------
    committed : tuple of Word
    frames : (int, int)
        At which the utterance begins and ends in the stream.
    stop : int
        Sample up to which may be heard, as right context.
    """
    grid, (first, end) = setup.grid, frames
    floor = hearing.first_frame
    start = int(max(first, floor, end - grid.frames_in(setup.refine_s)))
    kept = tuple(w for w in committed if start > first and w.start_s < grid.seconds(start))
    kept_s = kept[-1].end_s if kept else 0.0
    start = max(start, int(np.ceil(grid.frames_in(kept_s))))
    if start >= end:
        return committed
    stop = min(stop, hearing.end)
    left = grid.frames_in(setup.policy.left_s)
    begin = _in_whole_steps(max(floor, start - left), stop // grid.hop, grid.frames_in(STEP_S))
    begin = int(max(floor, begin))
    samples = hearing.window(begin * grid.hop, stop)
    rows = setup.log_probs([samples])[0][start - begin : end - begin]
    found = found_words(setup.transcriber, grid, rows, start, kept_s)
    surer = _confidence(found) >= _confidence(committed[len(kept) :])
    return kept + found if surer else committed


def _confidence(words: tuple[Word, ...]) -> float:
    return sum(w.confidence for w in words) / max(1, len(words))


def _in_whole_steps(begin: float, end: int, step: float) -> float:
    """``begin`` or a little before, so that it is whole steps to the end.

    Examples
    --------
    >>> _in_whole_steps(130, 1000, 50)
    100
    """
    return begin - (begin - end) % step


def changes(before: tuple[Word, ...], after: tuple[Word, ...]) -> tuple[Edit, ...]:
    """What became another word, was taken out or put in.

    Examples
    --------
    >>> from ptlab.transcription import Word
    >>> changes((Word("tia", 0.1, 0.4, 0.5),), (Word("dia", 0.1, 0.4, 0.9),))
    (Edit(op='S', reference='tia', hypothesis='dia'),)
    """
    edits = align_words(joined(before), joined(after))
    return tuple(edit for edit in edits if edit.op != "=")
