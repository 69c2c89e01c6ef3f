"""Results on disk: written at once, found again, never mixed up, whatever happened to the file."""

import json
import os
import subprocess
import sys

import pytest
from conftest import save_tiny
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ptlab._batch.file_result import STATUSES, FileResult
from ptlab._batch.journal import TRIED_AGAIN, Journal, settings_of
from ptlab.errors import DataError
from ptlab.models import load_model
from ptlab.transcribe import Transcriber
from ptlab.transcription import Character, Word

SETTINGS = {"model": "a", "window_s": 20.0}

TEXT = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates among them
NUMBER = st.floats(0, 1e5, allow_nan=False)
CHARACTER = st.builds(Character, TEXT, NUMBER, NUMBER, NUMBER)
WORD = st.builds(Word, TEXT, NUMBER, NUMBER, NUMBER, st.lists(CHARACTER, max_size=2).map(tuple))
RESULT = st.builds(
    FileResult,
    path=TEXT,
    status=st.sampled_from(STATUSES),
    text=TEXT,
    words=st.lists(WORD, max_size=3).map(tuple),
    confidence=st.none() | NUMBER,
    duration_s=NUMBER,
    message=st.none() | TEXT,
    digest=st.none() | st.text("0123456789abcdef", min_size=4),
    downgrades=st.lists(TEXT, max_size=2).map(tuple),
)


def result(n, status="ok"):
    words = (Word("olá", 0.1, 0.4, 0.9, (Character("á", 0.3, 0.4, 0.9),)),)
    return FileResult(f"{n}.wav", status, f"olá {n}", words, duration_s=n, digest=f"digest {n}")


def written(path, results, settings=SETTINGS):
    with Journal(path, settings) as journal:
        return [journal.write(r) for r in results]


def found(path, settings=SETTINGS):
    """Results of a journal that is opened again, by digest."""
    with Journal(path, settings) as journal:
        return {digest: journal.read(entry) for digest, entry in journal.known.items()}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RESULT, max_size=6))
@example([FileResult("caf\udce9.wav", "ok", digest="e9")])  # a name in Latin-1, as Python reads it
def test_what_is_written_is_read(tmp_path, results):
    path = tmp_path / "j.jsonl"
    path.unlink(missing_ok=True)
    for place in (path, None):
        with Journal(place, SETTINGS) as journal:
            entries = [journal.write(r) for r in results]
            assert [journal.read(e) for e in entries] == results
        assert [journal.read(e) for e in entries] == results  # when it is closed, too
    kept = {r.digest: r for r in results if r.digest and r.status not in TRIED_AGAIN}
    assert found(path) == kept


def test_a_line_is_on_the_disk_before_the_next_file(tmp_path, monkeypatch):
    synced, original = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), original(fd)))
    with Journal(tmp_path / "j", SETTINGS) as journal:
        for n in range(3):
            journal.write(result(n))
            content = (tmp_path / "j").read_bytes()
            assert json.loads(content.splitlines()[-1])["path"] == f"{n}.wav"
            assert synced[-1] == len(content)


def test_a_journal_that_was_cut_anywhere_keeps_its_whole_lines(tmp_path, monkeypatch):
    """What kill -9 or a power cut can leave: any number of its bytes."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # a thousand of them take their time
    path, results = tmp_path / "j", [result(n) for n in range(3)]
    written(path, results)
    content = path.read_bytes()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        whole = max(0, content[:size].count(b"\n") - 1)
        assert list(found(path).values()) == results[:whole], size
        written(path, results[whole:])
        assert path.read_bytes() == content, size


def test_damaged_lines_are_skipped(tmp_path, caplog):
    path, results = tmp_path / "j", [result(n) for n in range(4)]
    written(path, results)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\0" * (len(lines[2]) - 1) + b"\n"
    lines[3] = b"[1, 2]\n"
    path.write_bytes(b"".join(lines))
    assert list(found(path).values()) == [results[0], results[3]]
    assert caplog.text.count("a damaged line") == 2


def test_results_of_other_settings_are_not_used_and_not_lost(tmp_path):
    path, other = tmp_path / "j", {**SETTINGS, "model": "b"}
    written(path, [result(1), result(2)])
    assert found(path, other) == {}
    written(path, [result(2), result(3)], other)
    assert list(found(path)) == ["digest 1", "digest 2"]
    assert list(found(path, other)) == ["digest 2", "digest 3"]


def test_what_another_day_may_mend_is_tried_again(tmp_path):
    written(tmp_path / "j", [result(n, status) for n, status in enumerate(STATUSES)])
    kept = {r.status for r in found(tmp_path / "j").values()}
    assert kept == {"ok", "empty", "too_short", "silent"}


def test_a_head_that_is_torn_is_written_anew(tmp_path):
    for torn in (b"", b"{", b'{"ptlab_jour', b'{"ptlab_journal": 1, "sett'):
        (tmp_path / "j").write_bytes(torn)
        written(tmp_path / "j", [result(1)])
        assert len(found(tmp_path / "j")) == 1


@pytest.mark.parametrize("content", [b"hello", b'{"path": "a.wav"}\n', b"RIFF\0\0\0\0WAVE", b"\n"])
def test_other_files_are_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(DataError, match="mine is not a journal of ptlab"):
        Journal(path, SETTINGS)
    assert path.read_bytes() == content


def test_a_journal_that_cannot_be_made_says_why(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "j"):
        with pytest.raises(DataError, match="cannot be written: "):
            Journal(path, SETTINGS)


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path):
    path = tmp_path / "new" / "j"
    with Journal(path, SETTINGS) as journal:
        entry = journal.write(result(1))
        with pytest.raises(DataError, match="is being written by another run"):
            Journal(path, SETTINGS)
        assert journal.read(entry) == result(1)  # the first goes on
    assert len(found(path)) == 1


HOLDER = """
import sys
from ptlab._batch.journal import Journal
journal = Journal(sys.argv[1], {})
print("open", flush=True)
sys.stdin.read()
"""


def test_a_process_that_is_killed_locks_nobody_out(tmp_path):
    path = str(tmp_path / "j")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], **pipes) as process:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(DataError, match="another run"):
            Journal(path, {})
        process.kill()
    Journal(path, {}).close()


def test_a_disk_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def no_locks(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("ptlab._batch.journal._lock", no_locks)
    written(tmp_path / "j", [result(1)])
    assert "cannot be locked" in caplog.text


def test_a_journal_that_is_gone_is_said(tmp_path):
    journal = Journal(tmp_path / "j", SETTINGS)
    entry = journal.write(result(1))
    journal.close()
    (tmp_path / "j").unlink()
    with pytest.raises(DataError, match="cannot be read any more"):
        journal.read(entry)


def test_settings_are_those_that_change_the_text(tiny_folder, tiny_model, tmp_path):
    ours = settings_of(Transcriber(tiny_model))
    again = load_model(tiny_folder, device="cpu")
    again.name = "elsewhere"
    assert settings_of(Transcriber(again)) == ours
    again.model.base_model.save_pretrained(tmp_path / "encoder")  # writes its class into the config
    assert settings_of(Transcriber(again)) == ours
    again.model.lm_head.bias.data[7] += 1e-3
    assert settings_of(Transcriber(again))["model"] != ours["model"]
    assert settings_of(Transcriber(tiny_model, window_s=10.0)) != ours
    other = load_model(save_tiny(tmp_path / "other", normalize=False), device="cpu")
    assert settings_of(Transcriber(other))["model"] != ours["model"]
    json.dumps(ours)
