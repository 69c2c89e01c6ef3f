"""The course's recipes, run as they are on the embedded data: do they make what they promise?"""

import csv
import io
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import ptlab

RECIPES = Path(__file__).resolve().parents[1] / "notebooks" / "recipes"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """``run("poem", *arguments)``: what a recipe prints; its files are in the current folder."""
    monkeypatch.chdir(tmp_path)

    def run_recipe(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(RECIPES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.py")), ids=lambda path: path.stem)
def test_a_recipe_is_short(path):
    lines = path.read_text("utf-8").splitlines()
    code = [line for line in lines[lines.index('"""', 1) + 1 :] if line.strip()]
    assert len(code) <= 30
    assert max(map(len, lines)) <= 99
    assert f"    python {path.name}" in "\n".join(lines) or f"| python {path.name}" in lines[2]


def seconds(clock):
    hours, minutes, rest = clock.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def test_subtitles_of_the_story(run):
    said = run("subtitles")
    cues = Path("story.srt").read_text("utf-8").strip().split("\n\n")
    assert f"story.srt: {len(cues)} subtitles in 4.2 minutes" in said
    story = ptlab.load_story()
    spans = [tuple(map(seconds, cue.splitlines()[1].split(" --> "))) for cue in cues]
    assert all(0 < end - start <= 7 for start, end in spans)
    assert spans == sorted(spans) and spans[-1][1] <= story.duration_s
    assert 0.5 < sum(end - start for start, end in spans) / story.duration_s < 1
    text = " ".join(cue.splitlines()[2] for cue in cues)
    assert ptlab.cer(ptlab.normalize_text(story.text), text) < 0.15


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="video needs ffmpeg: apt install ffmpeg")
def test_subtitles_of_a_video(run):
    clip = ptlab.load_corpus("test").row(0)["file"]
    picture = ["-f", "lavfi", "-i", "color=c=black:s=64x48:r=5"]
    make = ["ffmpeg", "-v", "error", "-i", clip, *picture, "-shortest", "film.mp4"]
    subprocess.run(make, check=True, timeout=60)
    run("subtitles", "film.mp4")
    assert re.search(r"-->", Path("film.srt").read_text("utf-8"))


def test_a_spreadsheet_of_a_folder(run, tmp_path):
    clips = ptlab.load_corpus("test").frame.file[:2]
    Path("entrevistas").mkdir()
    for number, clip in enumerate(clips):
        shutil.copy(clip, f"entrevistas/{number}.ogg")
    Path("entrevistas/3.wav").write_bytes(b"no sound")
    run("interviews", "entrevistas", "tabela.csv")
    with open("tabela.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert [row["file"] for row in rows[:1]] == ["3.wav"]  # what needs a look comes first
    assert rows[0]["status"] == "unsupported" and rows[0]["message"]
    sure = [float(row["confidence"].replace(",", ".")) for row in rows[1:]]
    assert sure == sorted(sure) and len(sure) == 2
    texts = {row["file"]: row["text"] for row in rows[1:]}
    assert texts["0.ogg"] == ptlab.transcribe(clips[0]).text
    done = Path("interviews.jsonl").read_text("utf-8").count('"status": "ok"')
    run("interviews", "entrevistas", "tabela.csv")  # the broken file alone is tried again
    assert Path("interviews.jsonl").read_text("utf-8").count('"status": "ok"') == done == 2


def test_a_spreadsheet_of_the_course(run):
    run("interviews")
    _, *rows = Path("interviews.csv").read_text("utf-8-sig").splitlines()
    clips = ptlab.load_corpus("dev").filter(speaker="pm_santa", domain="travel").frame
    assert sorted(row.partition(";")[0] for row in rows) == sorted(clips.id + ".ogg")


def test_notes_of_the_story(run):
    run("meeting_notes")
    paragraphs = Path("notes.md").read_text("utf-8").strip().split("\n\n")
    stamps = [re.match(r"\*\*(\d\d):(\d\d)\*\* \S", paragraph).groups() for paragraph in paragraphs]
    starts = np.array([60 * int(minutes) + int(rest) for minutes, rest in stamps])
    assert (np.diff(starts) >= 0).all()
    story = ptlab.load_story()  # a paragraph of the notes begins where a sentence does
    begun = story.sentences.start_s.to_numpy()
    distance = np.abs(starts[:, None] + 0.5 - begun).min(axis=1)
    assert np.mean(distance < 1) > 0.9
    assert any("*" in paragraph[9:] for paragraph in paragraphs)  # some words are doubtful


def test_a_search_by_voice(run):
    lines = run("voice_search").splitlines()
    speaker_of = dict(ptlab.load_corpus("test").frame[["file", "speaker"]].to_numpy())
    wanted = speaker_of[lines[0].removeprefix("Most like ")]
    found = [speaker_of[line.split()[1]] for line in lines[1:]]
    assert len(found) == 5
    assert found[0] == wanted and found.count(wanted) >= 2  # 3 of 39 by chance: 0.4 of 5


def test_lines_of_the_story_are_stamped_when_they_are_said(run):
    said = run("poem")
    lines = Path("story.lrc").read_text("utf-8").splitlines()
    sentences = ptlab.load_story().sentences
    assert [line[10:] for line in lines] == sentences.text.tolist()
    starts = np.array([60 * int(line[1:3]) + float(line[4:9]) for line in lines])
    assert np.median(np.abs(starts - sentences.start_s)) < 0.08
    assert set(said.splitlines()[1:]) < set(lines) and len(said.splitlines()) == 4


def test_a_line_that_was_not_read_is_found_in_the_poem(run):
    corpus = ptlab.load_corpus("test")
    Path("poema.txt").write_text(f"{corpus.row(0)['text']}\n\n***\nzás!\n", "utf-8")
    said = run("poem", "poema.txt", corpus.row(0)["file"])
    assert "2 lines" in said and said.splitlines()[1].endswith("]zás!")


def test_captions_grow_and_are_the_same_from_a_microphone(run, monkeypatch):
    def captions(*arguments):
        return run("captions", *arguments).rstrip("\n").split("\r\x1b[K")

    corpus = ptlab.load_corpus("test")
    *growing, last = captions()
    assert ptlab.cer(ptlab.normalize_text(corpus.row(0)["text"]), last) < 0.5
    assert sum("[" in caption for caption in growing) > 2

    samples = np.round(corpus.audio(0).waveform * 32767).astype("<i2")
    microphone = SimpleNamespace(buffer=io.BytesIO(samples.tobytes() + bytes(3200 + 1)))
    monkeypatch.setattr(sys, "stdin", microphone)
    assert ptlab.cer(last, captions("-")[-1]) < 0.05
