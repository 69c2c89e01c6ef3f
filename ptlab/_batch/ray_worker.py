"""What a worker of Ray does: sounds to results, with one model, and past files that kill it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ptlab._batch.file_result import FileResult
from ptlab._batch.inputs import Source, source_of
from ptlab.batch import BatchReport, transcribe_files
from ptlab.transcribe import as_transcriber

__all__ = ["Begun", "RayTranscriber", "Worker"]

MOST_DEATHS = 3  # in one file: the first with its whole task, so at least twice with it alone
DEADLY = (
    f"{MOST_DEATHS} workers died while they had it. Was there memory enough? Try it alone, with "
    "ptlab.transcribe."
)


class RayTranscriber:
    """A callable class for `ray.data.Dataset.map_batches`: sounds to texts.

    Parameters
    ----------
    model
        As in `transcribe_files`.
    column : str
        Where the sounds are: paths, bytes, or dicts as `load_audio` reads them.
    batch_s, window_s, overlap_s, jobs, device, dtype
        As in `transcribe_files`.

    Examples
    --------
    With Ray, ``dataset.map_batches(ptlab.RayTranscriber, batch_size=16, compute=...)``. Without:

    >>> import ptlab
    >>> clips = ptlab.load_corpus("test").frame.file[:2]
    >>> rows = RayTranscriber("mini")({"path": clips.to_numpy(), "id": np.array([7, 8])})
    >>> list(rows), rows["status"].tolist()
    (['path', 'id', 'status', 'text', 'confidence', 'result'], ['ok', 'ok'])
    >>> FileResult.from_dict(json.loads(rows["result"][0])).text == rows["text"][0]
    True
    """

    def __init__(
        self,
        model: Any = None,
        *,
        column: str = "path",
        batch_s: float | None = None,
        window_s: float | None = None,
        overlap_s: float | None = None,
        jobs: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ):
        self.transcriber = as_transcriber(
            model, window_s=window_s, overlap_s=overlap_s, device=device, dtype=dtype
        )
        self.column = column
        self.options: dict[str, Any] = {"batch_s": batch_s, "jobs": jobs, "progress": False}

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The batch with four columns more; ``result`` is `FileResult.to_dict` as JSON."""
        results = list(self.transcribe(batch[self.column]))
        confidence = [np.nan if r.confidence is None else r.confidence for r in results]
        return {
            **batch,
            "status": np.array([r.status for r in results]),
            "text": np.array([r.text for r in results], dtype=object),
            "confidence": np.array(confidence, dtype=float),
            "result": np.array([json.dumps(r.to_dict()) for r in results], dtype=object),
        }

    def transcribe(self, sounds: Iterable[Any]) -> BatchReport:
        """A result for each sound."""
        # Not a list, in which a folder would stand for all that is in it.
        frame = pd.Series(list(sounds), dtype=object).to_frame("path")
        return transcribe_files(frame, self.transcriber, **self.options)


class Begun:
    """How often each file was begun and not ended: an actor, as the workers may die.

    Examples
    --------
    >>> begun = Begun()
    >>> begun.begin([1, 2])
    >>> begun.end([2])
    >>> begun.times([1, 2])
    [1, 0]
    """

    def __init__(self) -> None:
        self._times: Counter[int] = Counter()

    def times(self, numbers: list[int]) -> list[int]:
        return [self._times[n] for n in numbers]

    def begin(self, numbers: list[int]) -> None:
        self._times.update(numbers)

    def end(self, numbers: list[int]) -> None:
        for n in numbers:
            del self._times[n]


class Worker:
    """Numbers of files to results, as JSON: a whole task at once, or one by one after a death.

    Parameters
    ----------
    folder : str
        Where the caller is, and relative paths begin.
    get : callable
        From a number to a `Source`.
    begun
        Handle of the `Begun` actor.
    options
        As in `RayTranscriber`.
    """

    def __init__(self, folder: str, get: Callable[[int], Source], begun: Any, **options: Any):
        if os.path.isdir(folder):
            os.chdir(folder)
        self.get, self.begun = get, begun
        self.transcriber = RayTranscriber(**options)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        numbers = batch["number"].tolist()
        died = any(self._tell("times", numbers))
        groups = [[n] for n in numbers] if died else [numbers]
        rows = [json.dumps(row) for group in groups for row in self._do(group)]
        return {"row": np.array(rows, dtype=object)}

    def _do(self, numbers: list[int]) -> Iterator[dict[str, Any]]:
        sources = [source_of(self.get, n) for n in numbers]
        if max(self._tell("times", numbers)) >= MOST_DEATHS:  # then it is alone
            result = FileResult(sources[0].name, "failed", error_type="WorkerDied", message=DEADLY)
            yield {"number": numbers[0], "result": result.to_dict(), "downgrades": [], "notes": []}
            return
        self._tell("begin", numbers)
        report = self.transcriber.transcribe(s.content for s in sources)
        about = {"downgrades": report.downgrades, "notes": report.notes}
        for number, source, result in zip(numbers, sources, report, strict=True):
            result = replace(result, path=source.name)
            yield {"number": number, "result": result.to_dict(), **about}
            about = {"downgrades": (), "notes": ()}  # once is enough
        self._tell("end", numbers)

    def _tell(self, method: str, numbers: list[int]) -> Any:
        import ray

        return ray.get(getattr(self.begun, method).remote(numbers))
