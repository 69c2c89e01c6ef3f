"""The embedded corpus is what data/README.md says: splits, checksums, times, letters."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

from ptlab.data import SPLITS, data_dir, load_corpus, load_story
from ptlab.text import VOCABULARY, normalize_text

DATA = data_dir()
sys.path.insert(0, str(DATA / "recipes"))
import count  # noqa: E402
import make_corpus  # noqa: E402
import phonemes  # noqa: E402
import sentences  # noqa: E402
import times  # noqa: E402
import voices  # noqa: E402

LETTERS = set(VOCABULARY[5:])


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return load_corpus().frame


@pytest.fixture(scope="module")
def spoken() -> dict[str, dict]:
    lines = (DATA / "times.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def heard(frame: pd.DataFrame) -> pd.DataFrame:
    """What can be measured in the sound of every clip; levels in dB under full scale."""
    rows = {row.id: measure(row.file) for row in frame.itertuples()}
    return pd.DataFrame.from_dict(rows, orient="index")


def measure(path: str) -> dict[str, float]:
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    power = waveform[:, 0] ** 2
    pieces = power[: len(power) // 160 * 160].reshape(-1, 160).mean(1) + 1e-12  # 10 ms each
    level = 10 * np.log10(pieces)
    return {
        "rate": rate,
        "channels": waveform.shape[1],
        "samples": len(waveform),
        "peak": np.abs(waveform).max(),
        "loudest_db": level.max(),
        "first_db": level[:2].max(),
        "last_db": level[-2:].max(),
    }


@pytest.mark.parametrize("split, low, high", [("train", 36, 44), ("dev", 9, 12), ("test", 13, 18)])
def test_minutes_of_the_splits(frame: pd.DataFrame, split: str, low: float, high: float) -> None:
    assert low <= frame.duration_s[frame.split == split].sum() / 60 <= high


def test_sentences_are_many_short_and_varied(frame: pd.DataFrame) -> None:
    words = frame.text.map(sentences.words_of)
    assert len(frame) >= 1_100 and frame.domain.nunique() >= 14
    assert words.str.len().between(3, 18).all() and 7 <= words.str.len().mean() <= 10
    openings = words.map(lambda row: tuple(row[:3])).value_counts()  # a frame repeats its opening
    assert openings.max() <= 4


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


def test_no_sentence_of_the_story_is_told_twice() -> None:
    assert sentences.near_pairs(list(load_story().sentences.text)) == {}


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


def test_columns_say_what_the_voice_is(frame: pd.DataFrame) -> None:
    for speaker, rows in frame.groupby("speaker"):
        told = voices.describe(str(speaker))
        assert all((rows[column] == value).all() for column, value in told.items())
        assert set(rows.accent) == {"native" if str(speaker).startswith("p") else "foreign"}
    assert set(frame.sex) == {"f", "m"} and set(frame.variety) == {"br", "pt"}
    assert frame.speed.between(*make_corpus.SPEEDS).all() and frame.speed.nunique() > 30


def test_same_list_gives_same_clips(frame: pd.DataFrame) -> None:
    rows = sentences.read_table(DATA / "sentences.tsv")
    names = tuple(sorted(frame.speaker.unique()))
    planned = [row for split in SPLITS for row in make_corpus.plan(split, rows, names)]
    assert planned == frame[list(planned[0])].to_dict("records")


def test_readme_tells_the_numbers_and_the_columns(frame: pd.DataFrame) -> None:
    readme = (DATA / "README.md").read_text("utf-8")
    assert [line for line in count.lines() if line not in readme.splitlines()] == []
    columns = [column for column in frame if column != "file"]
    assert tuple(columns) == make_corpus.COLUMNS
    assert [column for column in columns if f"`{column}`" not in readme] == []


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
    assert LETTERS - set("".join(frame.text[frame.split == split]).lower()) == set()


def test_sounds_that_are_hard_occur_often(frame: pd.DataFrame) -> None:
    words = frame.text.str.lower().str.findall(r"[a-zà-ü'-]+")
    for split, rows in words.groupby(frame.split):
        text = " ".join(word for row in rows for word in row)
        parts = ("lh", "nh", "rr", "ss", "ç", "ch", "x", "ão", "õe", "em ", "qu", "-")
        assert min(text.count(part) for part in parts) >= 5, split


def test_checksums_and_headers(frame: pd.DataFrame) -> None:
    for row in frame.itertuples():
        sound = Path(row.file).read_bytes()
        assert hashlib.sha256(sound).hexdigest() == row.sha256, row.id
        info = soundfile.info(row.file)
        assert (info.samplerate, info.format, info.subtype) == (16_000, "OGG", "OPUS"), row.id


def test_every_clip_decodes_to_its_duration(frame: pd.DataFrame, heard: pd.DataFrame) -> None:
    told = frame.set_index("id")
    assert (heard.rate == told.sampling_rate).all() and set(heard.rate) == {16_000}
    assert set(heard.channels) == {1}
    off = (heard.samples - told.duration_s * told.sampling_rate).abs()
    assert off.max() <= 1.6  # durations are written to 0.1 ms


def test_no_clip_is_silent_clipped_or_cut(frame: pd.DataFrame, heard: pd.DataFrame) -> None:
    assert heard.peak.between(0.15, 1.0).all() and heard.loudest_db.min() > -25
    assert (heard.first_db < heard.loudest_db - 30).all()  # begins and ends in silence
    assert (heard.last_db < heard.loudest_db - 30).all()


def test_pace_is_that_of_speech(frame: pd.DataFrame, spoken: dict[str, dict]) -> None:
    letters = frame.text.str.len().to_numpy()
    edges = [(spoken[i]["words"][0][1], spoken[i]["words"][-1][2]) for i in frame.id]
    pace = letters / np.diff(edges)[:, 0] / frame.speed.to_numpy()
    assert pace.min() > 7 and pace.max() < 26  # characters a second at the voice's own speed


def test_no_file_is_left_over(frame: pd.DataFrame) -> None:
    there = {str(path.relative_to(DATA)) for path in (DATA / "clips").rglob("*.*")}
    assert there == set(frame.path)


def test_data_is_small() -> None:
    files = [path for path in DATA.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert 5e6 < sum(path.stat().st_size for path in files) < 40e6


def test_words_of_the_times_are_the_words_of_the_text(
    frame: pd.DataFrame, spoken: dict[str, dict]
) -> None:
    assert set(spoken) == set(frame.id)
    for row in frame.itertuples():
        timed = [word for word, *_ in spoken[row.id]["words"]]
        assert timed == normalize_text(row.text, variety=row.variety).split(), row.id


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


def test_story_is_as_listed() -> None:
    story = load_story()
    listed = sentences.read_table(DATA / "story" / "story.tsv")
    assert [row["text"] for row in listed] == list(story.sentences.text)
    assert [row["voice"] for row in listed] == list(story.sentences.role)
    assert story.sentences.groupby("role").speaker.unique().map(list).to_dict() == {
        "narrator": ["pf_dora"],
        "character": ["pm_alex"],
    }
    assert [text for text in story.sentences.text if sentences.trouble(text)] == []
    assert 60 <= len(listed) <= 75 and story.sentences.paragraph.nunique() >= 5
    assert list(story.words.text) == normalize_text(story.text).split()


def test_story_phones_lie_in_its_words() -> None:
    story = load_story()
    for frame in (story.words, story.phones):
        edges = frame[["start_s", "end_s"]].to_numpy()
        assert (edges[:, 0] < edges[:, 1]).all() and (edges[1:, 0] >= edges[:-1, 1]).all()
        assert edges[0, 0] >= 0 and edges[-1, 1] <= story.duration_s
    assert set(story.words.start_s) <= set(story.phones.start_s)
    assert set(story.words.end_s) <= set(story.phones.end_s)


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
    waveform, rate = soundfile.read(story.path, dtype="float32")
    loudest = np.abs(waveform).max()
    ends, starts = story.sentences.end_s[:-1], story.sentences.start_s[1:]
    for end_s, start_s in zip(ends, starts, strict=True):
        pause = waveform[round((end_s + 0.13) * rate) : round((start_s - 0.06) * rate)]
        assert np.abs(pause).max() < 0.05 * loudest


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
    names = ("pm_alex", "af_bella", "bf_emma")
    long = make_corpus.voice_sequence("test", names, 50)
    assert make_corpus.voice_sequence("test", names, 20) == long[:20]
    assert long.count("pm_alex") > long.count("af_bella") > 0


class Mouth:
    """Stands in for the synthesiser: says every word as 0.3 s of noise, counts its calls."""

    def __init__(self, stop_at: int = 1_000) -> None:
        self.said: list[str] = []
        self.stop_at = stop_at

    def synthesize(self, text: str, voice: str, speed: float, variety: str) -> SimpleNamespace:
        if len(self.said) == self.stop_at:
            raise KeyboardInterrupt
        self.said.append(text)
        words = [(w, 0.3 * i, 0.3 * (i + 1)) for i, w in enumerate(text.split())]
        sound = 0.1 * np.random.default_rng(0).standard_normal(7_200 * len(words))
        return SimpleNamespace(waveform=sound.astype(np.float32), words=words, phones=words)


@pytest.fixture
def planned() -> list[dict]:
    texts = ("Bom dia", "Boa tarde", "Boa noite", "Até logo")
    rows = [dict(zip(sentences.KEYS, ("dev", "x", "br", text), strict=True)) for text in texts]
    return make_corpus.plan("dev", rows, (*voices.DEV, *voices.TEST))


def test_a_stopped_call_goes_on_where_it_was(planned: list[dict], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_corpus.make_split(Mouth(stop_at=3), planned, "dev", tmp_path)
    kept = (tmp_path / planned[0]["path"]).read_bytes()
    mouth = Mouth()
    make_corpus.make_split(mouth, planned, "dev", tmp_path)
    assert mouth.said == ["Até logo"]
    assert (tmp_path / planned[0]["path"]).read_bytes() == kept
    assert list(load_corpus("dev", tmp_path).frame.text) == [row["text"] for row in planned]
    assert load_corpus("dev", tmp_path).words(3).text.tolist() == ["até", "logo"]


def test_damaged_and_changed_clips_are_spoken_again(planned: list[dict], tmp_path: Path) -> None:
    make_corpus.make_split(Mouth(), planned, "dev", tmp_path)
    before = (tmp_path / "metadata.csv").read_bytes(), (tmp_path / "times.jsonl").read_bytes()
    mouth = Mouth()
    make_corpus.make_split(mouth, planned, "dev", tmp_path)
    assert mouth.said == []
    assert before == (
        (tmp_path / "metadata.csv").read_bytes(),
        (tmp_path / "times.jsonl").read_bytes(),
    )
    (tmp_path / planned[1]["path"]).write_bytes(b"OggS")
    planned[2]["text"] = "Boa viagem"
    make_corpus.make_split(mouth, planned, "dev", tmp_path)
    assert mouth.said == ["Boa tarde", "Boa viagem"]
    with (tmp_path / "metadata.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            assert make_corpus.checksum(tmp_path / row["path"]) == row["sha256"]


# -- the list of sentences


@pytest.mark.parametrize(
    "text, why",
    [
        ("Só dois", "2 words"),
        (" ".join(["longa"] * 19), "19 words"),
        ("Custou 30 reais ontem", "'03'"),
        ("Señor Juan chegou cedo", "'ñ'"),
        ("Fazê-lo já, d'água e Müller!", ""),
    ],
)
def test_sentences_that_cannot_be_used(text: str, why: str) -> None:
    assert why in sentences.trouble(text) and bool(why) == bool(sentences.trouble(text))


def test_tidy_makes_one_kind_of_sign() -> None:
    decomposed = unicodedata.normalize("NFD", "— “Não”,  d’água... – é")
    assert sentences.tidy(decomposed) == "Não, d'água… — é"


def test_share_out_keeps_each_domain_in_every_split() -> None:
    rows = [
        {"domain": domain, "variety": variety, "text": f"{domain} {variety} {number}"}
        for domain in "abc"
        for variety in ("br", "pt")
        for number in range(26)
    ]
    shared = pd.DataFrame(sentences.share_out(rows, 0))
    counts = shared.groupby(["domain", "variety"]).split.value_counts().unstack()
    assert (counts[["train", "dev", "test"]] == [16, 4, 6]).all(axis=None)
    assert sorted(shared.text) == sorted(row["text"] for row in rows)
    assert sentences.share_out(rows, 0) == shared.to_dict("records")


def test_a_later_draft_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, out = tmp_path / "a.tsv", tmp_path / "b.tsv", tmp_path / "out.tsv"
    first.write_text("home\tbr\tO gato dormiu no sofá.\nhome\tbr\tChoveu muito ontem.\n", "utf-8")
    second.write_text("home\tbr\tO gato dorme no sofá.\nhome\tpt\tApanhei o comboio.\n", "utf-8")
    for draft in (first, second):
        monkeypatch.setattr(sys, "argv", ["sentences.py", str(draft), "--out", str(out)])
        before = sentences.read_table(out) if out.exists() else []
        sentences.main()
    rows = sentences.read_table(out)
    assert rows[:2] == before and [row["text"] for row in rows[2:]] == ["Apanhei o comboio."]
