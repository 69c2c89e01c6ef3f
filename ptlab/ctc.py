"""CTC: from a matrix of log-probabilities to text, times and alignments.

>>> import numpy as np
>>> import ptlab
>>> vocabulary = ("<pad>", "|", "o", "i")
>>> log_probs = np.log(np.eye(4)[[0, 2, 2, 0, 3, 1]] * 0.96 + 0.01)  # six frames, sure of one each
>>> path = ptlab.greedy_path(log_probs)
>>> path.tolist(), ptlab.collapse(path), ptlab.decode(log_probs, vocabulary)
([0, 2, 2, 0, 3, 1], [2, 3, 1], 'oi')
>>> ptlab.align(log_probs, [2, 3]).spans  # frames in which "o" and "i" are said
((1, 3), (4, 5))

Pure functions on arrays ``(frames, vocab)``; numpy is all they need. A *path* names one token a
frame, blanks among them; collapsing it (repeats merged, then blanks dropped) gives the tokens.

References
----------
Graves et al. (2006), "Connectionist Temporal Classification", ICML.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ptlab._speech.lattice import Alignment, align, as_matrix, forward_log_prob
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
    "greedy_alignment",
    "greedy_path",
    "tokens_to_text",
    "word_segments",
]

WORD_DELIMITER = "|"
# Measured on the dev split's true times: a letter is emitted soon after its sound begins, and up to
# 0.1 s before a last sound has died away; words at a pause need little in front and more behind.
LEAD_FRAMES, TAIL_FRAMES = 1, 4
SPACES = {WORD_DELIMITER, " "}  # some models have the space itself for a delimiter
SPECIAL = {"<pad>", "<s>", "</s>", "[PAD]"}


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

    Examples
    --------
    >>> letter = Segment("ã", start_frame=4, end_frame=9, first_frame=5, last_frame=7)
    >>> letter.last_frame - letter.first_frame  # frames that spell it
    2
    """

    text: str
    start_frame: int
    end_frame: int
    first_frame: int
    last_frame: int


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
    return as_matrix(log_probs).argmax(axis=1)


def collapse(
    path: Sequence[int] | np.ndarray, blank: int = 0, previous: int | None = None
) -> list[int]:
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
    joined = "".join(x for x in letters if x not in SPECIAL)
    return " ".join(joined.replace(WORD_DELIMITER, " ").split())


def decode(log_probs: np.ndarray, vocabulary: Sequence[str] = VOCABULARY, blank: int = 0) -> str:
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


def greedy_alignment(log_probs: np.ndarray, blank: int = 0) -> Alignment:
    """The greedy path as the alignment of its own text.

    No search is needed: the best of all paths is also the best of those that spell what it spells.

    Examples
    --------
    >>> matrix = np.log(np.eye(3)[[0, 2, 2, 0, 1]] * 0.9 + 0.1 / 3)
    >>> greedy_alignment(matrix).tokens, greedy_alignment(matrix).spans
    ((2, 1), ((1, 3), (4, 5)))
    """
    path, matrix = greedy_path(log_probs), as_matrix(log_probs)
    score = float(matrix.max(axis=1).sum()) if len(path) else 0.0
    return path_alignment(path, score, blank)


