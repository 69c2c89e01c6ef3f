"""What is done of a batch: in the journal, on the bar, and in the report at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from ptlab._batch.file_result import FileResult
from ptlab._batch.inputs import Source, Sources, source_of
from ptlab._batch.journal import Entry, Journal
from ptlab._batch.progress import Progress
from ptlab._batch.report import BatchReport, StoredResults
from ptlab._batch.stop_signals import signals_held

__all__ = ["Ledger"]


class Ledger:
    """Keeps the results of a batch, by the numbers of its files.

    Parameters
    ----------
    sources : Sources
    journal : Journal
    progress : Progress

    Attributes
    ----------
    entries : dict of int to (str, Entry)
        Name and result of each file that is done, by its number.
    heard_s : float
        Seconds of audio that the model has heard.

    Examples
    --------
    >>> sources = Sources(1, lambda number: Source("a.wav", "a.wav"))
    >>> with Journal(None, {}) as journal, Progress(sources, show=False) as bar:
    ...     ledger = Ledger(sources, journal, bar)
    ...     ledger.write(0, FileResult("a.wav", "ok", "oi", digest="5f"))
    ...     ledger.report("mini", seconds=1.0).counts
    {'ok': 1}
    """

    def __init__(self, sources: Sources, journal: Journal, progress: Progress):
        self.sources, self.journal, self.progress = sources, journal, progress
        self.heard_s = 0.0
        self.entries: dict[int, tuple[str, Entry]] = {}
        self._before, self._resumed = frozenset(journal.known), 0
        self._twins: dict[Hashable, list[tuple[int, str]]] = defaultdict(list)

    def source(self, number: int) -> Source:
        """A file; one without content if its row cannot be read."""
        return source_of(self.sources.get, number)

    def recall(self, number: int, name: str, digest: str | None) -> bool:
        """Count a file as done if the journal knows its content; whether it does."""
        entry = None if digest is None else self.journal.known.get(digest)
        if entry is not None:
            self._resumed += digest in self._before
            self._note(number, name, entry)
        return entry is not None

    def add_twin(self, of: Hashable, number: int, name: str) -> None:
        """A file of the same content as one that is under way will have its result."""
        self._twins[of].append((number, name))

    def write(self, number: int, result: FileResult, twins: Hashable = None) -> None:
        """Keep a result, which is then that of the twins ``of`` this key too."""
        heard_s = result.duration_s if result.windows else 0.0
        with signals_held():  # what is written to the journal must also be in the report
            entry = self.journal.write(result)
            self._note(number, result.path, entry, heard_s)
            for other, name in self._twins.pop(twins, ()):
                self._note(other, name, entry)

    def report(
        self,
        model: str,
        seconds: float,
        *,
        downgrades: Sequence[str] = (),
        notes: Sequence[str] = (),
        interrupted: bool = False,
    ) -> BatchReport:
        """All that is done, in the order of the inputs, and the names of what is not."""
        numbers = range(self.sources.count)
        done = [self.entries[n] for n in numbers if n in self.entries]
        resumed = [f"{self._resumed} files were done before, says the journal."]
        return BatchReport(
            StoredResults(done, self.journal.read),
            model,
            seconds,
            self.heard_s,
            tuple(downgrades),
            (*self.sources.notes, *notes, *(resumed if self._resumed else ())),
            interrupted,
            tuple(self.source(n).name for n in numbers if n not in self.entries),
        )

    def _note(self, number: int, name: str, entry: Entry, heard_s: float = 0.0) -> None:
        self.entries[number] = (name, entry)
        self.heard_s += heard_s
        self.progress.done(number, entry, heard_s)
