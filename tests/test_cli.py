"""The command as a shell user meets it: output, files, exit codes."""

import errno
import io
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

import ptlab
from ptlab.cli import REPORTED, main
from ptlab.data import data_dir
from ptlab.models import load_model
from ptlab.transcribe import Transcriber


@pytest.fixture(scope="module")
def clips(tmp_path_factory, speechlike):
    """Three short sounds of different lengths."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"clip {n}.wav" for n in (1, 2, 3)]
    for n, path in enumerate(paths, 1):
        soundfile.write(path, speechlike(0.5 * n, seed=n), 16_000)
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def expected(tiny_folder, clips):
    """What the package itself makes of them."""
    transcriber = Transcriber(load_model(tiny_folder, device="cpu"))
    return [transcriber.transcribe(path) for path in clips]


@pytest.fixture
def run(tiny_folder, capsys):
    """``run(*args)``: exit code, standard output, standard error, with the tiny model."""

    def call(*arguments, model=True):
        options = ["--model", str(tiny_folder), "--device", "cpu"] if model else []
        code = main(["transcribe", *options, *arguments])
        return code, *capsys.readouterr()

    return call


def shell(*arguments, **options):
    """A real process, in text mode."""
    command = [sys.executable, "-m", "ptlab", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, **options)


def test_the_text_of_one_file_is_all_that_is_printed(run, clips, expected):
    assert run(clips[0]) == (0, expected[0].text + "\n", "")
    assert expected[0].text  # a random model that spells nothing would prove nothing


def test_another_runtime_writes_the_same_and_auto_says_which_and_why(run, clips, expected):
    pytest.importorskip("onnx", reason="making graphs: pip install 'ptlab[export]'")
    assert run(clips[0], "--runtime", "onnxruntime") == (0, expected[0].text + "\n", "")
    code, _, said = run(clips[0], "--runtime", "auto")
    assert code == 0
    assert re.match(r"ptlab: .* by (torch|onnxruntime|openvino)( in \w+)?: .{20}", said)


def test_several_files_have_their_names_and_a_line_each(run, clips, expected):
    lines = "".join(f"{c}: {e.text}\n" for c, e in zip(clips, expected, strict=True))
    assert run(*clips) == (0, lines, "")


def test_json_is_a_line_a_file_with_all_that_a_transcription_has(run, clips, expected):
    code, out, _ = run(*clips, "--format", "json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [r["file"] for r in rows] == clips
    for row, result in zip(rows, expected, strict=True):
        assert row["text"] == result.text
        assert [w["start_s"] for w in row["words"]] == [w.start_s for w in result.words]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_are_those_of_the_transcription(run, clips, expected, form):
    code, out, _ = run(clips[2], "--format", form)
    assert (code, out) == (0, getattr(expected[2], f"to_{form}")())


@pytest.mark.parametrize(
    ("form", "suffix", "content"),
    [
        ("text", "txt", lambda e: e.text + "\n"),
        ("srt", "srt", lambda e: e.to_srt()),
        ("vtt", "vtt", lambda e: e.to_vtt()),
    ],
)
def test_output_writes_a_file_each_and_says_which(
    run, clips, expected, tmp_path, form, suffix, content
):
    folder = tmp_path / "new" / "folder"
    code, out, err = run(*clips, "-f", form, "-o", str(folder))
    written = [folder / f"clip {n}.{suffix}" for n in (1, 2, 3)]
    assert (code, out.splitlines(), err) == (0, [str(p) for p in written], "")
    assert [p.read_text("utf-8") for p in written] == [content(e) for e in expected]


def test_written_json_is_the_same_as_the_printed(run, clips, tmp_path):
    run(clips[0], "-f", "json", "-o", str(tmp_path))
    printed = json.loads(run(clips[0], "-f", "json")[1])
    written = json.loads((tmp_path / "clip 1.json").read_text("utf-8"))
    for one in (printed, written):
        one.pop("timing")  # differs from run to run
    assert printed == written


def test_a_bad_file_is_told_and_the_others_are_still_done(run, clips, expected, tmp_path):
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"this is no sound")
    code, out, err = run(clips[0], str(noise), "nowhere.wav", clips[1])
    assert code == 1
    assert out == f"{clips[0]}: {expected[0].text}\n{clips[1]}: {expected[1].text}\n"
    told = err.splitlines()
    assert len(told) == 2
    assert told[0].startswith(f"ptlab: {noise}: ")
    assert told[1].startswith("ptlab: nowhere.wav: ")


def test_a_folder_that_cannot_be_made_is_told(run, clips, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    code, out, err = run(clips[0], "-o", str(blocked / "folder"))
    assert (code, out) == (1, "")
    assert err.startswith(f"ptlab: {clips[0]}: ") and "Traceback" not in err


def test_a_dash_reads_standard_input(run, clips, expected, monkeypatch):
    content = io.BytesIO(Path(clips[1]).read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    assert run("-") == (0, expected[1].text + "\n", "")


def test_a_model_that_is_not_there_is_told_without_a_traceback(run, clips):
    code, out, err = run("--model", "no-such-model", clips[0], model=False)
    assert (code, out) == (1, "")
    assert err.startswith("ptlab: No model 'no-such-model'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["transcribe"], "required"),
        (["sing", "a.wav"], "invalid choice"),
        (["transcribe", "a.wav", "--format", "mp3"], "invalid choice"),
        (["transcribe", "a.wav", "b.wav", "--format", "srt"], "--output"),
        (["transcribe", "x/a.wav", "y/a.ogg", "--output", "z"], "two files"),
    ],
)
def test_wrong_usage_is_code_2_and_says_what(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_is_code_130_without_a_traceback(monkeypatch, capsys):
    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys.modules["ptlab.transcribe"], "Transcriber", interrupted)
    assert main(["transcribe", "a.wav"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_left_is_code_141_and_quiet(run, clips, monkeypatch):
    class Gone(io.StringIO):
        def write(self, _):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    code, _, err = run(clips[0], clips[1])
    assert (code, err) == (141, "")


def test_models_names_them_all_and_marks_the_default(capsys, monkeypatch):
    monkeypatch.setenv("PTLAB_MODEL", "xlsr-53-pt")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if "Apache-2.0" in line]
    marks = {line[2:].split()[0]: line[0] for line in named}
    assert list(marks) == [spec.name for spec in ptlab.list_models()]
    assert {name for name, mark in marks.items() if mark == "*"} == {"xlsr-53-pt"}


def test_a_default_of_your_own_is_shown_among_the_models(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PTLAB_MODEL", str(tmp_path))
    main(["models"])
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"* {tmp_path}")


def test_info_works_without_corpus_and_without_weights(capsys, monkeypatch, tmp_path):
    spec = ptlab.MODELS["mini"]
    monkeypatch.setitem(ptlab.MODELS, "mini", replace(spec, source=str(tmp_path)))
    monkeypatch.setenv("PTLAB_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("PTLAB_MODEL", raising=False)
    assert main(["info"]) == 0
    facts = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert "MISSING" in facts["model"]
    assert facts["data"].strip().startswith("none: No corpus in")
    assert facts["ptlab"].strip() == ptlab.__version__
    assert set(REPORTED) <= set(facts)


def test_info_says_where_the_corpus_is(capsys):
    main(["info"])
    facts = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert facts["data"].strip() == str(data_dir())
    assert facts["python"].split()[0] == sys.version.split()[0]


def test_a_process_reads_a_pipe_and_writes_portuguese(tiny_folder, clips, expected):
    with open(clips[1], "rb") as sound:
        done = shell("transcribe", "-", "-m", tiny_folder, stdin=sound)
    assert (done.returncode, done.stdout) == (0, expected[1].text + "\n")
    assert done.stderr == ""


def test_a_process_that_loses_its_reader_is_quiet():
    command = [sys.executable, "-m", "ptlab", "models"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141
