"""A process that holds one model and says its costs: ``python -m ptlab._export.runtime_worker``.

It reads a line of JSON and answers with one. The first question is ``{"model": options of
load_model}``; then ``{"samples": n}`` for the seconds that so much sound takes, and ``{}`` for the
peak of its memory. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ptlab.errors import ModelError, PtlabError

__all__ = ["Worker", "files_size", "peak_mb"]


class Worker:
    """A fresh process with one model, from the side of whoever asks.

    Parameters
    ----------
    model : dict
        Options of `ptlab.load_model`.
    threads : int
        That torch or ONNX Runtime may use.
    """

    def __init__(self, model: dict[str, Any], threads: int):
        count = str(threads)
        paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
        settings = {
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        self._complaints = tempfile.TemporaryFile(  # noqa: SIM115 (closed with the process)
            "w+", encoding="utf-8", errors="replace"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ptlab._export.runtime_worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
            encoding="utf-8", env=os.environ | settings,
        )  # fmt: skip
        if self._process.stdin is None or self._process.stdout is None:
            raise ModelError("A process without pipes cannot measure.")  # never, for mypy
        self._to, self._from = self._process.stdin, self._process.stdout
        self.facts = self.ask(model=model)

    def ask(self, **question: Any) -> dict[str, Any]:
        """What the process answers.

        Raises
        ------
        ModelError
            If it cannot do what it is asked, or has died.
        """
        with suppress(OSError):  # why it ended is told below
            self._to.write(json.dumps(question) + "\n")
            self._to.flush()
        answer = self._from.readline()
        if not answer:
            raise ModelError(self._why_it_ended())
        found = json.loads(answer)
        if "error" in found:
            self.close()
            raise ModelError(found["error"])
        return found

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # it may have gone already
            self._to.close()
        self._process.wait()
        self._from.close()
        self._complaints.close()

    def _why_it_ended(self) -> str:
        code = self._process.wait()
        self._complaints.seek(0)
        last = (self._complaints.read().strip().splitlines() or ["nothing"])[-1]
        self.close()
        return (
            f"The process that measures a model ended with code {code}; it last said: {last}. A "
            "negative code often means that memory ran out."
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def files_size(model: Any) -> int:
    """Bytes of all files of a model's folder, or of its weights in memory if it has no folder."""
    folder = getattr(model, "folder", None)
    path = getattr(model, "path", None)
    if path is not None and path.name != "model.onnx":  # alone, perhaps among others
        return sum(p.stat().st_size for p in (path, Path(f"{path}.data")) if p.is_file())
    if folder is not None:
        return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    if hasattr(model, "size_bytes"):  # a graph that was made of what came from the Hub
        return model.size_bytes
    return sum(p.numel() * p.element_size() for p in model.model.parameters())


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would tell of the parent too, if that was larger
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def sound(samples: int) -> np.ndarray:
    """Noise whose loudness rises and falls; what is said does not change what it costs."""
    noise = np.random.default_rng(samples).standard_normal(samples)
    return (np.sin(np.arange(samples) / 997) * noise / 10).astype(np.float32)


def main() -> None:
    """Answer questions until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    model = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if "model" in question:
                model, answer = _loaded(question["model"])
            elif "samples" in question:
                answer = {"seconds": _seconds(model, question["samples"])}
            else:
                answer = {"peak_mb": peak_mb()}
        except (PtlabError, MemoryError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _loaded(options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    start = time.perf_counter()
    from ptlab.models import load_model

    model = load_model(**options)
    taken = time.perf_counter() - start
    return model, {
        "load_s": taken, "size_bytes": files_size(model), "hop": model.hop,
        "sampling_rate": model.sampling_rate,
    }  # fmt: skip


def _seconds(model: Any, samples: int) -> float:
    waveform = sound(samples)
    start = time.perf_counter()
    model.log_probs([waveform])
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
