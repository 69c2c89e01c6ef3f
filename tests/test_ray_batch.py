"""Batches with Ray: the same results as without, whichever worker dies.

Most tests do without Ray and run what goes on in the caller and in a worker by themselves. Those at
the end want it: ``pip install "ptlab[ray]"``; they join a Ray that ``RAY_ADDRESS`` names.
"""

import contextlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

import ptlab
from ptlab import ray_batch
from ptlab._batch.file_result import FileResult
from ptlab._batch.ledger import Ledger
from ptlab._batch.ray_worker import MOST_DEATHS, Begun, Worker
from ptlab.batch import transcribe_files
from ptlab.errors import DataError, ModelError, PtlabError
from ptlab.ray_batch import RayTranscriber, transcribe_files_ray
from ptlab.text import VOCABULARY
from ptlab.transcribe import Transcriber

RATE, HOP, FIELD = 16_000, 320, 400
SECONDS = (0.5, 0.9, 1.4, 2.0, 3.1, 0.7, 1.1)
HELD_S = 1.4  # length of the file at which a worker is killed
WINDOWS = {"window_s": 1.6, "overlap_s": 0.4}


class Letters:
    """A model without weights, quick to load: the loudness of each frame is its letter.

    It keeps a diary of who heard what. ``meet`` processes must have begun before any goes on. At a
    sound of ``HELD_S``, ``first`` has the first process wait, and ``always`` ends each by a signal.
    """

    name, sampling_rate, hop, receptive_field = "letters", RATE, HOP, FIELD
    vocabulary, blank, word_delimiter, pads_exactly = VOCABULARY, 0, "|", True

    def __init__(self, folder, meet=1, first=False, always=None):
        self.diary, self.meet = Path(folder) / "diary", meet
        self.first, self.always = first, always

    def frames(self, samples):
        return max(0, (samples - FIELD) // HOP + 1)

    def log_probs(self, waveforms, batch_size=1):
        with self.diary.open("a") as file:
            file.writelines(f"{os.getpid()} {len(w) / RATE}\n" for w in waveforms)
        until = time.monotonic() + 900
        while len({pid for pid, _ in self.heard()}) < self.meet and time.monotonic() < until:
            time.sleep(0.1)
        if HELD_S in [len(w) / RATE for w in waveforms]:
            if self.always:
                os.kill(os.getpid(), self.always)
            if self.first and len(self.heard(HELD_S)) == 1:
                time.sleep(900)  # until it is killed
        return [self._spelled(w) for w in waveforms]

    def heard(self, seconds=None):
        """Process and length of each sound that was heard, or of those of one length."""
        lines = self.diary.read_text().splitlines() if self.diary.exists() else []
        pairs = [(int(pid), float(length)) for pid, length in map(str.split, lines)]
        return [pair for pair in pairs if seconds in (None, pair[1])]

    def _spelled(self, waveform):
        frames = np.lib.stride_tricks.sliding_window_view(waveform, FIELD)[::HOP]
        letters = 4 + (frames.std(axis=1) * 3000).astype(int) % (len(VOCABULARY) - 4)
        scores = np.full((len(frames), len(VOCABULARY)), -8.0, dtype=np.float32)
        scores[np.arange(len(frames)), letters] = 0.0
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


class Here(Worker):
    """A worker without Ray, whose `Begun` is in the same process."""

    def _tell(self, method, numbers):
        return getattr(self.begun, method)(numbers)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, speechlike):
    """Sounds, one of them twice, and between them what cannot be read; a folder too."""
    folder = tmp_path_factory.mktemp("sounds")
    paths = [str(folder / f"{n}.wav") for n in range(len(SECONDS))]
    for n, path in enumerate(paths):
        soundfile.write(path, speechlike(SECONDS[n], seed=n), RATE)
    broken = folder / "broken.wav"
    broken.write_bytes(Path(paths[0]).read_bytes()[:30])
    twin = folder / "twin.wav"
    twin.write_bytes(Path(paths[1]).read_bytes())
    missing = str(folder / "missing.wav")
    return [*paths[:3], str(broken), missing, *paths[3:], str(twin), paths[0]]


