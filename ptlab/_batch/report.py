"""What became of a batch: a result for every input, and the forms it can be written in."""

from __future__ import annotations

import csv
import html
import json
import os
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ptlab._batch.file_result import STATUSES, FileResult
from ptlab._batch.journal import Entry
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BatchReport", "StoredResults"]

LISTED = 10  # files that are not ok, in the printed summary
COLUMNS = 100  # what JupyterLab shows beside its files on a laptop; it breaks the rest inside words
SUBTITLES: dict[str, Callable[[FileResult], str]] = {
    "srt": lambda result: result.transcription().to_srt(),
    "vtt": lambda result: result.transcription().to_vtt(),
    "txt": lambda result: result.text + "\n",
}


class StoredResults(Sequence[FileResult]):
    """Results that stay on disk, in the journal, and are read when they are asked for.

    Parameters
    ----------
    entries : sequence of (str, Entry)
        Name of each file, and where its result is.
    read : callable
        From an entry to a result: `Journal.read`.
    """

    def __init__(self, entries: Sequence[tuple[str, Entry]], read: Callable[[Entry], FileResult]):
        self.entries, self._read = entries, read

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._get(*pair) for pair in self.entries[index]]
        return self._get(*self.entries[index])

    def _get(self, name: str, entry: Entry) -> FileResult:
        result = self._read(entry)
        if result.path == name:
            return result
        message = result.message and result.message.replace(repr(result.path), repr(name))
        return replace(result, path=name, message=message)  # the same content elsewhere

    def __repr__(self) -> str:
        return f"[{len(self)} results]"


@dataclass(frozen=True, repr=False, eq=False)
class BatchReport:
    """What became of the files of a batch, one `FileResult` each, in the order of the inputs.

    ``len(report)``, ``report[0]`` and ``for result in report`` go through the results. They are
    read from the journal when they are asked for, so that a report of any size is small.

    Attributes
    ----------
    results : StoredResults
    model : str
        Name of the model.
    seconds : float
        Of this run, by the clock.
    heard_s : float
        Seconds of audio that this run transcribed; what the journal had is not in it.
    downgrades : tuple of str
        What was made smaller because memory ran out.
    notes : tuple of str
        What else is worth knowing.
    interrupted : bool
        Whether the run was stopped before its end.
    missing : tuple of str
        Files that an interrupted run did not finish. They have no result.

    Examples
    --------
    >>> import ptlab
    >>> report = ptlab.transcribe_files(["no such file.wav"], progress=False)
    >>> report.counts, len(report), report[0].status
    ({'unreadable': 1}, 1, 'unreadable')
    """

    results: StoredResults
    model: str
    seconds: float
    heard_s: float = 0.0
    downgrades: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[FileResult]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    @property
    def counts(self) -> dict[str, int]:
        """Files of each status, of those that occur."""
        found = Counter(entry.status for _, entry in self.results.entries)
        return {status: found[status] for status in STATUSES if found[status]}

    @property
    def audio_s(self) -> float:
        """Length of all files that have a result, in seconds."""
        return sum(entry.duration_s for _, entry in self.results.entries)

    @property
    def speed(self) -> float:
        """Seconds of audio that were transcribed in a second."""
        return self.heard_s / self.seconds if self.seconds else 0.0

    @property
    def failed(self) -> list[FileResult]:
        """Results that are not ``ok``: what to look at."""
        return list(self._not_ok())

    def _not_ok(self) -> Iterator[FileResult]:
        statuses = (entry.status for _, entry in self.results.entries)
        return (self.results[i] for i, status in enumerate(statuses) if status != "ok")

    def to_frame(self) -> pd.DataFrame:
        """A row a file; ``words`` is their number.

        Examples
        --------
        >>> import ptlab
        >>> report = ptlab.transcribe_files(["no such file.wav"], progress=False)
        >>> report.to_frame().status.tolist()
        ['unreadable']
        """
        import pandas as pd

        return pd.DataFrame([_row(result) for result in self], columns=list(_row(_NOTHING)))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows of `to_frame`, one by one."""
        with _new(path, newline="") as file:
            table = csv.DictWriter(file, list(_row(_NOTHING)))
            table.writeheader()
            table.writerows(_row(result) for result in self)

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write everything, words and letters with their times too, a line of JSON a file."""
        with _new(path) as file:
            for result in self:
                file.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")

    def write_subtitles(self, folder: str | os.PathLike[str], format: str = "srt") -> list[Path]:
        """Write a file of subtitles, or of plain text, for every result that has words.

        Parameters
        ----------
        folder : path
            Made if it is not there. Folders below the common one of the inputs are kept.
        format : {"srt", "vtt", "txt"}

        Returns
        -------
        list of Path
            ``talk.srt`` for ``talk.wav``; ``talk.wav.srt`` where two inputs would be ``talk.srt``.

        Raises
        ------
        PtlabError
            If there is no such format.
        """
        if format not in SUBTITLES:
            raise PtlabError(f"Format {format!r}; choose one of {', '.join(SUBTITLES)}.")
        written = []
        targets = _targets([name for name, _ in self.results.entries], format)
        for result, target in zip(self, targets, strict=True):
            if result.words:
                path = Path(folder) / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with _new(path) as file:
                    file.write(SUBTITLES[format](result))
                written.append(path)
        return written

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items()) or "no files"
        lines = [
            f"{len(self)} files: {counts}",
            f"{_clock(self.audio_s)} of audio; {_clock(self.heard_s)} of it transcribed in "
            f"{_clock(self.seconds)}, {self.speed:.1f} times real time, by {self.model!r}",
        ]
        if self.interrupted:
            lines.append(f"Interrupted: {len(self.missing)} files have no result yet.")
        lines += [*self.downgrades, *self.notes]
        not_ok = len(self) - self.counts.get("ok", 0)
        for _, result in zip(range(LISTED), self._not_ok(), strict=False):
            line = f"  {result.status}: {result.path}: {result.message or ''}"
            lines += textwrap.wrap(
                line, COLUMNS, subsequent_indent="    ", break_long_words=False,
                break_on_hyphens=False,
            )  # fmt: skip
        if not_ok > LISTED:
            lines.append(f"  and {not_ok - LISTED} more; .failed has them all")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<BatchReport\n{self}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


_NOTHING = FileResult("", "ok")


def _row(result: FileResult) -> dict[str, Any]:
    row = {name: getattr(result, name) for name in result.__dataclass_fields__}
    return {**row, "words": len(result.words), "downgrades": "; ".join(result.downgrades)}


def _new(path: str | os.PathLike[str], newline: str | None = None) -> TextIO:
    try:
        # Names that are not UTF-8 stay so.
        return open(path, "w", encoding="utf-8", errors="surrogateescape", newline=newline)
    except OSError as error:
        raise PtlabError(f"{path} cannot be written: {error.strerror}.") from error


def _targets(names: Sequence[str], suffix: str) -> list[Path]:
    """A file for every name, below one folder; the same one only for the same name."""
    paths = [Path(os.path.abspath(os.path.expanduser(name))) for name in names]
    common = os.path.commonpath([p.parent for p in paths]) if paths else ""
    relative = [p.relative_to(common) for p in paths]
    wanted = Counter(p.with_suffix("") for p in set(relative))
    return [
        p.with_suffix(f".{suffix}") if wanted[p.with_suffix("")] == 1
        else p.with_name(f"{p.name}.{suffix}")
        for p in relative
    ]  # fmt: skip


def _clock(seconds: float) -> str:
    """
    >>> _clock(3_725.0), _clock(59.94), _clock(0.25)
    ('1:02:05', '59.9 s', '0.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
