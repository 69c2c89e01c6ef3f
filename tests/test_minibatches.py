"""Mini-batches: what is put together, and what happens when memory runs out."""

import contextlib
import itertools
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptlab import minibatches
from ptlab.minibatches import MiniBatches, is_out_of_memory, lanes_for, plan_minibatches

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


def run(model, lengths, batch_s, lanes=1):
    """What `MiniBatches` makes of waveforms of ones: an outcome for each, in their order."""
    batches = MiniBatches(model, batch_s, lanes)
    outcomes = list(batches.run([np.ones(n, np.float32) for n in lengths]))
    assert sorted(o.index for o in outcomes) == list(range(len(lengths)))  # each one once
    return batches, sorted(outcomes, key=lambda o: o.index)


LENGTHS = st.lists(st.integers(1, 100), max_size=30)


@given(LENGTHS, st.integers(1, 400), st.sampled_from([1, 3, float("inf")]))
def test_a_plan_keeps_to_its_limits_and_pads_little(lengths, most_samples, most):
    batches = plan_minibatches(lengths, most_samples, most)
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert len(batch) == 1 or (padded <= most_samples and len(batch) <= most)
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(lengths)  # neighbours in length are together
    for one, other in itertools.pairwise(batches):  # none could be larger
        padded = (len(one) + 1) * lengths[other[0]]
        assert padded > most_samples or len(one) == most


@given(LENGTHS, st.integers(1, 400), st.floats(0, 1))
def test_no_more_is_padded_than_may_be(lengths, most_samples, share):
    batches = plan_minibatches(lengths, most_samples, most_padding=share)
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    for batch in batches:
        sound, padded = sum(lengths[i] for i in batch), len(batch) * lengths[batch[-1]]
        assert padded - sound <= share * padded


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


def test_seconds_of_lanes_do_not_count_twice(monkeypatch):
    """Two mini-batches of 10 s by this clock, both at once, take 10 s of the cores."""
    clock = threading.local()

    class Slow(Tight):
        def log_probs(self, waveforms, batch_size):
            clock.now = getattr(clock, "now", 0) + 10
            return super().log_probs(waveforms, batch_size)

    now = SimpleNamespace(perf_counter=lambda: getattr(clock, "now", 0))
    monkeypatch.setattr("ptlab.minibatches.time", now)
    _, outcomes = run(Slow(1_000), [20] * 2, batch_s=40, lanes=2)
    assert sum(o.seconds for o in outcomes) == 10
    _, outcomes = run(Slow(1_000), [35], batch_s=40, lanes=2)  # alone, by all cores
    assert outcomes[0].seconds == 10


class Crowded(Tight):
    """Has room for so many samples in all lanes together, and sees how many are in use."""

    def __init__(self, room):
        super().__init__(room)
        self.lock, self.held, self.most_held, self.together = threading.Lock(), 0, 0, 0
        self.running, self.met = 0, threading.Barrier(2)

    def log_probs(self, waveforms, batch_size):
        size = len(waveforms) * max(map(len, waveforms))
        with self.lock:
            self.held, self.running = self.held + size, self.running + 1
            self.most_held = max(self.held, self.most_held)
            self.together = max(self.together, self.running)
        try:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.met.wait(0.2)  # until another one is there
            self.met.reset()
            if self.held > self.room:
                raise MemoryError
            return [np.array([[w.sum()]]) for w in waveforms]
        finally:
            with self.lock:
                self.held, self.running = self.held - size, self.running - 1


def test_lanes_run_at_once_within_the_seconds_of_a_batch():
    model = Crowded(1_000)
    batches, outcomes = run(model, [5, 10, 10, 20, 20, 20, 35], batch_s=40, lanes=2)
    assert [o.log_probs for o in outcomes] == [5, 10, 10, 20, 20, 20, 35]
    assert model.together == 2
    assert model.most_held == 40  # the one of 35 ran alone
    assert not batches.downgrades


