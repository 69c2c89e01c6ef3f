"""The results of a batch on disk: one line of JSON a file, written as soon as the file is done.

A journal is a text file. Lines that begin with ``{"ptlab_journal"`` say with which model and
options the results after them were made; every other line is a result (`FileResult.to_dict`).
Results are found again by the hash of the file's content, so that a file that has changed, or a run
with another model, is done anew, and one that has moved is not.

Every line is on the disk (write, then fsync) before its file counts as done, so that ``kill -9``
and a power cut cost no more than what was under way. A last line that was torn is dropped when the
journal is opened again; a damaged line is skipped, and its file done again.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ptlab import __version__
from ptlab._batch.file_result import FileResult
from ptlab._speech.speech_model import digest_of_model
from ptlab.errors import DataError

__all__ = ["Entry", "Journal", "settings_of"]

logger = logging.getLogger("ptlab")

TRIED_AGAIN = ("unreadable", "unsupported", "out_of_memory", "failed")  # another day may be better
_HEAD = "ptlab_journal"
_MAGIC = b'{"ptlab_journal"'
_FORMAT = 1
_LOCKED_BYTE = 2**40  # Windows locks a part of a file, and nobody could read that part


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a result stands in a journal, and what a summary needs to know of it."""

    offset: int
    length: int
    status: str
    duration_s: float


class Journal:
    """Results on disk, open for one run.

    Parameters
    ----------
    path : path or None
        Made if it is not there, with its folder. None for a temporary one.
    settings : dict
        Plain values on which the text of a file depends: results made with others are not used.

    Attributes
    ----------
    known : dict of str to Entry
        By digest: what need not be done again.

    Raises
    ------
    DataError
        If the path is something else than a journal, or another run is writing it.

    Examples
    --------
    >>> with Journal(None, {"model": "mini"}) as journal:
    ...     entry = journal.write(FileResult("a.wav", "ok", "bom dia", digest="5f"))
    ...     journal.read(entry), journal.known["5f"] == entry
    (FileResult('a.wav', ok, 'bom dia'), True)
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: dict[str, Any]):
        self.path = None if path is None else Path(path)
        self.settings = json.loads(json.dumps(settings))  # as it will be when it is read back
        self.known: dict[str, Entry] = {}
        self._file = _opened(self.path)
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, result: FileResult) -> Entry:
        """Add a result, which is safe on the disk when this returns."""
        line = _encoded(result.to_dict())
        entry = Entry(self._append(line), len(line), result.status, result.duration_s)
        if result.digest:
            self.known[result.digest] = entry
        return entry

    def read(self, entry: Entry) -> FileResult:
        """The result that an entry stands for; also when the journal is closed."""
        if self.path is None:
            return _read(self._file, entry)
        try:
            with self.path.open("rb") as file:
                return _read(file, entry)
        except (OSError, ValueError) as error:
            raise DataError(
                f"The results are in {self.path}, which cannot be read any more ({error}). Put the "
                "journal back, or run the batch again."
            ) from error

    def close(self) -> None:
        """Let other runs in. A temporary journal stays until nothing refers to it any more."""
        if self.path is not None:
            self._file.close()  # which also gives up the lock

    def _load(self) -> None:
        ours = False  # whether the results that are being read are from our settings
        for offset, line in self._lines():
            try:
                row = json.loads(_decoded(line))
                if _HEAD in row:
                    ours = row.get("settings") == self.settings and row[_HEAD] == _FORMAT
                elif ours and row["digest"] and row["status"] not in TRIED_AGAIN:
                    entry = Entry(offset, len(line), row["status"], row["duration_s"])
                    self.known[row["digest"]] = entry
            except (ValueError, TypeError, KeyError):
                logger.warning("%s: a damaged line at byte %d is skipped.", self.path, offset)
        if not ours:
            self._append(_encoded({_HEAD: _FORMAT, "settings": self.settings}))

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Offset and content of every whole line; what is torn at the end is cut off."""
        offset = self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                if not offset and not line.startswith(_MAGIC[: len(line)]):
                    raise DataError(
                        f"{self.path} is not a journal of ptlab, and is left as it is. Give "
                        "another path."
                    )
                if not line.endswith(b"\n"):
                    self._file.truncate(offset)
                    return
                yield offset, line
                offset += len(line)

    def _append(self, line: bytes) -> int:
        offset = self._file.seek(0, os.SEEK_END)
        written = 0
        while written < len(line):
            written += self._file.write(line[written:])
        if self.path is not None:
            os.fsync(self._file.fileno())
        return offset


def settings_of(transcriber: Any) -> dict[str, Any]:
    """What the results of a `Transcriber` depend on, beside the sound: the head of a journal.

    Examples
    --------
    >>> import ptlab
    >>> sorted(settings_of(ptlab.Transcriber("mini")))
    ['calibration', 'dtype', 'model', 'offset_s', 'overlap_s', 'ptlab', 'window_s']
    """
    fitted = transcriber.calibrator
    return {
        "ptlab": __version__,
        "model": digest_of_model(transcriber.model),
        "dtype": str(getattr(transcriber.model, "dtype", None)),
        "window_s": transcriber.window_s,
        "overlap_s": transcriber.overlap_s,
        "calibration": fitted.to_dict() if fitted else None,
        "offset_s": transcriber.offset_s,
    }


def _opened(path: Path | None) -> BinaryIO:
    """The file, without a buffer and with a lock, or a temporary one."""
    if path is None:
        return tempfile.TemporaryFile(buffering=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise DataError(f"The journal {path} cannot be written: {error.strerror}.") from error
    try:
        _lock(file)
    except (BlockingIOError, PermissionError) as error:
        file.close()
        raise DataError(
            f"The journal {path} is being written by another run. Wait until it has ended, or give "
            "another path."
        ) from error
    except OSError as error:  # some network disks have no locks
        logger.warning("%s cannot be locked (%s): start no second run on it.", path, error.strerror)
    return file


def _lock(file: BinaryIO) -> None:
    """Lock, or raise `BlockingIOError` or `PermissionError`; the system unlocks a dead process."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read(file: BinaryIO, entry: Entry) -> FileResult:
    file.seek(entry.offset)
    return FileResult.from_dict(json.loads(_decoded(file.read(entry.length))))


# Names of files may hold bytes that are not UTF-8, which Python keeps as lone surrogates.
def _encoded(row: dict[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "surrogatepass")
