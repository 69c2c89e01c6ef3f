"""Runs of `ptlab.transcribe_files`, each in a process of its own that may crash, hang or be killed.

`Runs` starts one process that loads the model; for every run that process forks, so that a run
begins at once and dies alone. Only for systems that can fork.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

CAN_FORK = hasattr(os, "fork")
NO_FORK = "runs are forked from a process with the model: needs Linux or macOS"
START_S = 600.0  # the most that loading torch and a model, or a fork, may take


class Runs:
    """Start, watch and kill runs; one at a time."""

    def __init__(self, model: str | os.PathLike[str] = "mini"):
        self.folder = tempfile.TemporaryDirectory()
        self._log = Path(self.folder.name) / "log.txt"
        self._report = Path(self.folder.name) / "report.json"
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", __file__, os.fspath(model)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
                # A pool of threads does not survive a fork.
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        self.pid = 0
        self._answer_at_last()

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *error: object) -> None:
        os.killpg(self._server.pid, signal.SIGKILL)  # and a run that is under way
        self._server.wait()
        self.folder.cleanup()

    @property
    def log(self) -> str:
        """What the runs wrote on stderr, the last 2,000 characters."""
        return self._log.read_text(errors="replace")[-2000:]

    def start(self, inputs: list[str], **options: Any) -> None:
        """Begin a run; ``options`` are those of `transcribe_files`."""
        job = {"inputs": inputs, "options": options, "report": str(self._report)}
        self._report.unlink(missing_ok=True)
        self._server.stdin.write(json.dumps(job).encode() + b"\n")
        self.pid = self._answer_at_last()

    def wait(self, timeout_s: float) -> int | None:
        """Exit code (below zero: the signal that ended it), or None if it still runs."""
        code = self._answer(timeout_s)
        self.pid = self.pid if code is None else 0
        return code

    def kill(self, signum: int = signal.SIGKILL) -> int | None:
        """Send a signal and wait for the end; the exit code."""
        if not self.pid:
            return None
        with suppress(ProcessLookupError):  # it had ended
            os.kill(self.pid, signum)
        return self.wait(START_S)

    def report(self) -> dict[str, Any]:
        """What the run that ended has to say."""
        return json.loads(self._report.read_text("utf-8"))

    def run(self, inputs: list[str], timeout_s: float = 600, **options: Any) -> dict[str, Any]:
        """A whole run: its report. Fails if the process crashes or does not end in time."""
        start = time.monotonic()
        self.start(inputs, **options)
        code = self.wait(timeout_s)
        if code is None:
            self.kill()
            raise AssertionError(f"no end after {time.monotonic() - start:.0f} s: {self.log}")
        assert code == 0, f"exit code {code}: {self.log}"
        return self.report()

    def _answer_at_last(self) -> int:
        answer = self._answer(START_S)
        if answer is None:
            raise AssertionError(f"the process with the model is stuck: {self.log}")
        return answer

    def _answer(self, timeout_s: float) -> int | None:
        """A number from the server, which writes one a line."""
        if not select.select([self._server.stdout], [], [], timeout_s)[0]:
            return None
        line = self._server.stdout.readline()
        if not line:
            raise AssertionError(f"the process with the model has ended: {self.log}")
        return int(line)


def _serve(model: str) -> None:
    """Read a job a line; answer with the process that does it, then with its exit code."""
    from ptlab.transcribe import Transcriber

    transcriber = Transcriber(model, device="cpu")
    print(0, flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _run(json.loads(line), transcriber)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _run(job: dict[str, Any], transcriber: Any) -> None:
    code = 1
    try:
        _write_report(job, transcriber)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)  # the server's loop is not this process's


def _write_report(job: dict[str, Any], transcriber: Any) -> None:
    from ptlab.batch import transcribe_files

    heard = _count(transcriber.model)
    report = transcribe_files(job["inputs"], transcriber, progress=False, **job["options"])
    rows = [result.to_dict() for result in report]
    content = {"results": rows, "interrupted": report.interrupted, "windows_run": len(heard)}
    Path(job["report"]).write_text(json.dumps(content), "utf-8")


def _count(model: Any) -> list[int]:
    """Have a model note the length of every waveform that it is given."""
    heard: list[int] = []
    log_probs = model.log_probs

    def noted(waveforms: Any, **options: Any) -> Any:
        heard.extend(map(len, waveforms))
        return log_probs(waveforms, **options)

    model.log_probs = noted
    return heard


if __name__ == "__main__":
    _serve(sys.argv[1])
