"""``ptlab batch`` as a shell user meets it: report, subtitles, exit codes."""

import json
import shutil
import signal

import pandas as pd
import pytest
import soundfile

from ptlab._speech.speech_model import SpeechModel
from ptlab.cli import main
from ptlab.transcribe import Transcriber


@pytest.fixture
def folder(tmp_path, speechlike):
    folder = tmp_path / "in"
    folder.mkdir()
    for n in (1, 2):
        soundfile.write(folder / f"clip {n}.wav", speechlike(0.5 * n, seed=n), 16_000)
    return folder


@pytest.fixture
def run(tiny_folder, tmp_path, capsys):
    """``run(*args)``: exit code, standard output and error; the report is out.csv."""

    def call(*arguments, out="out.csv"):
        options = ["--out", str(tmp_path / out), "--model", str(tiny_folder), "--device", "cpu"]
        code = main(["batch", *map(str, arguments), *options])
        return code, *capsys.readouterr()

    return call


def test_a_folder_becomes_a_report_and_subtitles(run, folder, tmp_path, tiny_model):
    code, out, err = run(folder, "--srt-dir", tmp_path / "srt", "--jobs", 1)
    assert (code, err) == (0, "")
    assert out.startswith("2 files: 2 ok\n")
    table = pd.read_csv(tmp_path / "out.csv")
    single = [Transcriber(tiny_model).transcribe(p) for p in sorted(folder.iterdir())]
    assert table.text.tolist() == [s.text for s in single]
    written = [(tmp_path / "srt" / f"clip {n}.srt").read_text("utf-8") for n in (1, 2)]
    assert written == [s.to_srt() for s in single]


def test_a_file_that_is_not_ok_is_code_3(run, folder, tmp_path):
    (folder / "noise.wav").write_text("this is no sound")
    code, out, _ = run(folder, out="out.jsonl")
    assert code == 3
    assert "unsupported: " in out and "noise.wav" in out
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [r["status"] for r in rows] == ["ok", "ok", "unsupported"]
    assert rows[0]["words"][0]["characters"]


def test_several_files_are_a_batch_too(run, folder, tmp_path):
    code, _, _ = run(folder / "clip 2.wav", folder / "clip 1.wav", "nowhere.wav")
    assert code == 3
    statuses = pd.read_csv(tmp_path / "out.csv").status.tolist()
    assert statuses == ["ok", "ok", "unreadable"]


def test_a_journal_is_gone_on_with(run, folder, tmp_path, monkeypatch):
    assert run(folder, "--journal", tmp_path / "j")[0] == 0
    first = pd.read_csv(tmp_path / "out.csv")
    monkeypatch.setattr(SpeechModel, "log_probs", None)  # it would fail if it were asked
    code, out, _ = run(folder, "--journal", tmp_path / "j")
    assert code == 0 and "2 files were done before" in out
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out.csv"), first)


def test_ctrl_c_is_code_130_and_leaves_a_report(run, folder, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SpeechModel, "log_probs", interrupted)
    code, out, err = run(folder)
    assert (code, err) == (130, "")
    assert "Interrupted: 2 files have no result yet." in out
    assert len(pd.read_csv(tmp_path / "out.csv")) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{in}"], "required: --out"),
        (["--out", "{tmp}/a.csv"], "required: INPUT"),
        (["{tmp}/nowhere", "--out", "{tmp}/a.csv"], "No file, folder or match"),
        (["{in}", "--out", "{in}/clip 1.wav"], "a .csv or a .jsonl"),
        (["{in}", "--out", "{tmp}/no folder/a.csv"], "cannot be written"),
        (["{in}", "--out", "{tmp}/a.csv", "--srt-dir", "{in}/clip 1.wav"], "cannot be written"),
        (["{in}", "--out", "{tmp}/a.csv", "--jobs", "0"], "jobs=0"),
        (["{in}", "--out", "{tmp}/a.csv", "--jobs", "two"], "invalid int"),
        (["{in}", "--out", "{tmp}/a.csv", "--model", "no-such"], "No model 'no-such'"),
        (["{in}", "--out", "{tmp}/a.csv", "--journal", "{in}/clip 1.wav"], "not a journal"),
    ],
)
def test_wrong_usage_is_code_2_and_says_what(arguments, message, folder, tmp_path, capsys):
    places = {"in": str(folder), "tmp": str(tmp_path)}
    copies = shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(SystemExit) as caught:
        main(["batch", *(a.format_map(places) for a in arguments)])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    for path in copies.iterdir():  # whatever was meant, no sound was overwritten
        assert (folder / path.name).read_bytes() == path.read_bytes()
