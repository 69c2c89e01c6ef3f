"""CTC: from a matrix of log-probabilities to text, times and alignments.

Pure functions on arrays ``(frames, vocab)``; numpy is all they need. A *path* names one token a
frame, blanks among them; collapsing it (repeats merged, then blanks dropped) gives the tokens.

References
----------
Graves et al. (2006), "Connectionist Temporal Classification", ICML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptlab.errors import AlignmentError
from ptlab.text import VOCABULARY

__all__ = [
    "Alignment",
    "Segment",
    "align",
    "char_segments",
    "collapse",
    "decode",
    "forward_log_prob",
    "frame_boundary",
    "frame_times",
    "greedy_path",
    "tokens_to_text",
    "word_segments",
]

WORD_DELIMITER = "|"
_SPECIAL = {"<pad>", "<s>", "</s>", "[PAD]"}


@dataclass(frozen=True)
class Segment:
    """A stretch of frames that spells something.

    Attributes
    ----------
    text : str
        The character, or the word.
    start_frame, end_frame : int
        Half-open range of frames, gaps to the neighbours shared half and half.
    first_frame, last_frame : int
        Half-open range of frames in which the token itself (never the blank) is on the path.
    """

    text: str
    start_frame: int
    end_frame: int
    first_frame: int
    last_frame: int


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
    """

    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    score: float


def greedy_path(log_probs: np.ndarray) -> np.ndarray:
    """Most probable token of every frame.

    Parameters
    ----------
    log_probs : ndarray (frames, vocab)

    Returns
    -------
    ndarray of int (frames,)

    Examples
    --------
    >>> greedy_path(np.log([[0.1, 0.9], [0.8, 0.2]])).tolist()
    [1, 0]
    """
    return _matrix(log_probs).argmax(axis=1)


def collapse(path: Sequence[int], blank: int = 0, previous: int | None = None) -> list[int]:
    """Merge repeats, then drop blanks.

    Parameters
    ----------
    path : sequence of int (frames,)
    blank : int
    previous : int, optional
        The token of the frame before the first one, when a path arrives in pieces.

    Examples
    --------
    >>> collapse([0, 7, 7, 0, 7, 8, 8])
    [7, 7, 8]
    >>> collapse([7, 8], previous=7)
    [8]
    """
    tokens = []
    for token in path:
        if token != previous and token != blank:
            tokens.append(int(token))
        previous = token
    return tokens


def tokens_to_text(tokens: Sequence[int], vocabulary: Sequence[str] = VOCABULARY) -> str:
    """Spell tokens: ``|`` is a space, ``<s>``, ``</s>`` and padding vanish, ``<unk>`` stays.

    Spaces at the ends are dropped and runs of spaces made one, as a reader would.

    Examples
    --------
    >>> tokens_to_text([4, 9, 33, 4, 4, 7])
    'cà a'
    """
    letters = (vocabulary[t] for t in tokens)
    joined = "".join(x for x in letters if x not in _SPECIAL)
    return " ".join(joined.replace(WORD_DELIMITER, " ").split())


def decode(
    log_probs: np.ndarray, vocabulary: Sequence[str] = VOCABULARY, blank: int = 0
) -> str:
    """Greedy text of a log-prob matrix: best token a frame, collapsed, spelled.

    Parameters
    ----------
    log_probs : ndarray (frames, vocab)
    vocabulary : sequence of str
        Tokens by id.

    Examples
    --------
    >>> vocabulary = ("<pad>", "|", "o", "i")
    >>> decode(np.eye(4)[[2, 2, 0, 3, 1]], vocabulary)
    'oi'
    """
    return tokens_to_text(collapse(greedy_path(log_probs), blank), vocabulary)


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
    states, may_skip = _states(tokens, blank)
    emission = _matrix(log_probs)[:, states].astype(np.float64)
    alpha = np.full(len(states), -np.inf)
    if len(emission) == 0:
        return 0.0 if len(tokens) == 0 else -math.inf
    alpha[:2] = emission[0, :2]
    for row in emission[1:]:
        step = np.logaddexp(alpha[1:], alpha[:-1])
        step[1:] = np.where(may_skip[2:], np.logaddexp(step[1:], alpha[:-2]), step[1:])
        alpha = np.concatenate([alpha[:1], step]) + row
    return float(np.logaddexp.reduce(alpha[-2:]))


