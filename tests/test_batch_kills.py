"""A batch that is killed at any moment and run again: nothing lost, nothing done twice, and at the
end the report of a run that was left in peace."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import soundfile
from batch_process import CAN_FORK, NO_FORK, Runs

from ptlab._batch.journal import Journal
from ptlab.batch import transcribe_files
from ptlab.data import load_corpus, load_story

pytestmark = pytest.mark.skipif(not CAN_FORK, reason=NO_FORK)

BATCH_S = 12.0  # so that the files get done in many steps
SECONDS = ("load_s", "model_s", "total_s")
TRIED_AGAIN = ("unreadable", "unsupported", "out_of_memory", "failed")  # these a resume does again


@pytest.fixture(scope="module")
def runs():
    with Runs() as started:
        yield started


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Short clips, one of several windows, the same content twice, and files that are no good."""
    folder = tmp_path_factory.mktemp("inputs")
    frame = load_corpus("test").frame.sort_values("duration_s")
    paths = frame.file[:14].tolist()
    story = load_story().audio().waveform[: 50 * 16_000]
    soundfile.write(folder / "long.flac", story, 16_000)
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(folder / "short.wav", np.full(100, 0.1), 16_000)
    (folder / "text.wav").write_text("Isto não é som.")
    (folder / "nothing.wav").write_bytes(b"")
    whole = (folder / "long.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 20])
    odd = [str(folder / name) for name in ("text.wav", "silent.wav", "long.flac", "short.wav")]
    more = [str(folder / name) for name in ("nothing.wav", "cut.flac", "not there.wav")]
    return [*paths[:3], *odd, *paths[3:9], paths[0], *more, *paths[9:]]


@pytest.fixture(scope="module")
def peace(runs, inputs, tmp_path_factory):
    """The report of a run that nobody disturbed, with how long it took and how long its journal."""
    journal = tmp_path_factory.mktemp("peace") / "journal.jsonl"
    start = time.monotonic()
    report = runs.run(inputs, journal=str(journal), batch_s=BATCH_S)
    report["seconds"] = time.monotonic() - start
    report["bytes"] = journal.stat().st_size
    statuses = {r["status"] for r in report["results"]}
    assert statuses >= {"ok", "empty", "too_short", "silent", "unreadable", "unsupported"}
    assert max(r["windows"] for r in report["results"]) == 3
    return report


def rows(report):
    """Results as they must come out again: without seconds, confidences to four digits."""
    return [
        {k: _rounded(v) for k, v in result.items() if k not in SECONDS}
        for result in report["results"]
    ]


def _rounded(value):
    """Another mini-batch adds its floats in another order."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def finished(journal):
    """Whole lines of a journal that are results which are not done again."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")[:-1]
    results = [row for row in map(json.loads, lines) if "digest" in row]
    return [row for row in results if row["digest"] and row["status"] not in TRIED_AGAIN]


def whole_lines(journal):
    content = journal.read_bytes() if journal.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def start_and_kill(runs, inputs, journal, peace, rng, signum=signal.SIGKILL):
    """Start or resume a run and kill it at a random moment; its exit code.

    The moment is a time, or a length of the journal: during a write or right after it.
    """
    runs.start(inputs, journal=str(journal), batch_s=BATCH_S)
    if rng.random() < 0.5:
        runs.wait(float(rng.uniform(0, peace["seconds"])))
    else:
        length = rng.uniform(0, peace["bytes"])
        while (journal.stat().st_size if journal.exists() else 0) < length:
            if runs.wait(0.0005) is not None:
                return 0
    return runs.kill(signum) if runs.pid else 0


def check_resume(runs, inputs, journal, peace):
    """Run to the end: as in peace, nothing lost and nothing twice."""
    before, kept = finished(journal), whole_lines(journal)
    report = runs.run(inputs, journal=str(journal), batch_s=BATCH_S)
    assert rows(report) == rows(peace)
    assert not report["interrupted"]
    assert journal.read_bytes().startswith(kept)
    done = [row["digest"] for row in finished(journal)]
    assert len(done) == len(set(done))
    spared = {row["digest"] for row in before}
    due = {r["digest"]: r["windows"] for r in peace["results"] if r["digest"] not in spared}
    assert report["windows_run"] == sum(due.values())


