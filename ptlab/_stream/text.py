"""CTC whose frames come in pieces: words that are whole, and the frames of the word under way.

A word is whole when the delimiter after it has been seen. What is carried from one piece to the
next are the frames since that delimiter, so that a letter, or the blank between two equal letters,
may lie on a seam.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ptlab._stream.grid import Grid, Spelling
from ptlab.transcription import Word

if TYPE_CHECKING:
    from ptlab.transcribe import Transcriber

__all__ = ["StreamText", "found_words"]

LONGEST_WORD_S = 10.0  # frames without a delimiter that are held before they are called a word
KEPT_BLANKS = 5  # frames of silence that are kept before a word; its beginning may need some


def found_words(
    transcriber: Transcriber, grid: Grid, rows: np.ndarray, first: int, not_before_s: float = 0.0
) -> tuple[Word, ...]:
    """Words of log-probs (frames, vocab) that begin at frame ``first`` of the stream.

    Examples
    --------
    >>> from ptlab.transcribe import Transcriber
    >>> blanks = np.log(np.full((50, 46), 1e-3) + np.eye(46)[np.zeros(50, int)])
    >>> found_words(Transcriber("mini"), Grid(320, 400, 16_000), blanks, 0)
    ()
    """
    if not len(rows):
        return ()
    duration_s = grid.samples(len(rows)) / grid.sampling_rate
    shift_s, words = grid.seconds(first), []
    for word in transcriber.from_log_probs(rows, duration_s).words:
        words.append(_moved(word, shift_s, not_before_s))
        not_before_s = words[-1].end_s
    return tuple(words)


class StreamText:
    """The utterance under way: whole words, the word under way, and a tail that may change.

    Attributes
    ----------
    words : list of Word
        Whole words; only ever added to.
    tail : ndarray (frames, vocab)
        Frames that are not settled.
    first, done : int
        Frames at which the utterance began and up to which it is settled.
    """

    def __init__(self, transcriber: Transcriber, grid: Grid):
        model = transcriber.model
        self.spelling = Spelling.of(model.vocabulary, model.blank, model.word_delimiter)
        self.words: list[Word] = []
        self.first = self.done = self._last_letter = 0
        self._transcriber, self._grid = transcriber, grid
        self._rows = self.tail = np.zeros((0, len(model.vocabulary)), np.float32)
        self._end_s = 0.0  # of the last whole word

    @property
    def seen(self) -> int:
        """Frame up to which there is anything, settled or not."""
        return self.done + len(self.tail)

    @property
    def length_s(self) -> float:
        """Of the utterance, so far as it is settled."""
        return self._grid.seconds(self.done - self.first)

    def silence(self) -> tuple[float, bool]:
        """Seconds since the last letter, settled or not, and whether there was one."""
        letters, _ = self.spelling.read(self.tail)
        if len(letters):
            return self._grid.seconds(len(self.tail) - letters[-1] - 1), True
        said = bool(self.words) or self._last_letter > self._start
        return self._grid.seconds(self.seen - max(self.first, self._last_letter)), said

    def add(self, rows: np.ndarray, tail: np.ndarray) -> tuple[Word, ...]:
        """Take settled frames and a new tail; the words that are whole now."""
        self._rows, self.tail = np.concatenate([self._rows, rows]), tail
        self.done += len(rows)
        letters, spaces = self.spelling.read(self._rows)
        if len(letters):
            self._last_letter = self._start + int(letters[-1]) + 1
        ends = spaces[spaces > letters[0]] if len(letters) else spaces
        if len(ends):
            return self._take(int(ends[-1]) + 1)
        if not len(letters):
            self._rows = self._rows[max(0, len(self._rows) - KEPT_BLANKS) :].copy()
        elif len(self._rows) > self._grid.frames_in(LONGEST_WORD_S):
            return self._take(len(self._rows))
        return ()

    def settle(self) -> tuple[Word, ...]:
        """Settle all, the word under way and the tail, because nobody speaks any more."""
        return self.add(self.tail, self.tail[:0]) + self._take(len(self._rows))

    def tentative(self) -> tuple[Word, ...]:
        """The word under way and those of the tail."""
        rows = np.concatenate([self._rows, self.tail])
        return found_words(self._transcriber, self._grid, rows, self._start, self._end_s)

    def next_utterance(self) -> None:
        """Begin anew, with the word under way and the tail."""
        self.words, self.first = [], self._start

    def skip(self, frames: int) -> None:
        """Go on after audio that was not heard; all must be settled."""
        self.done += frames
        self._last_letter = self.done

    @property
    def _start(self) -> int:
        """First frame of the word under way."""
        return self.done - len(self._rows)

    def _take(self, frames: int) -> tuple[Word, ...]:
        rows, first = self._rows[:frames], self._start
        self._rows = self._rows[frames:].copy()
        words = found_words(self._transcriber, self._grid, rows, first, self._end_s)
        if words:
            self.words.extend(words)
            self._end_s = words[-1].end_s
        return words


def _moved(word: Word, shift_s: float, not_before_s: float) -> Word:
    """The same word later, none of its times before a given one."""

    def at(time_s: float) -> float:
        return max(round(time_s + shift_s, 4), not_before_s)

    characters = tuple(
        replace(c, start_s=at(c.start_s), end_s=at(c.end_s)) for c in word.characters
    )
    return replace(word, start_s=at(word.start_s), end_s=at(word.end_s), characters=characters)