def align(log_probs: np.ndarray, tokens: Sequence[int], blank: int = 0) -> Alignment:
    """Viterbi: the best path of ``tokens`` through the frames.

    Time is proportional to frames times tokens; memory is one byte for each pair of a frame and
    a state (two states a token): 5 minutes of speech, 15,000 frames by 9,000 states, take 135 MB.

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
    matrix = _matrix(log_probs)
    needed = len(tokens) + sum(a == b for a, b in zip(tokens[:-1], tokens[1:], strict=True))
    if needed > len(matrix):
        raise AlignmentError(
            f"{len(tokens)} tokens need at least {needed} frames, but there are {len(matrix)}. "
            "Align a shorter text or more audio."
        )
    if not len(tokens):
        return Alignment((), (), float(matrix[:, blank].sum()))
    states, may_skip = _states(tokens, blank)
    steps, score = _viterbi(matrix[:, states].astype(np.float64), may_skip)
    if not np.isfinite(score):
        raise AlignmentError("No path has a probability above zero: are these log-probabilities?")
    return Alignment(tuple(int(t) for t in tokens), _spans(steps, len(tokens)), float(score))


def _viterbi(emission: np.ndarray, may_skip: np.ndarray) -> tuple[np.ndarray, float]:
    """State of every frame on the best path, and its score."""
    frames, count = emission.shape
    back = np.zeros((frames, count), dtype=np.int8)
    best = np.full(count, -np.inf)
    best[:2] = emission[0, :2]
    for t in range(1, frames):
        options = np.full((3, count), -np.inf)
        options[0] = best
        options[1, 1:] = best[:-1]
        options[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        back[t] = options.argmax(axis=0)
        best = options.max(axis=0) + emission[t]
    state = count - 1 if best[-1] >= best[-2] else count - 2
    score = best[state]
    path = np.empty(frames, dtype=np.int64)
    for t in range(frames - 1, -1, -1):
        path[t] = state
        state -= back[t, state]
    return path, score


def _spans(path: np.ndarray, count: int) -> tuple[tuple[int, int], ...]:
    starts = np.searchsorted(path, 2 * np.arange(count) + 1, side="left")
    ends = np.searchsorted(path, 2 * np.arange(count) + 1, side="right")
    return tuple((int(a), int(b)) for a, b in zip(starts, ends, strict=True))


def _states(tokens: Sequence[int], blank: int) -> tuple[np.ndarray, np.ndarray]:
    """Blank, token, blank, token ... blank; and which states may be reached over a blank."""
    tokens = np.asarray(tokens, dtype=np.int64)
    if (tokens == blank).any():
        raise AlignmentError("The tokens hold the blank; leave it out, it is put in by itself.")
    states = np.full(2 * len(tokens) + 1, blank)
    states[1::2] = tokens
    may_skip = np.zeros(len(states), dtype=bool)
    may_skip[3::2] = tokens[1:] != tokens[:-1]
    return states, may_skip


def _matrix(log_probs: np.ndarray) -> np.ndarray:
    matrix = np.asarray(log_probs)
    if matrix.ndim != 2:
        raise AlignmentError(
            f"log_probs has shape {matrix.shape}; expected (frames, vocab). "
            "Take one recording out of a batch first: log_probs[0]."
        )
    return matrix


def frame_times(
    frames: int, hop: int = 320, receptive_field: int = 400, sampling_rate: int = 16_000
) -> np.ndarray:
    """Centre of what each frame has seen, in seconds: ``(t * hop + receptive_field / 2) / rate``.

    Examples
    --------
    >>> frame_times(3).tolist()
    [0.0125, 0.0325, 0.0525]
    """
    return (np.arange(frames) * hop + receptive_field / 2) / sampling_rate


def frame_boundary(
    frame: int | np.ndarray,
    hop: int = 320,
    receptive_field: int = 400,
    sampling_rate: int = 16_000,
) -> float | np.ndarray:
    """Seconds half-way between the centres of ``frame - 1`` and ``frame``.

    Examples
    --------
    >>> frame_boundary(1)  # centres at 12.5 and 32.5 ms
    0.0225
    """
    return (frame * hop + (receptive_field - hop) / 2) / sampling_rate


def char_segments(
    log_probs: np.ndarray,
    tokens: Sequence[int] | None = None,
    vocabulary: Sequence[str] = VOCABULARY,
    blank: int = 0,
) -> list[Segment]:
    """Characters with their frames, spaces (``|``) among them.

    The tokens (by default those of the greedy path) are aligned by Viterbi rather than read from
    the peaks, and the blanks between two tokens are shared half and half.

    Examples
    --------
    >>> vocabulary = ("<pad>", "|", "o", "i")
    >>> matrix = np.log(np.eye(4)[[0, 2, 0, 0, 3, 0]] * 0.9 + 0.025)
    >>> [(s.text, s.start_frame, s.end_frame) for s in char_segments(matrix, None, vocabulary)]
    [('o', 1, 3), ('i', 3, 5)]
    """
    if tokens is None:
        tokens = collapse(greedy_path(log_probs), blank)
    spans = align(log_probs, tokens, blank).spans
    segments = []
    for i, (token, (first, last)) in enumerate(zip(tokens, spans, strict=True)):
        before = spans[i - 1][1] if i else first
        after = spans[i + 1][0] if i + 1 < len(spans) else last
        start, end = (before + first + 1) // 2, (last + after + 1) // 2
        segments.append(Segment(vocabulary[token], start, end, first, last))
    return segments


def word_segments(
    characters: Sequence[Segment], reach: int = 6
) -> list[tuple[Segment, tuple[Segment, ...]]]:
    """Group characters into words: each word with its characters.

    CTC emits a character for fewer frames than it sounds, so that a word read off its emissions
    is too short. Each word is widened into the gap on either side, at most to the middle of the
    gap and by at most ``reach`` frames, so that a pause between two words stays a pause.

    Parameters
    ----------
    characters : sequence of Segment
        From `char_segments`, spaces (``|``) among them.
    reach : int
        Frames that a word may take of a gap.

    Examples
    --------
    >>> letters = [Segment("o", 0, 2, 0, 2), Segment("|", 2, 6, 3, 5), Segment("a", 6, 8, 6, 8)]
    >>> [(w.text, w.start_frame, w.end_frame) for w, _ in word_segments(letters)]
    [('o', 0, 4), ('a', 4, 14)]
    """
    groups: list[list[Segment]] = [[]]
    for character in characters:
        if character.text == WORD_DELIMITER:
            groups.append([])
        elif character.text not in _SPECIAL:
            groups[-1].append(character)
    words = [tuple(g) for g in groups if g]
    if not words:
        return []
    inner = [(w[0].first_frame, w[-1].last_frame) for w in words]
    lefts = [0] + [(a[1] + b[0] + 1) // 2 for a, b in zip(inner[:-1], inner[1:], strict=True)]
    rights = lefts[1:] + [inner[-1][1] + reach]
    return [
        (_word(word, max(left, first - reach), min(right, last + reach)), word)
        for word, (first, last), left, right in zip(words, inner, lefts, rights, strict=True)
    ]


def _word(characters: tuple[Segment, ...], start: int, end: int) -> Segment:
    text = "".join(c.text for c in characters)
    return Segment(text, start, end, characters[0].first_frame, characters[-1].last_frame)