@pytest.fixture
def model(tmp_path):
    return Letters(tmp_path)


@pytest.fixture(scope="module")
def expected(inputs, tmp_path_factory):
    model = Transcriber(Letters(tmp_path_factory.mktemp("expected")), **WINDOWS)
    report = transcribe_files(inputs, model, progress=False)
    assert report.counts == {"ok": 9, "unreadable": 2}
    assert len({r.text for r in report if r.text}) == len(SECONDS)  # so that mix-ups are seen
    return report


def check(report, expected):
    assert list(report) == list(expected)
    assert report.counts == expected.counts
    assert report.audio_s == expected.audio_s
    assert not report.interrupted and not report.missing


def lines_of(journal):
    rows = [json.loads(line) for line in Path(journal).read_text("utf-8").splitlines()]
    return [row for row in rows if "digest" in row]


# --- without Ray ---------------------------------------------------------------------------------


def test_without_ray_it_is_told_how_to_get_it(monkeypatch, inputs):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PtlabError, match=r'Ray is missing .*pip install "ptlab\[ray\]"'):
        transcribe_files_ray(inputs)


@pytest.mark.parametrize("option", ["workers", "files_per_task", "jobs", "batch_s", "cpus", "gpus"])
def test_numbers_out_of_range_are_refused(inputs, option):
    with pytest.raises(PtlabError, match=f"{option}=-1"):
        transcribe_files_ray(inputs, **{option: -1})


@pytest.fixture
def no_ray(monkeypatch):
    """Tasks of two files by a worker in this process; the last task comes back first."""

    def rows(ray, todo, stage, workers, files_per_task, cpus, gpus):
        worker = Here(**stage, begun=Begun())
        tasks = [todo[i : i + files_per_task] for i in range(0, len(todo), files_per_task)]
        for task in reversed(tasks):
            yield from map(json.loads, worker({"number": np.array(task)})["row"])

    class Errors:
        class exceptions:  # noqa: N801
            RayError = ZeroDivisionError

    monkeypatch.setattr(ray_batch, "_ray", Errors)
    monkeypatch.setattr(ray_batch, "_running", lambda ray: contextlib.nullcontext())
    monkeypatch.setattr(ray_batch, "_rows", rows)


def run(inputs, model, **options):
    given = model if isinstance(model, str | Transcriber) else Transcriber(model, **WINDOWS)
    options = {"files_per_task": 2, "progress": False, **options}
    return transcribe_files_ray(inputs, given, **options)


def test_results_are_in_the_order_of_the_inputs_in_whatever_order_they_come(
    no_ray, inputs, model, expected
):
    report = run(inputs, model)
    check(report, expected)
    assert report.heard_s == pytest.approx(sum(SECONDS))  # the twins once
    assert report.model == "letters"


def test_what_the_journal_knows_is_not_heard_again(no_ray, inputs, model, expected, tmp_path):
    journal = tmp_path / "journal.jsonl"
    run(inputs[:4], model, journal=journal)
    before = len(model.heard())
    report = run(inputs, model, journal=journal)
    check(report, expected)
    assert "5 files were done before" in str(report)  # three sounds, two of them twice
    digests = [row["digest"] for row in lines_of(journal) if row["status"] == "ok"]
    assert len(digests) == len(set(digests)) == len(SECONDS)
    assert not {0.5, 0.9, 1.4} & {seconds for _, seconds in model.heard()[before:]}
    before = len(model.heard())
    check(run(inputs, model, journal=journal), expected)
    assert len(model.heard()) == before


def test_its_journal_is_the_one_of_transcribe_files(no_ray, inputs, model, expected, tmp_path):
    journal = tmp_path / "journal.jsonl"
    run(inputs, model, journal=journal)
    before = len(model.heard())
    transcriber = Transcriber(model, **WINDOWS)
    check(transcribe_files(inputs, transcriber, journal=journal, progress=False), expected)
    assert len(model.heard()) == before


