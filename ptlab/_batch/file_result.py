"""What became of one file of a batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ptlab.transcription import Character, Timing, Transcription, Word

__all__ = ["STATUSES", "FileResult"]

STATUSES = (
    "ok",  # words were recognised
    "empty",  # nothing to write down: no bytes, no samples, or sound without a word in it
    "too_short",  # not one frame of the model
    "silent",  # no sample is 0.001 of full scale from the mean; what the model heard is kept
    "unreadable",  # missing, not allowed, cut short, damaged, NaN
    "unsupported",  # not sound, or of a kind that is not read
    "out_of_memory",  # even in the smallest windows
    "failed",  # anything else: error_type and message say what
)
"""What can become of a file; `FileResult` says when."""


@dataclass(frozen=True, repr=False)
class FileResult:
    """What became of one file: its status, always, and its text where there is one.

    Two results are equal if all but their seconds (``load_s``, ``model_s``, ``total_s``) are.

    Attributes
    ----------
    path : str
        The file as it was given; ``row 7`` for a row without a path.
    status : str
        One of `STATUSES`.
    text : str
    words : tuple of Word
    confidence : float or None
        Mean over the words; None without words.
    duration_s : float
        Length of the audio; 0 where it could not be read to its end.
    original_sampling_rate, original_channels : int or None
        What the file has; None where it could not be opened.
    was_resampled : bool
    load_s, model_s, total_s : float
        Seconds of work: reading, the file's share of its mini-batches (by all cores), and in all.
    windows : int
        Pieces in which the model heard it.
    error_type, message : str or None
        Name of the error, and what is wrong and what to do; None if nothing is.
    digest : str or None
        Hash of the content.
    downgrades : tuple of str
        What was made smaller for want of memory, where it can change the text.
    model : str
        Name of the model.
    calibrated : bool
        As in `Transcription`.

    Examples
    --------
    >>> FileResult("a.wav", "ok", "bom dia", confidence=0.8, duration_s=1.2)
    FileResult('a.wav', ok, 1.20 s, 'bom dia')
    >>> FileResult("b.wav", "unreadable", message="'b.wav' is cut short.")
    FileResult('b.wav', unreadable, "'b.wav' is cut short.")
    """

    path: str
    status: str
    text: str = ""
    words: tuple[Word, ...] = ()
    confidence: float | None = None
    duration_s: float = 0.0
    original_sampling_rate: int | None = None
    original_channels: int | None = None
    was_resampled: bool = False
    load_s: float = field(default=0.0, compare=False)
    model_s: float = field(default=0.0, compare=False)
    total_s: float = field(default=0.0, compare=False)
    windows: int = 0
    error_type: str | None = None
    message: str | None = None
    digest: str | None = None
    downgrades: tuple[str, ...] = ()
    model: str = ""
    calibrated: bool = False

    def __repr__(self) -> str:
        facts = [repr(self.path), self.status]
        if self.duration_s:
            facts.append(f"{self.duration_s:.2f} s")
        if self.text or self.message:
            facts.append(repr(self.text or self.message))
        return f"FileResult({', '.join(facts)})"

    def transcription(self) -> Transcription:
        """The same as a `Transcription`, for ``.to_srt()``, ``.to_frame()`` and the like.

        Examples
        --------
        >>> words = (Word("bom", 0.1, 0.4, 0.9), Word("dia", 0.45, 0.8, 0.7))
        >>> FileResult("a.wav", "ok", "bom dia", words).transcription().cues()
        [Cue(text='bom dia', start_s=0.1, end_s=0.8)]
        """
        timing = Timing(self.load_s, self.model_s, self.total_s)
        return Transcription(
            self.text, self.words, self.duration_s, self.model, self.windows, timing,
            self.calibrated,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON; `from_dict` is the way back.

        Examples
        --------
        >>> list(FileResult("a.wav", "silent").to_dict())[:3]
        ['path', 'status', 'text']
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> FileResult:
        """The result of which `to_dict` made ``row``; what it has besides is left out.

        Examples
        --------
        >>> result = FileResult("a.wav", "ok", "oi", (Word("oi", 0.1, 0.4, 0.9),))
        >>> FileResult.from_dict(result.to_dict()) == result
        True
        """
        known = {f.name: row[f.name] for f in fields(cls) if f.name in row}
        known["words"] = tuple(_word(w) for w in row["words"])
        known["downgrades"] = tuple(row["downgrades"])
        return cls(**known)


def _word(row: dict[str, Any]) -> Word:
    return Word(**{**row, "characters": tuple(Character(**c) for c in row["characters"])})
