"""Mini-batches by seconds of audio, which get smaller when memory runs out."""

from __future__ import annotations

import gc
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["MiniBatches", "Outcome", "is_out_of_memory", "plan"]

logger = logging.getLogger("ptlab")

# What allocators say beside MemoryError and torch.OutOfMemoryError: CUDA and MPS "out of memory",
# torch's CPU allocator "can't allocate memory", on Windows "not enough memory", cuBLAS and cuDNN
# "ALLOC_FAILED", C++ "bad_alloc" and "bad allocation".
_SAID = ("out of memory", "allocate memory", "enough memory", "alloc_failed", "bad_alloc",
         "bad allocation")  # fmt: skip


def plan(lengths: Sequence[int], most_samples: float, most: float = math.inf) -> list[list[int]]:
    """Which waveforms to run together: alike in length, so that little is padded.

    Parameters
    ----------
    lengths : sequence of int
        Samples of each waveform.
    most_samples : float
        Of a mini-batch with its padding. A longer waveform is run alone.
    most : float
        Waveforms in a mini-batch.

    Returns
    -------
    list of list of int
        Positions in ``lengths``, short ones first.

    Examples
    --------
    >>> plan([50, 10, 40, 10], most_samples=100)
    [[1, 3], [2, 0]]
    """
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        full = not batches or len(batches[-1]) >= most
        if full or (len(batches[-1]) + 1) * lengths[i] > most_samples:
            batches.append([])
        batches[-1].append(i)
    return batches


@dataclass(frozen=True)
class Outcome:
    """What the model made of a waveform: log-probs (frames, vocab) or an error, and in how long."""

    index: int
    log_probs: np.ndarray | None
    error: Exception | None
    seconds: float


class MiniBatches:
    """Runs waveforms in mini-batches of at most ``batch_s`` seconds, padding included.

    A mini-batch that fails is halved until it passes or the one waveform that fails is found.
    If memory was what it lacked, later mini-batches stay at the smaller size.

    Attributes
    ----------
    model
        A `SpeechModel`, or what offers its ``log_probs``.
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

    def __init__(self, model: Any, batch_s: float):
        self.model, self.limit = model, batch_s * model.sampling_rate
        self.most = math.inf if getattr(model, "pads_exactly", True) else 1
        self.downgrades: list[str] = []

    def run(self, waveforms: Sequence[np.ndarray]) -> Iterator[Outcome]:
        """An `Outcome` for every waveform, in the order in which they get done."""
        lengths = [len(w) for w in waveforms]
        waiting = plan(lengths, self.limit, self.most)  # the longest are run first
        while waiting:
            batch = waiting.pop()
            size = len(batch) * lengths[batch[-1]]
            if len(batch) > 1 and size > self.limit:  # planned before memory ran out
                waiting += _halves(batch)
                continue
            start = time.perf_counter()
            matrices, error = self._attempt([waveforms[i] for i in batch])
            seconds = (time.perf_counter() - start) / max(1, sum(lengths[i] for i in batch))
            if error is None:
                for i, matrix in zip(batch, matrices, strict=True):
                    yield Outcome(i, matrix, None, seconds * lengths[i])
            elif len(batch) == 1:
                yield Outcome(batch[0], None, error, seconds * lengths[batch[0]])
            else:
                if is_out_of_memory(error):
                    self._shrink(size)
                waiting += _halves(batch)

    def _attempt(self, batch: list[np.ndarray]) -> tuple[list[np.ndarray], Exception | None]:
        try:
            return self.model.log_probs(batch, batch_size=len(batch)), None
        except Exception as error:  # whatever it is, it must not take the other files with it
            caught = error.with_traceback(None)  # whose frames hold the tensors
            caught.__context__ = caught.__cause__ = None
        if is_out_of_memory(caught):
            free_memory()
        return [], caught

    def _shrink(self, size: int) -> None:
        self.limit = size / 2
        rate = self.model.sampling_rate
        self.downgrades.append(
            f"out of memory with {size / rate:.1f} s of audio at once: "
            f"went on with {self.limit / rate:.1f} s"
        )
        logger.warning("%s", self.downgrades[-1])


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


def _halves(batch: list[int]) -> list[list[int]]:
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]