def test_stopped_in_the_middle_it_says_what_is_missing(
    no_ray, inputs, model, expected, tmp_path, monkeypatch
):
    journal, write = tmp_path / "journal.jsonl", Ledger.write

    def stop_at_the_third(ledger, *result, **twins):
        if len(ledger.entries) >= 3:
            raise KeyboardInterrupt
        write(ledger, *result, **twins)

    monkeypatch.setattr(Ledger, "write", stop_at_the_third)
    report = run(inputs, model, journal=journal)
    assert report.interrupted and len(report) == 3
    assert len(report.missing) == len(inputs) - 3
    assert list(report) == [r for r in expected if r.path not in report.missing][-3:]
    monkeypatch.undo()
    transcriber = Transcriber(model, **WINDOWS)
    check(transcribe_files(inputs, transcriber, journal=journal, progress=False), expected)


def test_rows_that_are_no_sound_have_a_result_too(no_ray, inputs, model):
    rows = pd.Series([{"path": 5}, None, {}, inputs[0]], dtype=object).to_frame("path")
    report = run(rows, model)
    local = transcribe_files(rows, Transcriber(model, **WINDOWS), progress=False)
    assert [r.path for r in report] == [r.path for r in local]
    assert report.counts["ok"] == 1 and "ok" not in {r.status for r in report[:3]}


def test_a_journal_in_use_is_refused(no_ray, inputs, model, tmp_path):
    from ptlab._batch.journal import Journal

    with (
        Journal(tmp_path / "journal.jsonl", {}),
        pytest.raises(DataError, match="being written by another run"),
    ):
        run(inputs, model, journal=tmp_path / "journal.jsonl")


def test_a_model_that_is_not_there_is_told_before_workers_start(no_ray, inputs):
    with pytest.raises(ModelError):
        run(inputs, "no/such-folder-of-a-model/here")


def worker_for(inputs, model, begun):
    get = ptlab.batch.find_sources(inputs).get
    return Here(os.getcwd(), get, begun, model=Transcriber(model, **WINDOWS))


def done(worker, numbers):
    rows = map(json.loads, worker({"number": np.array(numbers)})["row"])
    return [(row["number"], FileResult.from_dict(row["result"])) for row in rows]


def test_after_a_death_a_worker_does_its_files_one_by_one(inputs, model, expected, monkeypatch):
    begun = Begun()
    calls = []
    worker = worker_for(inputs, model, begun)
    original = worker.transcriber.transcribe
    monkeypatch.setattr(
        worker.transcriber,
        "transcribe",
        lambda sounds: calls.append(s := list(sounds)) or original(s),
    )
    numbers = [0, 2, 3]
    want = [(n, expected[n]) for n in numbers]
    assert done(worker, numbers) == want
    begun.begin(numbers)  # and then the worker died
    assert done(worker, numbers) == want
    assert list(map(len, calls)) == [3, 1, 1, 1]


def test_a_file_in_which_every_worker_dies_fails_alone(inputs, model, expected):
    """Deaths are simulated by an error that leaves the worker where SIGKILL would."""
    begun, numbers, deaths = Begun(), [0, 2, 5], 0

    class Killed(BaseException):
        pass

    def die(waveforms, batch_size=1):
        if HELD_S in [len(w) / RATE for w in waveforms]:
            raise Killed
        return Letters.log_probs(model, waveforms)

    model.log_probs = die
    while True:
        try:
            results = done(worker_for(inputs, model, begun), numbers)
            break
        except Killed:
            deaths += 1
    assert deaths == MOST_DEATHS
    assert [n for n, _ in results] == numbers
    assert [r.status for _, r in results] == ["ok", "failed", "ok"]
    assert results[0][1] == expected[0] and results[2][1] == expected[5]
    assert results[1][1].path == inputs[2] and "workers died" in results[1][1].message


