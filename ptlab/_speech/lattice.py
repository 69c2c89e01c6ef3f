"""All paths of a text through the frames: their summed probability, and the best of them.

A text of tokens is turned into states: blank, token, blank, token ... blank. A path stays, moves
to the next state, or jumps over a blank between two unlike tokens; dynamic programming sums or
maximises over all paths, as in Graves et al. (2006). `ptlab.ctc` has the same names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptlab.errors import AlignmentError

__all__ = ["Alignment", "align", "as_matrix", "forward_log_prob"]

BLOCK = 2_048  # frames between two whose scores are kept


@dataclass(frozen=True)
class Alignment:
    """The best path of a given token sequence through the frames.

    Attributes
    ----------
    tokens : tuple of int
        The sequence that was aligned.
    spans : tuple of (int, int)
        For every token the half-open range of frames in which it is emitted.
    score : float
        Natural logarithm of the probability of the best path.

    Examples
    --------
    >>> Alignment(tokens=(7, 8), spans=((1, 3), (5, 6)), score=-0.7).spans[1]
    (5, 6)
    """

    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    score: float


def forward_log_prob(log_probs: np.ndarray, tokens: Sequence[int], blank: int = 0) -> float:
    """Log-probability of a token sequence, summed over all its paths (minus the CTC loss).

    Parameters
    ----------
    log_probs : ndarray (frames, vocab)
        Normalised: every row's exponentials sum to one.
    tokens : sequence of int
        Without blanks. The empty sequence has one path, all blanks.

    Returns
    -------
    float
        ``-inf`` if the frames are too few.

    Examples
    --------
    >>> half = np.log(np.full((2, 2), 0.5))
    >>> round(float(np.exp(forward_log_prob(half, [1]))), 2)  # 01, 10 and 11
    0.75
    """
    matrix = as_matrix(log_probs).astype(np.float64)
    states, may_skip = _states(tokens, blank, matrix.shape[1])
    alpha = np.full(len(states), -np.inf)
    if len(matrix) == 0:
        return 0.0 if len(tokens) == 0 else -math.inf
    alpha[:2] = matrix[0, states[:2]]
    for row in matrix[1:]:
        step = np.logaddexp(alpha[1:], alpha[:-1])
        step[1:] = np.where(may_skip[2:], np.logaddexp(step[1:], alpha[:-2]), step[1:])
        alpha = np.concatenate([alpha[:1], step]) + row[states]
    return float(np.logaddexp.reduce(alpha[-2:]))


def align(log_probs: np.ndarray, tokens: Sequence[int] | np.ndarray, blank: int = 0) -> Alignment:
    """Viterbi: the best path of ``tokens`` through the frames.

    Time is proportional to frames times tokens. Memory is far below that: for an hour of speech,
    180,000 frames by 100,000 states (two a token), about 100 MB.

    Parameters
    ----------
    log_probs : ndarray (frames, vocab)
    tokens : sequence of int
        What was said, without blanks; a token that follows its like needs a blank between.

    Raises
    ------
    AlignmentError
        If the tokens need more frames than there are, or are impossible.

    Examples
    --------
    >>> matrix = np.log(np.array([[.8, .1, .1], [.1, .8, .1], [.1, .1, .8]]))
    >>> align(matrix, [1, 2]).spans
    ((1, 2), (2, 3))
    """
    matrix = as_matrix(log_probs)
    needed = len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))
    if needed > len(matrix):
        raise AlignmentError(
            f"{len(tokens)} tokens need at least {needed} frames, but there are {len(matrix)}. "
            "Align a shorter text or more audio."
        )
    if not len(tokens):
        return Alignment((), (), float(matrix[:, blank].sum()))
    states, may_skip = _states(tokens, blank, matrix.shape[1])
    path, score = _viterbi(matrix, states, may_skip)
    if not np.isfinite(score):
        raise AlignmentError("No path has a probability above zero: are these log-probabilities?")
    return Alignment(tuple(int(t) for t in tokens), _spans(path, len(tokens)), score)


def _viterbi(
    matrix: np.ndarray, states: np.ndarray, may_skip: np.ndarray
) -> tuple[np.ndarray, float]:
    """State of every frame on the best path, and its score.

    Where every state of every frame was best reached from would be frames times states. Only the
    scores of every ``BLOCK``-th frame are kept; from there a block is run once more, backwards
    block by block, of the few states that a path to the known end of the block can have.
    """
    jump = np.where(may_skip, 0.0, -np.inf)
    best = np.full(len(states), -np.inf)
    best[:2] = matrix[0, states[:2]]
    kept = [best]
    for t in range(1, len(matrix)):
        reached = best.copy()
        np.maximum(reached[1:], best[:-1], out=reached[1:])
        np.maximum(reached[2:], best[:-2] + jump[2:], out=reached[2:])
        best = reached + matrix[t, states]
        if t % BLOCK == 0:
            kept.append(best)
    state = len(states) - (1 if best[-1] >= best[-2] else 2)
    path = np.full(len(matrix), state)
    for number, scores in reversed(list(enumerate(kept))):
        first, end = number * BLOCK, min((number + 1) * BLOCK, len(matrix) - 1)
        low = max(0, path[end] - 2 * (end - first))
        some = slice(low, path[end] + 1)
        back = _back(scores[some], matrix[first : end + 1], states[some], jump[some])
        for t in range(end, first, -1):
            path[t - 1] = path[t] - back[t - first, path[t] - low]
    return path, float(best[state])


def _back(best: np.ndarray, matrix: np.ndarray, states: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """How many states to go back, of each state in each frame after the first, ``best``'s."""
    back = np.zeros((len(matrix), len(states)), dtype=np.int8)
    options = np.full((3, len(states)), -np.inf)  # stay, one state on, over a blank
    for t in range(1, len(matrix)):
        options[0] = best
        options[1, 1:] = best[:-1]
        options[2, 2:] = best[:-2] + jump[2:]
        back[t] = options.argmax(axis=0)
        best = options.max(axis=0) + matrix[t, states]
    return back


