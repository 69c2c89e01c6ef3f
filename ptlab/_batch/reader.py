"""Threads that read sound ahead of the model, within a budget of audio seconds.

Threads, not processes: libsndfile, soxr and the hash release Python's lock while they work, and
there is little to do. Reading 44.1 kHz stereo (WAV, FLAC, MP3, Vorbis) took 2 ms of one core for a
second of sound, where the smallest model takes fifty times that.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ptlab._batch.audio_queue import AudioQueue, Stopped
from ptlab._batch.file_result import FileResult
from ptlab._batch.inputs import Source, Sources
from ptlab._speech.sound_stream import SoundStream, encoded
from ptlab._speech.windows import cut_windows
from ptlab.errors import AudioError
from ptlab.minibatches import is_out_of_memory

__all__ = ["Heard", "Known", "Reader", "Window", "digest_of", "failure"]

SILENT = "Nothing in it is louder than -60 dBFS: was the microphone on? What was heard is kept."
NO_MEMORY = "There was not enough memory for it. Close other programs, or split the file."


@dataclass(eq=False)
class Window:
    """A piece of a file, on its way to the model; its waveform is let go when it was heard."""

    file: int
    start: int  # its first sample
    waveform: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Heard:
    """A file that has been read to its end, or as far as it could be.

    Attributes
    ----------
    file : int
    result : FileResult
        Without text. If its status is ``ok`` or ``silent``, its ``windows`` have gone before.
    """

    file: int
    result: FileResult


@dataclass(frozen=True)
class Known:
    """A file whose content has been seen, in this run or in the journal."""

    file: int
    name: str
    digest: str


class Reader:
    """Reads the files of a batch in threads and puts them into a queue.

    Parameters
    ----------
    sources : Sources
    queue : AudioQueue
    model
        For its rate and its frames.
    window_s, overlap_s : float
    known : container of str
        Digests of what need not be read.
    """

    def __init__(
        self,
        sources: Sources,
        queue: AudioQueue,
        model: Any,
        window_s: float,
        overlap_s: float,
        known: Container[str] = (),
    ):
        self.sources, self.queue, self.model = sources, queue, model
        self.window_s, self.overlap_s, self.known = window_s, overlap_s, known
        self._numbers, self._lock = iter(range(sources.count)), threading.Lock()
        self._begun: set[str] = set()
        self._threads: list[threading.Thread] = []

    def start(self, jobs: int) -> None:
        """Start ``jobs`` threads; the queue is closed when the last has nothing left to read."""
        self._left = jobs
        for n in range(jobs):
            thread = threading.Thread(target=self._work, name=f"ptlab-reader-{n}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Have the threads leave; one that hangs in a file is left behind (they are daemons)."""
        self.queue.close()
        for thread in self._threads:
            thread.join(timeout_s)

    def _work(self) -> None:
        try:
            while (number := self._next()) is not None:
                self._read(number)
        except Stopped:
            return
        finally:
            with self._lock:
                self._left -= 1
                last = not self._left
            if last:
                self.queue.close()

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def _read(self, number: int) -> None:
        start = time.perf_counter()
        source = Source(f"row {number}", None)
        try:
            source = self.sources.get(number)
            digest = digest_of(source.content)
            if digest is not None and not self._is_new(digest):
                self.queue.put(Known(number, source.name, digest))
                return
            result = FileResult(source.name, "ok", digest=digest)
            self.queue.put(Heard(number, self._stream(number, source, result, start)))
        except Stopped:
            raise
        except Exception as error:  # one result for every file, whatever is wrong with it
            self.queue.put(Heard(number, failure(FileResult(source.name, "failed"), error)))

    def _is_new(self, digest: str) -> bool:
        with self._lock:
            new = digest not in self.known and digest not in self._begun
            self._begun.add(digest)
            return new

    def _stream(self, number: int, source: Source, result: FileResult, start: float) -> FileResult:
        """Put the windows of a file into the queue; its result without text."""
        stream = SoundStream(source.content, self.model.sampling_rate)
        windows, waited = 0, 0.0
        try:
            for first, waveform in cut_windows(self.model, stream, self.window_s, self.overlap_s):
                if not windows and not self.model.frames(len(waveform)):
                    break
                windows += 1
                before = time.perf_counter()
                seconds = len(waveform) / stream.sampling_rate
                self.queue.put(Window(number, first, waveform.copy(), seconds), seconds)
                waited += time.perf_counter() - before
        except Stopped:
            raise
        except Exception as error:
            result = failure(result, error)
        else:
            result = replace(result, duration_s=stream.duration_s, windows=windows)
            if not windows:
                message = self._too_short(stream.samples)
                result = replace(result, status="too_short", message=message)
            elif stream.is_silent:
                result = replace(result, status="silent", message=SILENT)
        return replace(
            result,
            original_sampling_rate=stream.original_sampling_rate,
            original_channels=stream.original_channels,
            was_resampled=stream.was_resampled,
            load_s=time.perf_counter() - start - waited,
        )

    def _too_short(self, samples: int) -> str:
        return (
            f"It has {samples} samples at {self.model.sampling_rate} Hz, and the model needs "
            f"{self.model.receptive_field} for its first frame. Record more."
        )


def failure(result: FileResult, error: Exception) -> FileResult:
    """The result of a file that met an error.

    Examples
    --------
    >>> failure(FileResult("a.wav", "ok"), AudioError("It is a PDF.", "unsupported"))
    FileResult('a.wav', unsupported, 'It is a PDF.')
    """
    message = str(error) or type(error).__name__
    if is_out_of_memory(error):
        status, message = "out_of_memory", NO_MEMORY
    elif isinstance(error, AudioError):
        status = error.kind
    else:
        status = "unreadable" if isinstance(error, OSError) else "failed"
    return replace(result, status=status, error_type=type(error).__name__, message=message)


def digest_of(content: Any) -> str | None:
    """Hash of a sound as it is stored; None for what cannot be read or is no file.

    Examples
    --------
    >>> digest_of(b"a sound") == digest_of({"bytes": b"a sound", "path": "a.wav"})
    True
    """
    content = encoded(content)
    if isinstance(content, Mapping) and content.get("array") is not None:
        return _digest_of_array(np.asarray(content["array"]), content.get("sampling_rate"))
    if isinstance(content, bytes):
        return _hash(content).hexdigest()
    if not isinstance(content, str | os.PathLike):
        return None
    path = Path(content).expanduser()
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, _hash).hexdigest()
    except OSError:
        pass  # reading it will say why
    return None


def _hash(content: bytes = b"") -> Any:
    return hashlib.blake2b(content, digest_size=16)


def _digest_of_array(array: np.ndarray, sampling_rate: Any) -> str:
    about = f"{array.dtype} {array.shape} {sampling_rate} ".encode()
    return _hash(about + np.ascontiguousarray(array).tobytes()).hexdigest()
