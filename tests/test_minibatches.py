"""Mini-batches: what is put together, and what happens when memory runs out."""

import itertools
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptlab.minibatches import MiniBatches, is_out_of_memory, plan

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    MemoryError(),
]


@pytest.fixture(scope="module", autouse=True)
def no_collection():
    """A full collection takes a tenth of a second where torch is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptlab.minibatches.free_memory", lambda: None)
        yield


class Tight:
    """Gives the sum of a waveform for its log-probs, and has room for so many samples at once."""

    sampling_rate = 1

    def __init__(self, room, error=None, pads_exactly=True):
        self.room, self.error, self.pads_exactly = room, error or MemoryError(), pads_exactly
        self.tried = []

    def log_probs(self, waveforms, batch_size):
        assert batch_size == len(waveforms)
        self.tried.append(len(waveforms) * max(map(len, waveforms)))
        if self.tried[-1] > self.room:
            raise self.error
        return [np.array([[w.sum()]]) for w in waveforms]


def run(model, lengths, batch_s):
    """What `MiniBatches` makes of waveforms of ones: an outcome for each, in their order."""
    batches = MiniBatches(model, batch_s)
    outcomes = list(batches.run([np.ones(n, np.float32) for n in lengths]))
    assert sorted(o.index for o in outcomes) == list(range(len(lengths)))  # each one once
    return batches, sorted(outcomes, key=lambda o: o.index)


LENGTHS = st.lists(st.integers(1, 100), max_size=30)


@given(LENGTHS, st.integers(1, 400), st.sampled_from([1, 3, float("inf")]))
def test_a_plan_keeps_to_its_limits_and_pads_little(lengths, most_samples, most):
    batches = plan(lengths, most_samples, most)
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert len(batch) == 1 or (padded <= most_samples and len(batch) <= most)
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(lengths)  # neighbours in length are together
    for one, other in itertools.pairwise(batches):  # none could be larger
        padded = (len(one) + 1) * lengths[other[0]]
        assert padded > most_samples or len(one) == most


@given(LENGTHS, st.integers(1, 150), st.integers(20, 400))
def test_whatever_fits_alone_passes_and_the_rest_is_told(lengths, room, batch_s):
    model = Tight(room)
    _, outcomes = run(model, lengths, batch_s)
    for length, outcome in zip(lengths, outcomes, strict=True):
        assert (outcome.error is None) == (length <= room)
        if outcome.error is None:
            assert outcome.log_probs == length
        else:
            assert is_out_of_memory(outcome.error)


@given(LENGTHS, st.integers(1, 150), st.integers(20, 400))
def test_a_smaller_size_is_kept(lengths, room, batch_s):
    """After a mini-batch that was too large, none is tried that is larger than half of it."""
    model = Tight(room)
    batches, _ = run(model, lengths, batch_s)
    limit = float("inf")
    longest = max(lengths, default=0)
    for size in model.tried:
        assert size <= max(limit, longest)
        if size > room and size > longest:  # more than one waveform: halved
            limit = min(limit, size / 2)
    assert len(batches.downgrades) <= np.ceil(np.log2(batch_s)) + 1
    before = len(batches.downgrades)
    list(batches.run([np.ones(1)] * min(20, room)))  # the next files begin at that size
    assert len(batches.downgrades) == before


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: f"{type(e).__name__} {e}"[:40])
def test_every_way_to_run_out_of_memory_is_seen(error):
    assert is_out_of_memory(error)
    batches, outcomes = run(Tight(20, error), [10] * 8, batch_s=80)
    assert all(o.error is None for o in outcomes)
    assert batches.downgrades == [
        "out of memory with 80.0 s of audio at once: went on with 40.0 s",
        "out of memory with 40.0 s of audio at once: went on with 20.0 s",
    ]


def test_other_errors_are_found_and_make_nothing_smaller():
    class Fragile(Tight):
        def log_probs(self, waveforms, batch_size):
            if any(len(w) == 7 for w in waveforms):
                raise ValueError("seven")
            return super().log_probs(waveforms, batch_size)

    batches, outcomes = run(Fragile(1_000), [5, 6, 7, 8, 9], batch_s=80)
    assert [type(o.error).__name__ for o in outcomes] == [
        "NoneType", "NoneType", "ValueError", "NoneType", "NoneType",
    ]  # fmt: skip
    assert not batches.downgrades
    assert batches.limit == 80


def test_nothing_of_a_failed_attempt_is_kept():
    """The frames of an error hold its tensors, and without them gone a smaller size fails too."""

    class Array(np.ndarray):
        pass

    kept, alive = [], []

    class Holder(Tight):
        def log_probs(self, waveforms, batch_size):
            activations = np.zeros(10).view(Array)
            kept.append(weakref.ref(activations))
            alive.extend(ref() is not None for ref in kept[:-1])
            return super().log_probs(waveforms, batch_size)

    run(Holder(20), [10] * 8, batch_s=80)
    assert alive
    assert not any(alive)


def test_a_model_that_does_not_pad_exactly_has_one_at_a_time():
    model = Tight(1_000, pads_exactly=False)
    run(model, [3, 4, 5], batch_s=80)
    assert sorted(model.tried) == [3, 4, 5]


def test_seconds_are_shared_by_length():
    _, outcomes = run(Tight(1_000), [10, 30], batch_s=80)
    assert outcomes[1].seconds == pytest.approx(3 * outcomes[0].seconds)
