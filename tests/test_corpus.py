"""The embedded corpus is what data/README.md says: splits, checksums, times, letters."""

from __future__ import annotations

import hashlib
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from ptlab.data import SPLITS, data_dir, load_corpus, load_story

DATA = data_dir()
sys.path.insert(0, str(DATA / "recipes"))
import phonemes  # noqa: E402
import sentences  # noqa: E402
import times  # noqa: E402
import voices  # noqa: E402

LETTERS = "abcdefghijklmnopqrstuvwxyzàáâãçéêíóôõúü'-"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return load_corpus().frame


@pytest.fixture(scope="module")
def spoken() -> dict[str, dict]:
    lines = (DATA / "times.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_size_of_the_splits(frame: pd.DataFrame) -> None:
    minutes = frame.groupby("split").duration_s.sum() / 60
    assert minutes["train"] >= 34 and minutes["dev"] >= 9 and minutes["test"] >= 13


@pytest.mark.parametrize("column", ["speaker", "text", "sha256", "id"])
def test_nothing_is_in_two_splits(frame: pd.DataFrame, column: str) -> None:
    assert frame.groupby(column).split.nunique().max() == 1


def test_each_sentence_is_spoken_once_as_listed(frame: pd.DataFrame) -> None:
    listed = sentences.read_table(DATA / "sentences.tsv")
    assert sorted((row["split"], row["text"]) for row in listed) == sorted(
        zip(frame.split, frame.text, strict=True)
    )
    assert not frame.text.duplicated().any()


def test_no_near_copies(frame: pd.DataFrame) -> None:
    story = list(load_story().sentences.text)
    assert sentences.near_pairs(list(frame.text), story) == {}


def test_near_copies_are_found() -> None:
    texts = ["Os meninos jogaram bola na praia.", "Os meninos jogam bola na praia!"]
    assert sentences.near_pairs(texts) == {1: texts[0]}


def test_voices_are_where_the_recipe_puts_them(frame: pd.DataFrame) -> None:
    speakers = frame.groupby("split").speaker.unique()
    assert set(speakers["test"]) == set(voices.TEST) and set(speakers["dev"]) == set(voices.DEV)
    assert frame.speaker.nunique() == 54 and len(speakers["train"]) == 38
    native = frame[frame.accent == "native"].groupby("split").speaker.unique()
    assert {split: list(native[split]) for split in SPLITS} == {
        "train": ["pf_dora"],
        "dev": ["pm_santa"],
        "test": ["pm_alex"],
    }
    share = (frame.accent == "native").groupby(frame.split).mean()
    assert share.between(0.2, 0.35).all()


def test_varieties_and_domains_are_in_every_split(frame: pd.DataFrame) -> None:
    assert frame.groupby("split").domain.nunique().nunique() == 1
    european = (frame.variety == "pt").groupby(frame.split).mean()
    assert european.between(0.1, 0.4).all()


def test_text_is_clean(frame: pd.DataFrame) -> None:
    assert all(unicodedata.is_normalized("NFC", text) for text in frame.text)
    assert not frame.text.str.contains(r"\d").any()
    assert [text for text in frame.text if sentences.trouble(text)] == []


@pytest.mark.parametrize("split", SPLITS)
def test_every_letter_of_the_vocabulary_occurs(frame: pd.DataFrame, split: str) -> None:
    text = "".join(frame.text[frame.split == split]).lower()
    rare = {"'", "ü"}  # d'água, Müller: too rare to be in every split
    assert {letter for letter in LETTERS if letter not in text} <= rare
    assert {letter for letter in rare if letter not in "".join(frame.text).lower()} <= {"ü"}


def test_checksums_and_headers(frame: pd.DataFrame) -> None:
    for row in frame.itertuples():
        sound = Path(row.file).read_bytes()
        assert hashlib.sha256(sound).hexdigest() == row.sha256, row.id
        info = soundfile.info(row.file)
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, "OGG"), row.id
        assert info.frames == round(row.duration_s * row.sampling_rate), row.id


def test_no_file_is_left_over(frame: pd.DataFrame) -> None:
    there = {str(path.relative_to(DATA)) for path in (DATA / "clips").rglob("*.*")}
    assert there == set(frame.path)
    assert sum(path.stat().st_size for path in DATA.rglob("*.*")) < 35e6


def test_words_of_the_times_are_the_words_of_the_text(
    frame: pd.DataFrame, spoken: dict[str, dict]
) -> None:
    assert set(spoken) == set(frame.id)
    for row in frame.itertuples():
        assert [word for word, *_ in spoken[row.id]["words"]] == sentences.words_of(row.text)


@pytest.mark.parametrize("kind", ["words", "phones"])
def test_times_run_forward_inside_the_clip(
    frame: pd.DataFrame, spoken: dict[str, dict], kind: str
) -> None:
    for row in frame.itertuples():
        edges = np.array([time for _, *time in spoken[row.id][kind]])
        assert (edges[:, 0] < edges[:, 1]).all() and (edges[1:, 0] >= edges[:-1, 1]).all(), row.id
        assert edges[0, 0] >= 0 and edges[-1, 1] <= row.duration_s, row.id


def test_words_begin_and_end_with_their_phones(spoken: dict[str, dict]) -> None:
    for row in spoken.values():
        starts = {start for _, start, _ in row["phones"]}
        ends = {end for _, _, end in row["phones"]}
        assert all(start in starts and end in ends for _, start, end in row["words"]), row["id"]


