"""One run over a batch: from windows that are read to results that are written."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ptlab._batch.audio_queue import AudioQueue
from ptlab._batch.file_result import FileResult
from ptlab._batch.ledger import Ledger
from ptlab._batch.reader import Heard, Known, Reader, Window, failure
from ptlab._speech.sound_stream import SoundStream
from ptlab._speech.windows import join_windows, window_log_probs
from ptlab.minibatches import (
    MiniBatches,
    free_memory,
    is_out_of_memory,
    lanes_for,
    trim_heap,
)
from ptlab.transcribe import Transcriber

__all__ = ["BatchRun"]

LOOK_AHEAD = 24  # times batch_s of audio, among which windows of like lengths are looked for
LEAST_WINDOW_S = 2.0  # below, hardly a word fits into a window
NO_WORDS = "No word was recognised in it. Listen to it: is it speech?"
HEARD = np.zeros(0, np.float32)  # in the place of a waveform that is done with
_AUDIBLE = ("ok", "silent")  # statuses of what has been read and goes to the model


@dataclass
class _Pieces:
    """What there is of a file so far."""

    result: FileResult | None = None  # without text; comes when the file has been read
    frames: dict[int, np.ndarray] = field(default_factory=dict)  # by the window's first sample
    model_s: float = 0.0
    error: Exception | None = None  # of the model

    @property
    def done_for(self) -> bool:
        """Whether it will have no text, or not from these windows."""
        return bool(self.error or (self.result and self.result.status not in _AUDIBLE))

    @property
    def complete(self) -> FileResult | None:
        """What was read of the file, if nothing more will come of its windows."""
        read = self.result
        return read if read and (self.done_for or len(self.frames) == read.windows) else None


class BatchRun:
    """The files of a batch on their way from the reader through the model to the ledger."""

    def __init__(self, ledger: Ledger, transcriber: Transcriber, batch_s: float):
        self.ledger, self.transcriber, self.model = ledger, transcriber, transcriber.model
        self.batches = MiniBatches(self.model, batch_s, lanes_for(self.model))
        self.look_ahead_s = LOOK_AHEAD * batch_s
        # The model waits until look_ahead_s are there, so there must be room for one window more.
        self.queue = AudioQueue(self.look_ahead_s + transcriber.window_s)
        self._pieces: dict[int, _Pieces] = defaultdict(_Pieces)

    def go(self, jobs: int) -> None:
        """Do all files; `KeyboardInterrupt` leaves what is done in the ledger."""
        transcriber = self.transcriber
        reader = Reader(
            self.ledger.sources, self.queue, self.model, transcriber.window_s,
            transcriber.overlap_s, self.ledger.journal.known,
        )  # fmt: skip
        try:
            reader.start(jobs)
            while items := self.queue.take(self.look_ahead_s):
                self._take_in(items)
        finally:
            reader.stop()

    def notes(self) -> tuple[str, ...]:
        """What the report should say about the run."""
        if self.batches.most > 1:
            return ()
        return (f"{self.model.name!r} hears one window at a time: padding changes it.",)

    def _take_in(self, items: list[Any]) -> None:
        for item in items:
            if isinstance(item, Heard):
                self._pieces[item.file].result = item.result
            elif isinstance(item, Known):
                self._recall(item)
        self._run([i for i in items if isinstance(i, Window)])
        trim_heap()
        for item in items:
            if isinstance(item, Heard):  # without windows, or with all of them done before
                self._finish_if_complete(item.file)

    def _recall(self, item: Known) -> None:
        if not self.ledger.recall(item.file, item.name, item.digest):  # its twin is under way
            self.ledger.add_twin(item.digest, item.file, item.name)

    def _run(self, windows: list[Window]) -> None:
        wanted = [w for w in windows if not self._pieces[w.file].done_for]
        waveforms = [w.waveform for w in wanted]
        for outcome in self.batches.run(waveforms):
            window = wanted[outcome.index]
            window.waveform = waveforms[outcome.index] = HEARD  # readers may now fill its room
            pieces = self._pieces[window.file]
            pieces.model_s += outcome.seconds
            if outcome.log_probs is None:
                pieces.error = outcome.error
            else:
                self._keep(pieces, window.start, outcome.log_probs)
            self._finish_if_complete(window.file)
            self.queue.release(window.seconds)
            if window.start:  # of a long file, whose peak is 50 MB lower so
                trim_heap()
        self.queue.release(sum(w.seconds for w in windows) - sum(w.seconds for w in wanted))

    def _keep(self, pieces: _Pieces, start: int, log_probs: np.ndarray) -> None:
        """Keep of log-probs only what will be decoded: those of an hour would take 40 MB."""
        try:
            pieces.frames[start] = self.transcriber.read(log_probs)
        except Exception as error:  # it must not take the other files with it
            pieces.error = error.with_traceback(None)

    def _finish_if_complete(self, number: int) -> None:
        if number in self._pieces and (result := self._pieces[number].complete):
            self._finish(number, self._pieces.pop(number), result)

    def _finish(self, number: int, pieces: _Pieces, result: FileResult) -> None:
        if result.status in _AUDIBLE:
            try:
                result = self._with_text(number, pieces, result)
            except Exception as error:  # one result for every file, whatever is wrong with it
                result = failure(replace(result, model_s=pieces.model_s), error)
        self.ledger.write(number, replace(result, model=self.model.name), result.digest)

    def _with_text(self, number: int, pieces: _Pieces, read: FileResult) -> FileResult:
        if pieces.error is None:
            frames = join_windows(self.model, sorted(pieces.frames.items()))
            return self._decoded(read, frames, pieces.model_s)
        if is_out_of_memory(pieces.error):
            return self._in_smaller_windows(number, pieces, read)
        raise pieces.error

    def _decoded(self, result: FileResult, frames: np.ndarray, model_s: float) -> FileResult:
        start = time.perf_counter()
        found = self.transcriber.from_log_probs(frames, result.duration_s)
        if not found.words and result.status == "ok":
            result = replace(result, status="empty", message=NO_WORDS)
        return replace(
            result,
            text=found.text,
            words=found.words,
            confidence=found.confidence if found.words else None,
            calibrated=found.calibrated,
            model_s=model_s,
            total_s=result.load_s + model_s + time.perf_counter() - start,
        )

    def _in_smaller_windows(self, number: int, pieces: _Pieces, read: FileResult) -> FileResult:
        """Read a file again, and run it by one window at a time, half as long, until it fits."""
        window_s = self.transcriber.window_s / 2
        while window_s >= LEAST_WINDOW_S:
            start = time.perf_counter()
            try:
                frames, windows = self._by_windows(
                    self.ledger.sources.get(number).content, window_s
                )
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            else:
                note = f"out of memory: heard in windows of {window_s:g} s"
                self.batches.downgrades.append(f"{read.path}: {note}")
                result = replace(read, windows=windows, downgrades=(note,))
                model_s = pieces.model_s + time.perf_counter() - start
                return self._decoded(result, frames, model_s)
            free_memory()
            window_s /= 2
        raise pieces.error or MemoryError

    def _by_windows(self, content: Any, window_s: float) -> tuple[np.ndarray, int]:
        sound = SoundStream(content, self.model.sampling_rate)
        overlap_s = min(self.transcriber.overlap_s, window_s / 4)
        found = window_log_probs(self.model, sound, window_s, overlap_s, batch_size=1)
        runs = [(first, self.transcriber.read(log_probs)) for first, log_probs in found]
        return join_windows(self.model, runs), len(runs)
