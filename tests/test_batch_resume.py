"""A batch that ends early and is run again: nothing lost, nothing done twice."""

import os
import shutil
import signal

import pytest
import soundfile
from conftest import save_tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from ptlab._batch.inputs import Sources
from ptlab._batch.journal import Journal
from ptlab._batch.ledger import Ledger
from ptlab._batch.progress import Progress
from ptlab.batch import transcribe_files
from ptlab.errors import DataError
from ptlab.models import load_model
from ptlab.transcribe import Transcriber

RATE = 16_000


class Counting:
    """A model that counts the windows that it hears, and can do something before the n-th."""

    def __init__(self, model, before=None, at=0):
        self._model, self._before, self._at = model, before, at
        self.windows = 0

    def __getattr__(self, name):
        return getattr(self._model, name)

    def log_probs(self, waveforms, **options):
        self.windows += len(waveforms)
        if self._before and self.windows >= self._at:
            self._before()
        return self._model.log_probs(waveforms, **options)


def run(inputs, model, journal, **options):
    transcriber = Transcriber(model, window_s=3.0, overlap_s=1.0)
    options = {"batch_s": 2.0, "progress": False, **options}
    return transcribe_files(inputs, transcriber, journal=journal, **options)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, speechlike):
    folder = tmp_path_factory.mktemp("sounds")
    paths = []
    for n, seconds in enumerate((0.5, 0.8, 7.0, 1.1, 1.2, 0.9)):
        paths.append(str(folder / f"{n}.flac"))
        soundfile.write(paths[-1], speechlike(seconds, n), RATE)
    (folder / "text.wav").write_text("no sound")
    shutil.copy(paths[1], folder / "twin.flac")
    soundfile.write(folder / "short.wav", speechlike(0.02), RATE)
    return [*paths[:3], *(str(folder / n) for n in ("text.wav", "twin.flac", "short.wav")),
            *paths[3:]]  # fmt: skip


@pytest.fixture(scope="module")
def peace(inputs, tiny_model, tmp_path_factory):
    """A run that nobody disturbed: its report, its journal and the windows it took."""
    journal, model = tmp_path_factory.mktemp("peace") / "j", Counting(tiny_model)
    report = run(inputs, model, journal)
    assert report.counts == {"ok": 7, "too_short": 1, "unsupported": 1}
    return report, journal.read_bytes(), model.windows


def check(report, peace):
    """The same, but for the last digits of what other mini-batches add up in another order."""
    assert [r.path for r in report] == [r.path for r in peace]
    for one, other in zip(report, peace, strict=True):
        assert (one.status, one.text, one.message) == (other.status, other.text, other.message)
        assert (one.duration_s, one.windows) == (other.duration_s, other.windows)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
        times = [[(w.text, w.start_s, w.end_s) for w in r.words] for r in (one, other)]
        assert times[0] == times[1]
    assert (report.counts, report.missing, report.interrupted) == (peace.counts, (), False)
    assert report.audio_s == peace.audio_s


@settings(max_examples=12)
@given(st.data())
def test_a_run_from_any_bytes_of_a_journal_is_as_if_nothing_had_happened(
    inputs, tiny_model, tmp_path_factory, peace, data
):
    report, content, windows = peace
    size = data.draw(st.integers(0, len(content)))
    journal, model = tmp_path_factory.mktemp("cut") / "j", Counting(tiny_model)
    journal.write_bytes(content[:size])
    again = run(inputs, model, journal)
    check(again, report)
    lines = content[:size].splitlines(keepends=True)
    done = [r for r in report.results if f'"path": "{r.path}"'.encode() in b"".join(
        line for line in lines if line.endswith(b"\n"))]  # fmt: skip
    assert model.windows == windows - sum(r.windows for r in done)
    model.windows = 0
    check(run(inputs, model, journal), report)
    assert model.windows == 0