def test_few_waveforms_are_shared_out_among_the_lanes():
    """Two short clips fit into one mini-batch, which half of the cores would run alone."""
    model = Crowded(1_000)
    run(model, [2, 3], batch_s=40, lanes=2)
    assert model.together == 2
    model = Tight(1_000)
    run(model, [1, 1, 1, 1, 4, 4], batch_s=80, lanes=2)
    assert sorted(model.tried) == [4, 8]  # padding included; the half of six would be 3 and 12


@given(LENGTHS, st.integers(20, 400), st.sampled_from([1, 3, float("inf")]))
def test_no_lane_is_idle_at_the_end_unless_nothing_can_be_halved(lengths, most_samples, most):
    whole = plan_minibatches(lengths, most_samples, most)
    shared = [list(batch) for batch in whole]
    minibatches._fill_lanes(shared, lengths, 2)
    assert [i for b in shared for i in b] == [i for b in whole for i in b]  # the order stays
    if any(len(batch) > 1 for batch in whole):
        assert len(shared) % 2 == 0
    else:
        assert shared == whole
    assert len(shared) - len(whole) == (len(whole) % 2 if len(shared) % 2 == 0 else 0)


def test_without_memory_for_two_lanes_there_is_one():
    model = Crowded(25)
    batches, outcomes = run(model, [20] * 6, batch_s=40, lanes=2)
    assert all(o.error is None for o in outcomes)
    assert batches.lanes == 1
    assert batches.downgrades == [
        "out of memory with 20.0 s of audio beside another mini-batch: went on with one at a time"
    ]


@given(LENGTHS, st.integers(1, 150), st.integers(20, 400))
def test_lanes_end_as_one_does(lengths, room, batch_s):
    _, outcomes = run(Tight(room), lengths, batch_s, lanes=2)
    assert [o.error is None for o in outcomes] == [length <= room for length in lengths]


def test_what_failed_beside_another_is_tried_alone_though_the_lanes_are_gone():
    """Both lanes lack memory at once: the first that is told of ends them, for the second too."""
    together = threading.Barrier(2)

    class Crowded(Tight):
        def log_probs(self, waveforms, batch_size):
            if threading.current_thread() is not threading.main_thread() and not self.tried:
                together.wait()
                time.sleep(0.05)  # both have begun
                raise MemoryError
            return super().log_probs(waveforms, batch_size)

    batches, outcomes = run(Crowded(1_000), [20, 20], batch_s=40, lanes=2)
    assert batches.lanes == 1 and [o.error for o in outcomes] == [None, None]


def test_lanes_pad_little():
    model = Tight(1_000)
    run(model, [20, 40, 60, 100], batch_s=400, lanes=2)
    assert sorted(model.tried) == [20, 40, 60, 100]


def test_lanes_share_the_threads_of_torch():
    """And give them back: what a thread sets is what threads begun after it have."""

    class Counting(Tight):
        def log_probs(self, waveforms, batch_size):
            seen.append(torch.get_num_threads())
            return super().log_probs(waveforms, batch_size)

    def threads_of_a_new_thread():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(6)
        run(Counting(1_000), [10] * 4 + [35], batch_s=40, lanes=2)
        assert sorted(set(seen)) == [3, 6]  # the long one has them all
        assert torch.get_num_threads() == threads_of_a_new_thread() == 6
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("lengths", "threads"),
    [([10], [6]), ([10, 10], [3, 3]), ([15, 15, 15], [3, 3, 6]), ([15, 15, 35], [3, 3, 6])],
)
def test_what_has_no_partner_has_all_threads(lengths, threads):
    class Counting(Tight):
        def log_probs(self, waveforms, batch_size):
            seen.append(torch.get_num_threads())
            return super().log_probs(waveforms, batch_size)

    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(6)
        run(Counting(1_000), lengths, batch_s=40, lanes=2)
        assert sorted(seen) == threads
    finally:
        torch.set_num_threads(before)


def test_lanes_are_for_a_cpu_with_threads_to_share():
    model = SimpleNamespace(device=torch.device("cpu"))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert lanes_for(model) == 2
        assert lanes_for(SimpleNamespace(device=torch.device("meta"))) == 1
        torch.set_num_threads(1)  # who asked for one core gets one
        assert lanes_for(model) == 1
    finally:
        torch.set_num_threads(before)