def check_kills(runs, inputs, peace, folder, count, seed):
    """``count`` kills, up to three of one run one after another, then each run's end."""
    rng = np.random.default_rng(seed)
    kills, lengths, number = 0, set(), 0
    while kills < count:
        journal = folder / f"{number}.jsonl"
        for _ in range(int(rng.integers(1, 4))):
            killed = start_and_kill(runs, inputs, journal, peace, rng) == -signal.SIGKILL
            kills += killed
            lengths.add(len(finished(journal)))
        check_resume(runs, inputs, journal, peace)
        number += 1
    return lengths


def test_a_run_in_peace_does_each_content_once(peace, inputs):
    assert [r["path"] for r in peace["results"]] == inputs
    by_digest = {r["digest"]: r["windows"] for r in peace["results"]}
    assert peace["windows_run"] == sum(by_digest.values())


def test_3_kills(runs, inputs, peace, tmp_path):
    check_kills(runs, inputs, peace, tmp_path, count=3, seed=0)


@pytest.mark.slow
def test_50_kills(runs, inputs, peace, tmp_path):
    lengths = check_kills(runs, inputs, peace, tmp_path, count=50, seed=1)
    assert len(lengths) > 5  # they struck at many stages of the work


@pytest.mark.parametrize("count", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_a_journal_that_lost_its_end_is_taken_up(runs, inputs, peace, tmp_path, count):
    """As after a power cut, if the disk lied: cut at any byte, the first line among them."""
    rng = np.random.default_rng(count)
    journal = tmp_path / "journal.jsonl"
    runs.run(inputs, journal=str(journal), batch_s=BATCH_S)
    content = journal.read_bytes()
    for k in range(count):
        head = content.find(b"\n") + 2
        cut = rng.integers(head if k % 4 == 3 else len(content))
        journal.write_bytes(content[:cut])
        check_resume(runs, inputs, journal, peace)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_a_report_of_what_is_done(runs, inputs, peace, tmp_path, signum):
    journal = tmp_path / "journal.jsonl"
    runs.start(inputs, journal=str(journal), batch_s=BATCH_S)
    while len(finished(journal)) < 4:
        assert runs.wait(0.001) is None, runs.log
    assert runs.kill(signum) == 0, runs.log
    report = runs.report()
    assert report["interrupted"]
    assert 4 <= len(report["results"]) < len(inputs)
    whole = {r["path"]: r for r in rows(peace)}
    assert all(whole[r["path"]] == r for r in rows(report))
    check_resume(runs, inputs, journal, peace)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_right_after_a_write_waits_until_the_report_knows_it(
    tiny_model, inputs, monkeypatch, signum
):
    write = Journal.write

    def interrupted(journal, result):
        entry = write(journal, result)
        signal.raise_signal(signum)
        return entry

    monkeypatch.setattr(Journal, "write", interrupted)
    report = transcribe_files(inputs[:3], tiny_model, progress=False)
    assert report.interrupted
    assert len(report) == 1
    assert len(report.missing) == 2


@pytest.mark.slow
def test_the_command_is_killed_5_times(inputs, tmp_path):
    """From a shell, at moments of the whole life of the process, its start among them."""
    (tmp_path / "files.csv").write_text("\n".join(["path", *inputs]), "utf-8")

    def command(name):
        arguments = ["files.csv", "--out", f"{name}.csv", "--journal", f"{name}.jsonl"]
        return [sys.executable, "-m", "ptlab", "batch", *arguments]

    def table(name):
        return pd.read_csv(tmp_path / f"{name}.csv").drop(columns=list(SECONDS))

    options = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = time.monotonic()
    assert subprocess.run([*command("peace")], **options, check=False).returncode == 3
    seconds = time.monotonic() - start
    rng = np.random.default_rng(2)
    for _ in range(5):
        process = subprocess.Popen(command("killed"), **options)
        time.sleep(rng.uniform(0, seconds))
        process.kill()
        process.wait()
    assert subprocess.run(command("killed"), **options, check=False).returncode == 3
    pd.testing.assert_frame_equal(table("peace"), table("killed"), rtol=1e-4)