def path_alignment(path: np.ndarray, score: float, blank: int = 0) -> Alignment:
    """A path ``(frames,)`` and its score as the alignment of what it spells.

    Examples
    --------
    >>> path_alignment(np.array([0, 2, 2, 0, 1]), -0.5).spans
    ((1, 3), (4, 5))
    """
    starts = np.flatnonzero(np.diff(path, prepend=-1)).tolist()
    runs = [r for r in itertools.pairwise([*starts, len(path)]) if path[r[0]] != blank]
    return Alignment(tuple(int(path[first]) for first, _ in runs), tuple(runs), score)


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
    tokens: Sequence[int] | np.ndarray | None = None,
    vocabulary: Sequence[str] = VOCABULARY,
    blank: int = 0,
) -> list[Segment]:
    """Characters with their frames, spaces (``|``) among them.

    The tokens are aligned by Viterbi (`align`), those of the greedy path, which are the default,
    by `greedy_alignment`. The blanks between two tokens are shared half and half.

    Examples
    --------
    >>> vocabulary = ("<pad>", "|", "o", "i")
    >>> matrix = np.log(np.eye(4)[[0, 2, 0, 0, 3, 0]] * 0.9 + 0.025)
    >>> [(s.text, s.start_frame, s.end_frame) for s in char_segments(matrix, None, vocabulary)]
    [('o', 1, 3), ('i', 3, 5)]
    """
    if tokens is None:
        found = greedy_alignment(log_probs, blank)
    else:
        found = align(log_probs, tokens, blank)
    return alignment_segments(found, vocabulary)


def alignment_segments(found: Alignment, vocabulary: Sequence[str] = VOCABULARY) -> list[Segment]:
    """The characters of an alignment, the blanks between two of them shared half and half.

    Examples
    --------
    >>> oi = Alignment((2, 3), ((1, 2), (4, 5)), -0.5)
    >>> [(s.text, s.start_frame, s.end_frame) for s in alignment_segments(oi, ("", "|", "o", "i"))]
    [('o', 1, 3), ('i', 3, 5)]
    """
    segments, spans = [], found.spans
    for i, (token, (first, last)) in enumerate(zip(found.tokens, spans, strict=True)):
        before = spans[i - 1][1] if i else first
        after = spans[i + 1][0] if i + 1 < len(spans) else last
        start, end = (before + first + 1) // 2, (last + after + 1) // 2
        segments.append(Segment(vocabulary[token], start, end, first, last))
    return segments


def word_segments(
    characters: Sequence[Segment], lead: int = LEAD_FRAMES, tail: int = TAIL_FRAMES
) -> list[tuple[Segment, tuple[Segment, ...]]]:
    """Group characters into words: each word with its characters.

    CTC emits a character for fewer frames than it sounds, so that a word read off its emissions
    is too short. Each word is widened into the gap on either side, at most to the middle of the
    gap, and by at most ``lead`` frames before and ``tail`` frames after, so that a pause between
    two words stays a pause. Its first and last character go with it.

    Parameters
    ----------
    characters : sequence of Segment
        From `char_segments`, spaces (``|``) among them.
    lead, tail : int
        Frames that a word may take of the gap before it and after it.

    Examples
    --------
    >>> letters = [Segment("o", 0, 2, 0, 2), Segment("|", 2, 6, 3, 5), Segment("a", 6, 8, 6, 8)]
    >>> [(w.text, w.start_frame, w.end_frame) for w, _ in word_segments(letters)]
    [('o', 0, 4), ('a', 5, 12)]
    """
    groups: list[list[Segment]] = [[]]
    for character in characters:
        if character.text in SPACES:
            groups.append([])
        elif character.text not in SPECIAL:
            groups[-1].append(character)
    words = [g for g in groups if g]
    if not words:
        return []
    inner = [(w[0].first_frame, w[-1].last_frame) for w in words]
    middles = [(a[1] + b[0] + 1) // 2 for a, b in itertools.pairwise(inner)]
    lefts, rights = [0, *middles], [*middles, inner[-1][1] + tail]
    return [
        _word(word, max(left, first - lead), min(right, last + tail))
        for word, (first, last), left, right in zip(words, inner, lefts, rights, strict=True)
    ]


def _word(characters: list[Segment], start: int, end: int) -> tuple[Segment, tuple[Segment, ...]]:
    """A word of these frames, and its characters, the outer two stretched to its edges."""
    characters[0] = replace(characters[0], start_frame=start)
    characters[-1] = replace(characters[-1], end_frame=end)
    text = "".join(c.text for c in characters)
    word = Segment(text, start, end, characters[0].first_frame, characters[-1].last_frame)
    return word, tuple(characters)
