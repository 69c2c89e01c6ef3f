"""`transcribe_files` on many machines: a stage of Ray Data, with one model in every worker.

Ray starts the workers, gives them files and replaces those that die. The results come back to the
one process that called, which alone writes the journal: workers need to see the files, not it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pandas as pd

from ptlab.batch import JOBS, BatchReport, _stop_signals, _transcriber
from ptlab.batch_inputs import Source, Sources, find_sources
from ptlab.batch_progress import Progress
from ptlab.batch_reader import digest_of
from ptlab.batch_report import StoredResults
from ptlab.batch_run import _signals_held
from ptlab.errors import PtlabError
from ptlab.file_result import FileResult
from ptlab.journal import Entry, Journal, settings_of
from ptlab.models import default_model
from ptlab.ray_worker import Begun, RayTranscriber, Worker, source_of

__all__ = ["RayTranscriber", "transcribe_files_ray"]


def transcribe_files_ray(
    inputs: Any,
    model: Any = None,
    *,
    workers: int = 2,
    cpus: float = 1,
    gpus: float = 0,
    files_per_task: int = 16,
    column: str | None = None,
    journal: str | os.PathLike[str] | None = None,
    batch_s: float | None = None,
    window_s: float | None = None,
    overlap_s: float | None = None,
    jobs: int | None = None,
    progress: bool = True,
    dtype: str = "auto",
) -> BatchReport:
    """Do what `transcribe_files` does, with workers of Ray on one machine or many.

    If Ray does not run yet, it is started on this machine, and stopped at the end.

    Parameters
    ----------
    inputs, column, journal, batch_s, window_s, overlap_s, jobs, progress, dtype
        As in `transcribe_files`. Every worker must be able to open the files; this process hashes
        them, to find what the journal knows and what is there twice. ``jobs`` are for each worker.
    model
        As in `transcribe_files`. Every worker loads it, unless it is a loaded one, which is sent.
    workers : int
        Models at work.
    cpus, gpus : float
        What each of them has; half a GPU is possible.
    files_per_task : int
        Files that go to a worker, and whose results come back and are written, together.
        When a worker dies, Ray gives them to another.

    Returns
    -------
    BatchReport
        Of the same results, in the order of the inputs. A file in which one worker after another
        dies is ``failed``.

    Raises
    ------
    PtlabError
        If Ray is missing or gives up, or as in `transcribe_files`.

    Examples
    --------
    >>> import ptlab
    >>> report = ptlab.transcribe_files_ray("interviews", workers=4)  # doctest: +SKIP
    """
    jobs = JOBS if jobs is None else jobs
    positive = {"workers": workers, "files_per_task": files_per_task, "jobs": jobs}
    if batch_s is not None:
        positive["batch_s"] = batch_s
    for option, number in {**positive, "cpus": cpus, "gpus": gpus}.items():
        if number < 0 or (number == 0 and option in positive):
            raise PtlabError(f"{option}={number} is too low.")
    ray, start, interrupted = _ray(), time.perf_counter(), False
    sources = find_sources(inputs, column)
    options = {
        "model": default_model() if model is None else model,
        "window_s": window_s,
        "overlap_s": overlap_s,
        "device": "auto" if gpus else "cpu",
        "dtype": dtype,
    }
    transcriber = _transcriber(**options)  # to know soon that it loads; workers have their own
    name, settings = transcriber.model.name, {} if journal is None else settings_of(transcriber)
    del transcriber
    stage = {"folder": os.getcwd(), "get": sources.get, **options, "batch_s": batch_s, "jobs": jobs}
    with Journal(journal, settings) as written, Progress(sources, progress) as bar:
        run = _Run(sources, written, bar)
        try:
            with _stop_signals():
                if todo := run.recall(jobs):
                    with _running(ray):
                        rows = _rows(ray, todo, stage, workers, files_per_task, cpus, gpus)
                        with closing(rows):  # so that the workers end at once, whatever happens
                            for row in rows:
                                run.take(row)
        except KeyboardInterrupt:
            interrupted = True
        except ray.exceptions.RayError as error:
            raise PtlabError(f"Ray gave up; the journal has what was done. {error}") from error
    return run.report(name, time.perf_counter() - start, interrupted)


class _Run:
    """The process that calls: what it knows already, and what comes back."""

    def __init__(self, sources: Sources, journal: Journal, progress: Progress):
        self.sources, self.journal, self.progress = sources, journal, progress
        self.entries: dict[int, tuple[str, Entry]] = {}
        self.twins: dict[int, list[int]] = defaultdict(list)  # of the same content, by the first
        self.heard_s, self.downgrades, self.notes = 0.0, [], list(sources.notes)

    def recall(self, jobs: int) -> list[int]:
        """Numbers of the files that must be heard; what the journal knows is done."""
        todo, first = [], {}
        with ThreadPoolExecutor(jobs) as pool:
            for number, digest in enumerate(pool.map(self._digest, range(self.sources.count))):
                if digest in self.journal.known:
                    self._note(number, self.journal.known[digest])
                elif digest and first.setdefault(digest, number) != number:
                    self.twins[first[digest]].append(number)
                else:
                    todo.append(number)
        if self.entries:
            self.notes.append(f"{len(self.entries)} files were done before, says the journal.")
        return todo

    def take(self, row: dict[str, Any]) -> None:
        """Write down what a worker made of a file."""
        number, result = row["number"], FileResult.from_dict(row["result"])
        with _signals_held():
            entry = self.journal.write(result)
            self._note(number, entry, result.duration_s if result.windows else 0.0)
            for twin in self.twins.pop(number, ()):
                self._note(twin, entry)
        self.downgrades += row["downgrades"]
        self.notes += [note for note in row["notes"] if note not in self.notes]

    def report(self, model: str, seconds: float, interrupted: bool) -> BatchReport:
        numbers = range(self.sources.count)
        done = [self.entries[n] for n in numbers if n in self.entries]
        missing = tuple(self._source(n).name for n in numbers if n not in self.entries)
        return BatchReport(
            StoredResults(done, self.journal.read), model, seconds, self.heard_s,
            tuple(self.downgrades), tuple(self.notes), interrupted, missing,
        )  # fmt: skip

    def _source(self, number: int) -> Source:
        return source_of(self.sources.get, number)

    def _digest(self, number: int) -> str | None:
        return digest_of(self._source(number).content)

    def _note(self, number: int, entry: Entry, heard_s: float = 0.0) -> None:
        self.entries[number] = (self._source(number).name, entry)
        self.heard_s += heard_s
        self.progress.done(number, entry, heard_s)


def _rows(
    ray: Any,
    todo: list[int],
    stage: dict[str, Any],
    workers: int,
    files_per_task: int,
    cpus: float,
    gpus: float,
) -> Generator[dict[str, Any], None, None]:
    """What `Worker` says of each file, as soon as its task is done."""
    starts = range(0, len(todo), files_per_task)
    tasks = [pd.DataFrame({"number": todo[i : i + files_per_task]}) for i in starts]
    rows = ray.data.from_pandas(tasks).map_batches(
        Worker,
        fn_constructor_kwargs={**stage, "begun": ray.remote(num_cpus=0)(Begun).remote()},
        batch_size=files_per_task,
        # One task at a time: what waits at a worker that died, no other worker would take.
        compute=ray.data.ActorPoolStrategy(
            size=min(workers, len(tasks)), max_tasks_in_flight_per_actor=1
        ),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    rows.context.enable_progress_bars = False
    rows.context.print_on_execution_start = False
    for batch in rows.iter_batches(batch_size=None, prefetch_batches=0):
        yield from map(json.loads, batch["row"])


@contextmanager
def _running(ray: Any) -> Iterator[None]:
    """Ray, as it runs already or, else, on this machine and for as long as this lasts."""
    if ray.is_initialized():
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(include_dashboard=False, logging_level="WARNING", log_to_driver=False)
        if main:
            signal.signal(signal.SIGTERM, before)  # Ray's leaves no time for a report
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise PtlabError(f'Ray is missing ({error}): pip install "ptlab[ray]"') from error
    return ray
