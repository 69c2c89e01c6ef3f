"""What a stream tells: a text that may change, words that stay, an utterance that is over.

All times are in seconds from the beginning of the stream. ``audio_s`` is where in the audio the
step ended that found it, ``emitted_s`` when it was told: by the stream's clock, or the same as
``audio_s`` where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ptlab._metrics.edits import Edit
from ptlab.transcription import Word

__all__ = ["Commit", "Final", "Partial", "joined"]


@dataclass(frozen=True)
class Partial:
    """The utterance so far, the end of which may still change.

    Attributes
    ----------
    words : tuple of Word
    stable : int
        How many of the words, from the first, are committed.
    utterance : int
        Number of the utterance, from 0.

    Examples
    --------
    >>> words = (Word("bom", 0.1, 0.4, 0.9), Word("di", 0.5, 0.6, 0.3))
    >>> partial = Partial(words, 1, 0, audio_s=1.0, emitted_s=1.1)
    >>> partial.committed, partial.tentative, partial.text
    ('bom', 'di', 'bom di')
    """

    words: tuple[Word, ...]
    stable: int
    utterance: int
    audio_s: float
    emitted_s: float

    @property
    def committed(self) -> str:
        """The part that does not change any more."""
        return joined(self.words[: self.stable])

    @property
    def tentative(self) -> str:
        """The part that may change."""
        return joined(self.words[self.stable :])

    @property
    def text(self) -> str:
        """All of it."""
        return joined(self.words)


@dataclass(frozen=True)
class Commit:
    """Words that were added to what does not change any more.

    Examples
    --------
    >>> Commit((Word("bom", 0.1, 0.4, 0.9),), 0, audio_s=1.0, emitted_s=1.1).text
    'bom'
    """

    words: tuple[Word, ...]
    utterance: int
    audio_s: float
    emitted_s: float

    @property
    def text(self) -> str:
        """The new words."""
        return joined(self.words)


@dataclass(frozen=True)
class Final:
    """An utterance that is over, decoded once more as a whole.

    Attributes
    ----------
    words : tuple of Word
    committed : str
        What had been committed, word by word.
    changes : tuple of Edit
        What the last look at the whole changed in it; empty without refinement.
    start_s, end_s : float
        Where the utterance lies in the audio, silence around it included.

    Examples
    --------
    >>> final = Final(
    ...     (Word("dia", 0.1, 0.4, 0.9),), "tia", (Edit("S", "tia", "dia"),), 0,
    ...     start_s=0.0, end_s=2.0, audio_s=2.0, emitted_s=2.1)
    >>> final.text, len(final.changes)
    ('dia', 1)
    """

    words: tuple[Word, ...]
    committed: str
    changes: tuple[Edit, ...]
    utterance: int
    start_s: float
    end_s: float
    audio_s: float
    emitted_s: float

    @property
    def text(self) -> str:
        """The utterance."""
        return joined(self.words)


def joined(words: Sequence[Word]) -> str:
    """The text of words.

    Examples
    --------
    >>> joined([Word("bom", 0.1, 0.4, 0.9), Word("dia", 0.5, 0.9, 0.8)])
    'bom dia'
    """
    return " ".join(word.text for word in words)
