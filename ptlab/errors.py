"""The errors that ptlab raises: one root, one class a kind of trouble.

>>> import ptlab
>>> try:
...     ptlab.transcribe("lost.wav")
... except ptlab.PtlabError as error:
...     print(f"{type(error).__name__}: {error}")
AudioError: No file 'lost.wav'; check the path and the current folder.

Every message says what was given, what is accepted and what to do next.
"""

from __future__ import annotations

__all__ = [
    "AlignmentError",
    "AudioError",
    "DataError",
    "ModelError",
    "PtlabError",
    "TextError",
]


class PtlabError(Exception):
    """Root of all errors of ptlab: ``except PtlabError`` catches every one.

    Examples
    --------
    >>> from ptlab.errors import AudioError, PtlabError
    >>> issubclass(AudioError, PtlabError)
    True
    """


class AudioError(PtlabError):
    """Sound that cannot be read or used: missing, empty, NaN, wrong shape or rate.

    Attributes
    ----------
    kind : {"unreadable", "unsupported", "empty", "too_short"}
        What is wrong: missing or damaged, a format or type that is not read, no samples at all,
        or too few. A batch gives it as the status of the file.
    """

    def __init__(self, message: str, kind: str = "unreadable"):
        super().__init__(message)
        self.kind = kind


class TextError(PtlabError):
    """Text that cannot be normalised or written with a vocabulary."""


class ModelError(PtlabError):
    """A model that cannot be found, loaded or run."""


class DataError(PtlabError):
    """A corpus, file or column that is missing or not what it should be."""


class AlignmentError(PtlabError):
    """A text that does not fit the frames it should be aligned with."""