def test_files_that_change_are_done_again_and_files_that_move_are_not(
    inputs, tiny_model, tmp_path, speechlike
):
    first, second = (shutil.copy(p, tmp_path) for p in (inputs[0], inputs[6]))
    before = run([first, second], tiny_model, tmp_path / "j")
    soundfile.write(first, speechlike(0.6, seed=9), RATE)
    os.rename(second, tmp_path / "moved.flac")
    model = Counting(tiny_model)
    after = run([first, tmp_path / "moved.flac"], model, tmp_path / "j")
    assert model.windows == 1
    assert after[0].text == Transcriber(tiny_model).transcribe(first).text != before[0].text
    assert (after[1].path, after[1].text) == (str(tmp_path / "moved.flac"), before[1].text)
    assert "1 files were done before" in after.notes[0]
    assert after.heard_s == pytest.approx(0.6)


def test_another_model_does_all_again(inputs, tiny_model, tmp_path):
    first = run(inputs, tiny_model, tmp_path / "j")
    other = load_model(save_tiny(tmp_path / "other", seed=5), device="cpu")
    second = run(inputs, other, tmp_path / "j")
    single = Transcriber(other, window_s=3.0, overlap_s=1.0)
    assert [r.text for r in second if r.status == "ok"] == [
        single.transcribe(r.path).text for r in second if r.status == "ok"
    ]
    assert [r.text for r in first] != [r.text for r in second]
    model = Counting(tiny_model)
    check(run(inputs, model, tmp_path / "j"), first)  # those of the first are still there
    assert model.windows == 0


def test_what_is_mended_is_found(tiny_model, tmp_path, speechlike):
    path = tmp_path / "late.wav"
    assert run([path], tiny_model, tmp_path / "j").counts == {"unreadable": 1}
    soundfile.write(path, speechlike(1), RATE)
    assert run([path], tiny_model, tmp_path / "j").counts == {"ok": 1}


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_stop_signal_ends_cleanly_and_the_rest_is_done_later(
    inputs, tiny_model, tmp_path, peace, number, at
):
    number = getattr(signal, number)
    before = signal.getsignal(number)
    model = Counting(tiny_model, lambda: signal.raise_signal(number), at)
    part = run(inputs, model, tmp_path / "j")
    assert signal.getsignal(number) == before
    assert part.interrupted
    assert part.missing
    assert sorted([*part.missing, *(r.path for r in part)]) == sorted(inputs)
    assert f"Interrupted: {len(part.missing)} files have no result yet." in str(part)
    whole = {r.path: r.text for r in peace[0]}
    assert all(whole[r.path] == r.text for r in part)
    rest = Counting(tiny_model)
    check(run(inputs, rest, tmp_path / "j"), peace[0])
    assert rest.windows == peace[2] - sum({r.digest: r.windows for r in part}.values())


def test_a_handler_of_somebody_else_is_left_alone(inputs, tiny_model):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        model = Counting(tiny_model, lambda: signal.raise_signal(signal.SIGTERM), 1)
        assert not run(inputs[:1], model, None).interrupted
        assert seen
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_run_on_one_journal_is_refused(inputs, tiny_model, tmp_path):
    def second():
        with pytest.raises(DataError, match="is being written by another run"):
            run(inputs, tiny_model, tmp_path / "j")

    report = run(inputs[:2], Counting(tiny_model, second, 1), tmp_path / "j")
    assert report.counts == {"ok": 2}


def test_a_bar_says_how_far_it_is(inputs, tiny_model, tmp_path, capsys):
    run(inputs, tiny_model, None, progress=True)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "100%" in last and "9/9 files, 0.00 h of audio" in last
    assert "times real time, 2 not ok" in last
    run(inputs, tiny_model, None)
    assert capsys.readouterr().err == ""


def test_a_row_that_cannot_be_read_is_named_among_the_missing():
    def get(number):
        raise ValueError("a damaged row")

    sources = Sources(2, get)
    with Journal(None, {}) as journal, Progress(sources, show=False) as bar:
        report = Ledger(sources, journal, bar).report("mini", 1.0, interrupted=True)
    assert report.missing == ("row 0", "row 1") and len(report) == 0