def test_words_are_where_the_sound_is(frame: pd.DataFrame, spoken: dict[str, dict]) -> None:
    for row in frame.iloc[::25].itertuples():
        waveform, rate = soundfile.read(row.file)
        edges = [time for _, *time in spoken[row.id]["words"]]
        inside = np.zeros(len(waveform), bool)
        for start_s, end_s in edges:
            inside[round(start_s * rate) : round(end_s * rate)] = True
        power = waveform**2
        assert power[inside].sum() > 0.98 * power.sum(), row.id
        assert power[inside].mean() > 50 * power[~inside].mean(), row.id


def test_story_times_and_sound() -> None:
    story = load_story()
    about = json.loads((DATA / "story" / "story.json").read_text("utf-8"))
    assert hashlib.sha256(story.path.read_bytes()).hexdigest() == about["sha256"]
    info = soundfile.info(story.path)
    assert info.frames == round(story.duration_s * 16_000)
    edges = story.sentences[["start_s", "end_s"]].to_numpy()
    pauses = edges[1:, 0] - edges[:-1, 1]
    same = np.diff(story.sentences.paragraph) == 0
    assert (pauses[same] >= 0.29).all() and (pauses[same] <= 0.71).all()
    assert (pauses[~same] >= 0.99).all() and (pauses[~same] <= 1.51).all()
    for number, row in enumerate(story.sentences.itertuples()):
        words = story.words[story.words.sentence == number]
        assert list(words.text) == sentences.words_of(row.text)
        assert (words.start_s.iloc[0], words.end_s.iloc[-1]) == (row.start_s, row.end_s)


def test_story_is_silent_between_sentences() -> None:
    story = load_story()
    waveform, rate = soundfile.read(story.path)
    ends, starts = story.sentences.end_s[:-1], story.sentences.start_s[1:]
    for end_s, start_s in zip(ends, starts, strict=True):
        pause = waveform[round((end_s + 0.13) * rate) : round((start_s - 0.06) * rate)]
        assert np.abs(pause).max() < 0.05 * np.abs(waveform).max()


# -- the recipe's parts that need neither the synthesiser nor espeak-ng


def test_clauses_keep_hyphens_and_pauses() -> None:
    assert phonemes.clauses("— Fazê-lo já, disse ela… d'água!") == [
        (["Fazê-lo", "já"], ","),
        (["disse", "ela"], "…"),
        (["d'água"], "!"),
    ]


def test_joined_words_are_cut_where_they_meet() -> None:
    assert phonemes._cut_like("pˌaɾækˈi ˈɛ", ["pˌaɾæ", "ky", "ˈɛ"]) == ["pˌaɾæ", "kˈi", "ˈɛ"]
    assert phonemes._cut_like("ɡwˌaɾ ʃˈuvæ", ["ɡwˌaɾʃˈuvæ"]) == ["ɡwˌaɾʃˈuvæ"]


def test_times_follow_the_sound_not_the_tokens() -> None:
    frames = (12, 4, 4, 2, 4, 12, 10, 12)  # padding, m, a, space, t, a, full stop, padding
    rate, waveform = 16_000, np.zeros(sum(frames) * 400)
    waveform[4_000:16_800] = 1.0  # sound from 0.25 s to 1.05 s; the last a is said to end at 0.95
    waveform[8_000:8_800] = 0.5  # the space is no silence
    words = (phonemes.SpokenWord("ma", "ma"), phonemes.SpokenWord("ta", "ta", "."))
    found, phones = times.true_times(waveform, rate, words, "ma ta.", frames)
    meet = pytest.approx((12 + 4 + 4 - times.LEAD_FRAMES) * times.FRAME_S)
    assert found[0] == ("ma", pytest.approx(0.25, abs=0.006), meet)
    assert found[1] == ("ta", meet, pytest.approx(1.05, abs=0.006))
    assert [symbol for symbol, *_ in phones] == ["m", "a", "t", "a"]


def test_words_at_a_pause_end_and_begin_with_the_sound() -> None:
    frames = (12, 4, 20, 8, 2, 4, 4, 10)  # padding, m, a, comma, space, t, a, padding
    rate, waveform = 16_000, np.zeros(sum(frames) * 400)
    waveform[4_000:8_000] = waveform[16_000:20_800] = 1.0  # silent from 0.5 s to 1.0 s
    words = (phonemes.SpokenWord("ma", "ma", ","), phonemes.SpokenWord("ta", "ta"))
    found, _ = times.true_times(waveform, rate, words, "ma, ta", frames)
    assert found[0] == ("ma", pytest.approx(0.25, abs=0.006), pytest.approx(0.5, abs=0.006))
    assert found[1] == ("ta", pytest.approx(1.0, abs=0.006), pytest.approx(1.3, abs=0.006))


def test_voice_sequence_of_a_longer_list_begins_with_the_shorter() -> None:
    make_corpus = pytest.importorskip("make_corpus", reason="needs onnxruntime and soxr")
    names = ("pm_alex", "af_bella", "bf_emma")
    long = make_corpus.voice_sequence("test", names, 50)
    assert make_corpus.voice_sequence("test", names, 20) == long[:20]
    assert long.count("pm_alex") > long.count("af_bella") > 0
