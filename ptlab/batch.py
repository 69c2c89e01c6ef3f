"""Many files to text: every input gets a result, whatever it is and whatever happens.

>>> import ptlab
>>> clips = ptlab.load_corpus("dev").frame.file[:3].tolist()
>>> report = ptlab.transcribe_files([*clips, "lost.wav"], progress=False)
>>> report.counts
{'ok': 3, 'unreadable': 1}
>>> doubtful = report.to_frame().sort_values("confidence")  # what to listen to first
>>> print(report.failed[0].message)
No file 'lost.wav'; check the path and the current folder.

Threads read and resample (`ptlab._batch.reader`); windows of several files are put together into
mini-batches of similar lengths (`ptlab.minibatches`); each file is put together again from
its windows, decoded as `Transcriber` does it (`ptlab._batch.run`), and written to a journal at once
(`ptlab._batch.journal`). What is held in memory depends on ``batch_s``, not on the number of files
or their length.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ptlab._batch.file_result import STATUSES, FileResult
from ptlab._batch.inputs import find_sources
from ptlab._batch.journal import Journal, settings_of
from ptlab._batch.ledger import Ledger
from ptlab._batch.progress import Progress
from ptlab._batch.report import BatchReport
from ptlab._batch.run import BatchRun
from ptlab._batch.stop_signals import sigterm_interrupts
from ptlab.errors import PtlabError
from ptlab.transcribe import Transcriber, as_transcriber

if TYPE_CHECKING:
    from ptlab._speech.speech_model import CTCModel

__all__ = ["STATUSES", "BatchReport", "FileResult", "transcribe_files"]

GPU_BATCH_S, CPU_BATCH_S = 80.0, 40.0  # a CPU gains nothing from more, and memory is per second
JOBS = 2  # one can keep up with a model; with two, a slow file or disk does not stop the other


def transcribe_files(
    inputs: Any,
    model: str | os.PathLike[str] | CTCModel | Transcriber | None = None,
    *,
    column: str | None = None,
    journal: str | os.PathLike[str] | None = None,
    batch_s: float | None = None,
    window_s: float | None = None,
    overlap_s: float | None = None,
    jobs: int | None = None,
    progress: bool = True,
    device: str = "auto",
    dtype: str = "auto",
) -> BatchReport:
    """Transcribe many files, of which none can stop the others.

    The text of a file is what ``Transcriber(model).transcribe(file)`` gives, whatever else is in
    the batch: its padding is never decoded, and models whose batches cannot be exact are run one
    window at a time. (In float32, that is. In float16 the order of rounding depends on the batch.)

    Parameters
    ----------
    inputs
        A path, a folder (with all below it), a glob, a csv or tsv file, a pandas frame, a
        `datasets.Dataset`, a `Corpus`, or a list of paths or rows.
    model
        A `Transcriber`, a `SpeechModel`, or what `load_model` takes.
    column : str, optional
        Of a table or data set, where the sounds are; by default ``path``, ``file`` or ``audio``.
    journal : path, optional
        A file to which every result is written as soon as it is there. Run again with the same
        journal, and only what is missing is done: files that changed, files that could not be
        read, and everything if model, windows or ptlab's version are others.
    batch_s : float, optional
        Seconds of audio, padding included, that the model hears at once: by default 80 on a GPU,
        40 on a CPU (there as two mini-batches, each by half of torch's threads). They get fewer by
        themselves when memory runs out.
    window_s, overlap_s : float, optional
        As in `Transcriber`, whose they are by default.
    jobs : int, optional
        Threads that read and resample; two by default, more where the disk is far away.
    progress : bool
        Whether to show a bar.
    device, dtype
        As in `load_model`.

    Returns
    -------
    BatchReport
        A result for every input, in their order. The same content twice is run once and has two
        results. Ctrl-C and SIGTERM end the run early: files that are not done have no result then,
        ``report.interrupted`` is true and ``report.missing`` names them.

    Raises
    ------
    DataError
        If there are no such inputs, or the journal is none or is in use.
    ModelError
        If the model cannot be loaded.
    PtlabError
        If an option is out of range.

    Examples
    --------
    >>> import ptlab
    >>> clips = ptlab.load_corpus("test").frame.file[:2].tolist()
    >>> report = ptlab.transcribe_files([*clips, "no such file.wav"], progress=False)
    >>> report.counts
    {'ok': 2, 'unreadable': 1}
    >>> report[0].text == ptlab.transcribe(clips[0]).text
    True
    >>> print(report.failed[0].message)
    No file 'no such file.wav'; check the path and the current folder.
    """
    if (batch_s is not None and not batch_s > 0) or (jobs is not None and jobs < 1):
        raise PtlabError(f"batch_s={batch_s} and jobs={jobs}; batch_s is above 0, jobs 1 or more.")
    sources = find_sources(inputs, column)
    transcriber = as_transcriber(
        model, window_s=window_s, overlap_s=overlap_s, device=device, dtype=dtype
    )
    start, interrupted = time.perf_counter(), False
    if batch_s is None:
        on_cpu = "cpu" in str(getattr(transcriber.model, "device", "cpu"))
        batch_s = CPU_BATCH_S if on_cpu else GPU_BATCH_S
    settings = {} if journal is None else settings_of(transcriber)
    with Journal(journal, settings) as written, Progress(sources, progress) as bar:
        ledger = Ledger(sources, written, bar)
        run = BatchRun(ledger, transcriber, batch_s)
        try:
            with sigterm_interrupts():
                run.go(jobs or JOBS)
        except KeyboardInterrupt:
            interrupted = True
    return ledger.report(
        transcriber.model.name,
        time.perf_counter() - start,
        downgrades=run.batches.downgrades,
        notes=run.notes(),
        interrupted=interrupted,
    )
