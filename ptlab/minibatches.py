"""Mini-batches by seconds of audio, which get smaller when memory runs out.

>>> import ptlab
>>> bag = [ptlab.load_corpus("dev").audio(i).waveform for i in range(6)]
>>> ptlab.plan_minibatches([len(wave) for wave in bag], most_samples=10 * 16_000)
[[3, 1], [0, 2], [5, 4]]
>>> model = ptlab.load_model("mini", device="cpu")
>>> outcomes = ptlab.MiniBatches(model, batch_s=10).run(bag)
>>> texts = {outcome.index: ptlab.decode(outcome.log_probs) for outcome in outcomes}

On a CPU two mini-batches are run at once, each by half of the cores: there the matrices of one clip
are too small to keep many cores busy (two cores ran one clip 1.5 times as fast as one core did, and
two clips 1.9 times). Graphs in ONNX Runtime do so too, if they are small enough to be loaded twice.
None may be left over for half of the cores alone, while the others are idle: one of the last is
halved, and what cannot be halved is run by all cores.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptlab._batch.stop_signals import WAKE_S

__all__ = ["MiniBatches", "Outcome", "lanes_for", "plan_minibatches"]

logger = logging.getLogger("ptlab")

CPU_LANES = 2
CPU_PADDING = 0.1  # a CPU gains so little from company that more padding costs more than it

# What allocators say beside MemoryError and torch.OutOfMemoryError: CUDA and MPS "out of memory",
# torch's CPU allocator "can't allocate memory", on Windows "not enough memory", cuBLAS and cuDNN
# "ALLOC_FAILED", C++ "bad_alloc" and "bad allocation".
_SAID = ("out of memory", "allocate memory", "enough memory", "alloc_failed", "bad_alloc",
         "bad allocation")  # fmt: skip


def plan_minibatches(
    lengths: Sequence[int],
    most_samples: float,
    most: float = math.inf,
    most_padding: float = 1.0,
) -> list[list[int]]:
    """Which waveforms to run together: alike in length, so that little is padded.

    Parameters
    ----------
    lengths : sequence of int
        Samples of each waveform.
    most_samples : float
        Of a mini-batch with its padding. A longer waveform is run alone.
    most : float
        Waveforms in a mini-batch.
    most_padding : float
        Share of a mini-batch that may be padding.

    Returns
    -------
    list of list of int
        Positions in ``lengths``, short ones first.

    Examples
    --------
    >>> plan_minibatches([50, 10, 40, 10], most_samples=100)
    [[1, 3], [2, 0]]
    >>> plan_minibatches([50, 10, 40, 10], most_samples=100, most_padding=0.05)
    [[1, 3], [2], [0]]
    """
    batches: list[list[int]] = []
    sound = 0  # in the last mini-batch
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        full = not batches or len(batches[-1]) >= most
        size = 0 if full else (len(batches[-1]) + 1) * lengths[i]
        if full or size > most_samples or size - sound - lengths[i] > most_padding * size:
            batches.append([])
            sound = 0
        batches[-1].append(i)
        sound += lengths[i]
    return batches


@dataclass(frozen=True)
class Outcome:
    """What the model made of a waveform: log-probs (frames, vocab) or an error, and in how long.

    ``seconds`` are those of all cores: while two mini-batches are run at once, each counts half.
    """

    index: int
    log_probs: np.ndarray | None
    error: Exception | None
    seconds: float


@dataclass(frozen=True)
class _Attempt:
    """A mini-batch, and what the model made of it with a share of the cores."""

    batch: list[int]
    share: float
    matrices: list[np.ndarray]
    error: Exception | None
    seconds: float


class MiniBatches:
    """Runs waveforms in mini-batches, with at most ``batch_s`` seconds at once, padding included.

    A mini-batch that fails is halved until it passes or the one waveform that fails is found.
    If memory was what it lacked, later mini-batches stay at the smaller size.

    Attributes
    ----------
    model
        A `SpeechModel`, or what offers its ``log_probs``.
    lanes : int
        Mini-batches that are run at once. A waveform too long for its share is run alone.
    limit : float
        Samples of a mini-batch, padding included.
    downgrades : list of str
        What was made smaller, and why.

    Examples
    --------
    >>> import ptlab
    >>> model = ptlab.load_model("mini", device="cpu")
    >>> batches = MiniBatches(model, batch_s=80.0)
    >>> outcomes = batches.run([np.zeros(16_000, "float32"), np.zeros(8_000, "float32")])
    >>> [(o.index, o.log_probs.shape) for o in outcomes]
    [(1, (24, 46)), (0, (49, 46))]
    """

    def __init__(self, model: Any, batch_s: float, lanes: int = 1):
        self.model, self.lanes = model, lanes
        self.limit = batch_s * model.sampling_rate / lanes
        self.most = math.inf if getattr(model, "pads_exactly", True) else 1
        self.downgrades: list[str] = []

    def run(self, waveforms: Sequence[np.ndarray]) -> Iterator[Outcome]:
        """An `Outcome` for every waveform, in the order in which they get done."""
        lengths = [len(w) for w in waveforms]
        padding = 1.0 if self.lanes == 1 else CPU_PADDING
        # The longest are run first, so that the lanes end together.
        waiting = plan_minibatches(lengths, self.limit, self.most, padding)
        _fill_lanes(waiting, lengths, self.lanes)
        for attempt in self._attempts(waveforms, waiting):
            batch, error = attempt.batch, attempt.error
            rate = attempt.seconds / max(1, sum(lengths[i] for i in batch))
            if error is None:
                for i, matrix in zip(batch, attempt.matrices, strict=True):
                    yield Outcome(i, matrix, None, rate * lengths[i])
                continue
            no_memory = is_out_of_memory(error)
            if no_memory:
                self._shrink(len(batch) * lengths[batch[-1]], len(batch))
            if len(batch) > 1:
                waiting += _halves(batch)
            elif no_memory and attempt.share < 1:
                waiting.append(batch)  # it may fit alone
            else:
                yield Outcome(batch[0], None, error, attempt.seconds)

    def _attempts(
        self, waveforms: Sequence[np.ndarray], waiting: list[list[int]]
    ) -> Iterator[_Attempt]:
        """Take mini-batches from ``waiting``, to which others may be added, and try them."""
        running: set[Future[_Attempt]] = set()
        with _threads(self.lanes, self.model) as pool:
            while waiting or running:
                size = len(waiting[-1]) * len(waveforms[waiting[-1][-1]]) if waiting else 0
                if size > self.limit and len(waiting[-1]) > 1:  # planned before memory ran out
                    waiting += _halves(waiting.pop())
                elif waiting and not running and self._is_for_all_cores(size, len(waiting)):
                    yield self._attempt(waveforms, waiting.pop())
                elif waiting and len(running) < self.lanes and size <= self.limit:
                    share = 1 / self.lanes
                    running.add(pool.submit(self._attempt, waveforms, waiting.pop(), share))
                else:
                    done, running = wait(running, WAKE_S, FIRST_COMPLETED)
                    yield from (future.result() for future in done)

    def _is_for_all_cores(self, size: int, count: int) -> bool:
        """Whether the next of ``count`` mini-batches is too long for a lane, or has no partner."""
        return self.lanes == 1 or size > self.limit or count % self.lanes > 0

    def _attempt(
        self, waveforms: Sequence[np.ndarray], batch: list[int], share: float = 1.0
    ) -> _Attempt:
        start, matrices, caught = time.perf_counter(), [], None
        beside = share < 1 and hasattr(self.model, "of_a_lane")
        try:
            model = self.model.of_a_lane() if beside else self.model
            matrices = model.log_probs([waveforms[i] for i in batch], batch_size=len(batch))
        except Exception as error:  # whatever it is, it must not take the other files with it
            caught = error.with_traceback(None)  # whose frames hold the tensors
            caught.__context__ = caught.__cause__ = None
        if caught and is_out_of_memory(caught):
            free_memory()
        return _Attempt(batch, share, matrices, caught, share * (time.perf_counter() - start))

    def _shrink(self, size: float, count: int) -> None:
        """What to do without after ``count`` waveforms, ``size`` samples, had no memory."""
        rate = self.model.sampling_rate
        if self.lanes > 1:
            self.lanes = 1
            note = f"out of memory with {size / rate:.1f} s of audio beside another mini-batch: "
            note += "went on with one at a time"
        elif count > 1:
            self.limit = size / 2
            note = f"out of memory with {size / rate:.1f} s of audio at once: "
            note += f"went on with {self.limit / rate:.1f} s"
        else:
            return
        self.downgrades.append(note)
        logger.warning("%s", note)


def lanes_for(model: Any) -> int:
    """Mini-batches that are run at once: two on a CPU, if torch or the graph may use two threads.

    Examples
    --------
    >>> lanes_for("a model of another runtime")
    1
    """
    if hasattr(model, "of_a_lane"):
        return int(model.lanes)
    if getattr(getattr(model, "device", None), "type", None) != "cpu":
        return 1
    import torch

    return min(CPU_LANES, torch.get_num_threads())


@contextmanager
def _threads(count: int, model: Any) -> Iterator[ThreadPoolExecutor]:
    """So many threads, among which torch's are shared out; a graph shares out its own."""
    if count == 1 or hasattr(model, "of_a_lane"):
        with ThreadPoolExecutor(count, "ptlab-lane") as pool:
            yield pool
        return
    import torch

    cores = torch.get_num_threads()
    share = max(1, cores // count)
    try:
        with ThreadPoolExecutor(count, "ptlab-lane", torch.set_num_threads, (share,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)  # a thread's setting is that of all threads begun after it


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on any device.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("MPS backend out of memory"))
    True
    >>> is_out_of_memory(RuntimeError("shapes do not match"))
    False
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(s in str(error).lower() for s in _SAID)


def free_memory() -> None:
    """Give back what a failed attempt has left behind, to Python and to the device."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _fill_lanes(batches: list[list[int]], lengths: Sequence[int], lanes: int) -> None:
    """Halve mini-batches that are run late, until there are as many as keep all lanes busy."""
    while len(batches) % lanes:
        late = next((k for k, batch in enumerate(batches) if len(batch) > 1), None)
        if late is None:
            return
        batch = batches.pop(late)
        cut = min(
            range(1, len(batch)),
            key=lambda n: max(n * lengths[batch[n - 1]], (len(batch) - n) * lengths[batch[-1]]),
        )
        batches[late:late] = [batch[:cut], batch[cut:]]


def trim_heap() -> None:
    """Have the C library give back what was freed: of a model's threads it keeps 100 MB and more.

    Only glibc (Linux) keeps so much, and only there this does something. What is given back must
    be asked for again: after every mini-batch the smallest model took 7 % more of the processor.

    Examples
    --------
    >>> trim_heap()
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _halves(batch: list[int]) -> list[list[int]]:
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]