def _spans(path: np.ndarray, count: int) -> tuple[tuple[int, int], ...]:
    starts = np.searchsorted(path, 2 * np.arange(count) + 1, side="left")
    ends = np.searchsorted(path, 2 * np.arange(count) + 1, side="right")
    return tuple((int(a), int(b)) for a, b in zip(starts, ends, strict=True))


def _states(
    tokens: Sequence[int] | np.ndarray, blank: int, vocab: int
) -> tuple[np.ndarray, np.ndarray]:
    """Blank, token, blank, token ... blank; and which states may be reached over a blank."""
    tokens = np.asarray(tokens, dtype=np.int64)
    if (tokens == blank).any():
        raise AlignmentError("The tokens hold the blank; leave it out, it is put in by itself.")
    if len(tokens) and not (tokens.min() >= 0 and tokens.max() < vocab):
        raise AlignmentError(f"Token ids from 0 to {vocab - 1} are in log_probs; others are given.")
    states = np.full(2 * len(tokens) + 1, blank)
    states[1::2] = tokens
    may_skip = np.zeros(len(states), dtype=bool)
    may_skip[3::2] = tokens[1:] != tokens[:-1]
    return states, may_skip


def as_matrix(log_probs: np.ndarray) -> np.ndarray:
    """The same as an ndarray (frames, vocab), or an `AlignmentError` that says what to do.

    Examples
    --------
    >>> as_matrix([[0.0, -1.0]]).shape
    (1, 2)
    """
    matrix = np.asarray(log_probs)
    if matrix.ndim != 2:
        raise AlignmentError(
            f"log_probs has shape {matrix.shape}; expected (frames, vocab). "
            "Take one recording out of a batch first: log_probs[0]."
        )
    return matrix
