"""`transcribe_files` on many machines: a stage of Ray Data, with one model in every worker.

>>> import ptlab
>>> report = ptlab.transcribe_files_ray("entrevistas", workers=4, gpus=1)  # doctest: +SKIP

In a pipeline of your own, ``dataset.map_batches(ptlab.RayTranscriber, batch_size=16, ...)``; one
worker, without Ray:

>>> clips = ptlab.load_corpus("test").frame.file[:2].to_numpy()
>>> rows = ptlab.RayTranscriber("mini")({"path": clips})
>>> rows["status"].tolist()
['ok', 'ok']

Ray starts the workers, gives them files and replaces those that die. The results come back to the
one process that called, which alone writes the journal: workers need to see the files, not it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pandas as pd

from ptlab._batch.file_result import FileResult
from ptlab._batch.inputs import find_sources
from ptlab._batch.journal import Journal, settings_of
from ptlab._batch.ledger import Ledger
from ptlab._batch.progress import Progress
from ptlab._batch.ray_worker import Begun, RayTranscriber, Worker
from ptlab._batch.reader import digest_of
from ptlab._batch.stop_signals import sigterm_interrupts
from ptlab.batch import JOBS, BatchReport
from ptlab.errors import PtlabError
from ptlab.models import default_model
from ptlab.transcribe import as_transcriber

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
    positive: dict[str, float] = {
        "workers": workers,
        "files_per_task": files_per_task,
        "jobs": jobs,
    }
    if batch_s is not None:
        positive["batch_s"] = batch_s
    for option, number in {**positive, "cpus": cpus, "gpus": gpus}.items():
        if number < 0 or (number == 0 and option in positive):
            raise PtlabError(f"{option}={number} is too low.")
    ray, start, interrupted = _ray(), time.perf_counter(), False
    sources = find_sources(inputs, column)
    options: dict[str, Any] = {
        "model": default_model() if model is None else model,
        "window_s": window_s,
        "overlap_s": overlap_s,
        "device": "auto" if gpus else "cpu",
        "dtype": dtype,
    }
    transcriber = as_transcriber(**options)  # to know soon that it loads; workers have their own
    name, settings = transcriber.model.name, {} if journal is None else settings_of(transcriber)
    del transcriber
    stage = {"folder": os.getcwd(), "get": sources.get, **options, "batch_s": batch_s, "jobs": jobs}
    with Journal(journal, settings) as written, Progress(sources, progress) as bar:
        ledger, downgrades, notes = Ledger(sources, written, bar), [], []
        try:
            with sigterm_interrupts():
                if todo := _unknown(ledger, jobs):
                    with _running(ray):
                        rows = _rows(ray, todo, stage, workers, files_per_task, cpus, gpus)
                        with closing(rows):  # so that the workers end at once, whatever happens
                            for row in rows:
                                result = FileResult.from_dict(row["result"])
                                ledger.write(row["number"], result, twins=row["number"])
                                downgrades += row["downgrades"]
                                notes += [note for note in row["notes"] if note not in notes]
        except KeyboardInterrupt:
            interrupted = True
        except ray.exceptions.RayError as error:
            raise PtlabError(f"Ray gave up; the journal has what was done. {error}") from error
    return ledger.report(
        name,
        time.perf_counter() - start,
        downgrades=downgrades,
        notes=notes,
        interrupted=interrupted,
    )


def _unknown(ledger: Ledger, jobs: int) -> list[int]:
    """Numbers of the files that must be heard: neither in the journal nor there twice."""
    todo: list[int] = []
    first: dict[str, int] = {}

    def begin(number: int) -> tuple[str, str | None]:
        source = ledger.source(number)
        return source.name, digest_of(source.content)

    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(begin, range(ledger.sources.count))
        for number, (name, digest) in enumerate(found):
            if ledger.recall(number, name, digest):
                continue
            if digest and first.setdefault(digest, number) != number:
                ledger.add_twin(first[digest], number, name)
            else:
                todo.append(number)
    return todo


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