def test_a_stage_of_ones_own_adds_columns(inputs, model, expected):
    stage = RayTranscriber(Transcriber(model, **WINDOWS), column="sound")
    folder = str(Path(inputs[0]).parent)
    sounds = np.array([inputs[0], inputs[4], folder], dtype=object)
    rows = stage({"sound": sounds, "id": np.array([5, 6, 7])})
    assert rows["id"].tolist() == [5, 6, 7]  # a folder is one row, and no sound
    assert rows["status"][:2].tolist() == ["ok", "unreadable"] and rows["status"][2] != "ok"
    assert rows["text"][0] == expected[0].text
    assert np.isnan(rows["confidence"][1]) and rows["confidence"][0] == expected[0].confidence
    results = [FileResult.from_dict(json.loads(row)) for row in rows["result"]]
    assert results[:2] == [expected[0], expected[4]]


# --- with Ray ------------------------------------------------------------------------------------

with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason='Ray is not installed: pip install "ptlab[ray]"',
)


@pytest.fixture(scope="module")
def local_ray():
    import ray

    own = "RAY_ADDRESS" not in os.environ
    size = {"num_cpus": 2, "object_store_memory": 100_000_000} if own else {}
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="WARNING", **size)
    # The model of these tests is in this file, which workers cannot import.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ray
    ray.shutdown()


@with_ray
def test_two_workers_give_what_transcribe_files_gives(local_ray, inputs, expected, tmp_path):
    model, journal = Letters(tmp_path, meet=2), tmp_path / "journal.jsonl"
    report = run(inputs, model, workers=2, journal=journal)
    check(report, expected)
    assert len({pid for pid, _ in model.heard()} - {os.getpid()}) == 2
    before = len(model.heard())
    check(run(inputs, model, journal=journal), expected)
    assert len(model.heard()) == before


@with_ray
def test_a_worker_that_is_killed_costs_nothing(local_ray, inputs, tmp_path, expected):
    model, killed = Letters(tmp_path, first=True), []
    journal = tmp_path / "journal.jsonl"

    def kill():
        while not model.heard(HELD_S):
            time.sleep(0.1)
        pid = model.heard(HELD_S)[0][0]
        assert pid != os.getpid()
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    report = run(inputs, model, workers=2, journal=journal)
    check(report, expected)
    assert len(killed) == 1
    (first, _), *others = model.heard(HELD_S)
    assert first == killed[0] and others and first not in {pid for pid, _ in others}
    written = lines_of(journal)
    assert len(written) == len(inputs) - 2  # the two twins
    digests = [row["digest"] for row in written if row["digest"]]
    assert len(digests) == len(set(digests))


@with_ray
def test_a_file_that_kills_every_worker_does_not_stop_the_others(
    local_ray, inputs, tmp_path, expected
):
    model = Letters(tmp_path, always=signal.SIGKILL)
    report = run(inputs, model, workers=1)
    fatal = inputs[SECONDS.index(HELD_S)]
    assert [r.path for r in report if r.status == "failed"] == [fatal]
    assert [r for r in report if r.path != fatal] == [r for r in expected if r.path != fatal]
    assert len(model.heard(HELD_S)) == MOST_DEATHS


@with_ray
def test_a_model_by_name_is_loaded_by_each_worker(local_ray, tmp_path, monkeypatch):
    clips = ptlab.load_corpus("test").frame.file[:4].tolist()
    folder = Path(os.path.commonpath(clips))
    monkeypatch.chdir(folder)
    names = [os.path.relpath(clip) for clip in clips]  # which workers must find too
    expected = transcribe_files(names, "mini", device="cpu", progress=False)
    assert expected.counts == {"ok": 4}
    report = transcribe_files_ray(names, "mini", workers=2, files_per_task=2, progress=False)
    assert [(r.path, r.status, r.text) for r in report] == [
        (r.path, r.status, r.text) for r in expected
    ]
    for got, want in zip(report, expected, strict=True):
        assert got.confidence == pytest.approx(want.confidence, abs=1e-3)
