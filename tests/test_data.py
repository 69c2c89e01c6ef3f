"""ptlab.data: the loaders' columns, errors, and that sound is never decoded by torchcodec."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ptlab import data
from ptlab.errors import DataError


@pytest.fixture
def tone() -> np.ndarray:
    return (0.1 * np.sin(np.arange(8_000) * 0.1)).astype(np.float32)


@pytest.fixture
def common_voice(tmp_path: Path, tone: np.ndarray) -> Path:
    (tmp_path / "clips").mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "clips" / name, tone, 16_000)
    lines = ["client_id\tpath\tsentence\tage", 'x1\ta.wav\tUm "oi\t', "x2\tb.wav\tNA\ttwenties"]
    (tmp_path / "test.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path


def test_import_is_light() -> None:
    code = "import sys, ptlab.data; print(*{'torch', 'pandas', 'datasets'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


def test_splits_make_the_whole() -> None:
    whole = data.load_corpus()
    parts = [data.load_corpus(split) for split in data.SPLITS]
    assert sorted(whole.frame.id) == sorted(i for part in parts for i in part.frame.id)
    assert "min" in repr(whole) and "speakers" in repr(whole)


def test_unknown_split_says_what_exists() -> None:
    with pytest.raises(DataError, match="train, dev, test"):
        data.load_corpus("validation")


def test_data_dir_from_argument_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metadata.csv").write_text("id\n")
    assert data.data_dir(tmp_path) == tmp_path.resolve()
    monkeypatch.setenv("PTLAB_DATA_DIR", str(tmp_path))
    assert data.data_dir() == tmp_path.resolve()
    monkeypatch.setenv("PTLAB_DATA_DIR", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="clone the repository"):
        data.data_dir()


def test_rows_by_position_and_id_are_the_same() -> None:
    corpus = data.load_corpus("dev")
    first = next(iter(corpus))
    assert corpus.row(0) == corpus.row(first["id"]) == first
    assert corpus.row(-1)["id"] == corpus.frame.id.iloc[-1]
    with pytest.raises(DataError, match="No clip 'dev_9999'"):
        corpus.row("dev_9999")
    with pytest.raises(DataError, match="No clip number"):
        corpus.row(len(corpus))


def test_filter() -> None:
    corpus = data.load_corpus("test")
    native, foreign = corpus.filter(accent="native"), corpus.filter(accent="foreign")
    assert len(native) + len(foreign) == len(corpus) and len(native) and len(foreign)
    some = corpus.filter(speaker=["pm_alex", "if_sara"], sex="f")
    assert set(some.frame.speaker) == {"if_sara"}
    with pytest.raises(DataError, match="No column 'age'"):
        corpus.filter(age=20)


def test_words_and_phones_are_in_the_clip() -> None:
    corpus = data.load_corpus("dev")
    row = corpus.row(3)
    words, phones = corpus.words(3), corpus.phones(row["id"])
    assert len(phones) > len(words) >= 3
    for frame in (words, phones):
        times = frame[["start_s", "end_s"]].to_numpy().ravel()
        assert (np.diff(times) >= 0).all() and times[0] >= 0 and times[-1] <= row["duration_s"]


def test_dataset_view_keeps_path_and_does_not_decode() -> None:
    corpus = data.load_corpus("dev")
    table = corpus.to_dataset()
    assert table.num_rows == len(corpus)
    assert table[0]["audio"] == {"bytes": None, "path": corpus.row(0)["file"]}
    assert table[0]["text"] == corpus.row(0)["text"]


def test_dataset_view_of_bytes(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"id": ["a"], "text": ["oi"], "audio": [{"bytes": b"123", "path": "a"}]})
    table = data.Corpus("memory", frame).to_dataset()
    assert table[0]["audio"] == {"bytes": b"123", "path": "a"}


def test_dataset_view_is_read_without_torchcodec(monkeypatch: pytest.MonkeyPatch) -> None:
    from ptlab.audio import load_audio

    monkeypatch.setitem(sys.modules, "torchcodec", None)  # importing it raises ImportError
    corpus = data.load_corpus("test")
    row = next(iter(corpus.to_dataset()))
    assert load_audio(row["audio"]).duration_s == pytest.approx(row["duration_s"], abs=1e-3)


def test_dataset_view_of_a_common_voice_folder(common_voice: Path, tone: np.ndarray) -> None:
    from ptlab.audio import load_audio

    table = data.load_common_voice(common_voice).to_dataset()
    assert table["text"][:] == ['Um "oi', "NA"] and "file" not in table.column_names
    assert np.abs(load_audio(table[1]["audio"]).waveform - tone).max() < 1e-4


def test_audio_has_the_duration_that_the_table_says() -> None:
    pytest.importorskip("ptlab.audio")
    corpus = data.load_corpus("dev")
    assert corpus.audio(0).duration_s == pytest.approx(corpus.row(0)["duration_s"], abs=1e-4)


def test_story() -> None:
    story = data.load_story()
    assert story.path.is_file() and 240 <= story.duration_s <= 300
    assert story.sentences.speaker.nunique() == 2 and story.sentences.paragraph.nunique() >= 4
    first = story.words[story.words.sentence == 0]
    assert first.start_s.iloc[0] == story.sentences.start_s.iloc[0]
    assert story.text.startswith(story.sentences.text.iloc[0])


def test_story_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("id\n")
    with pytest.raises(DataError, match=r"No story.json and no story.ogg .*--splits story"):
        data.load_story(tmp_path)


def test_common_voice(common_voice: Path) -> None:
    corpus = data.load_common_voice(common_voice)
    assert list(corpus.frame.text) == ['Um "oi', "NA"]  # quotation mark and "NA" are text
    assert list(corpus.frame.speaker) == ["x1", "x2"] and list(corpus.frame.id) == ["a", "b"]
    assert Path(corpus.row(0)["file"]).name == "a.wav"
    with pytest.raises(DataError, match="no true times"):
        corpus.words(0)


def test_common_voice_errors(common_voice: Path) -> None:
    with pytest.raises(DataError, match=r"No dev.tsv .*found: test"):
        data.load_common_voice(common_voice, "dev")
    (common_voice / "clips" / "b.wav").unlink()
    with pytest.raises(DataError, match="1 of 2 sound files are missing"):
        data.load_common_voice(common_voice)


def test_common_voice_of_a_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found: no tsv files"):
        data.load_common_voice(tmp_path)
    (tmp_path / "test.tsv").write_text("path\ttext\n", "utf-8")
    with pytest.raises(DataError, match="has no column sentence; it has path, text"):
        data.load_common_voice(tmp_path)


def test_folder(tmp_path: Path, tone: np.ndarray) -> None:
    soundfile.write(tmp_path / "um.wav", tone, 16_000)
    table = tmp_path / "mine.csv"
    with table.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([["som", "frase"], ["um.wav", "Olá, você!"]])
    corpus = data.load_folder(table, "som", "frase")
    assert corpus.row(0)["text"] == "Olá, você!" and corpus.row(0)["id"] == "um"
    with pytest.raises(DataError, match="has no column path, text; it has som, frase"):
        data.load_folder(table)
    with pytest.raises(DataError, match="No table"):
        data.load_folder(tmp_path)


def test_folder_by_its_metadata_and_as_tsv(tmp_path: Path, tone: np.ndarray) -> None:
    (tmp_path / "sons").mkdir()
    soundfile.write(tmp_path / "sons" / "007.wav", tone, 16_000)
    (tmp_path / "metadata.csv").write_text(
        'path,text,speaker\nsons/007.wav,"Oi, tia",ana\n', "utf-8"
    )
    (tmp_path / "dois.tsv").write_text("path\ttext\nsons/007.wav\t\n", "utf-8")
    corpus = data.load_folder(tmp_path)
    assert (corpus.row("007")["text"], corpus.row("007")["speaker"]) == ("Oi, tia", "ana")
    assert corpus.audio("007").duration_s == pytest.approx(0.5)
    assert data.load_folder(tmp_path / "dois.tsv").row(0)["text"] == ""  # not "nan"
    (tmp_path / "sons" / "007.wav").unlink()
    with pytest.raises(DataError, match=r"1 of 1 sound files are missing.*007\.wav"):
        data.load_folder(tmp_path)


def test_mls_without_network_says_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*args: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"needs network .*load_corpus\(\) works offline"):
        data.load_mls()


def test_mls_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    row = {"transcript": "olá", "speaker_id": "7", "audio_duration": 1.5, "id": "7_1"}
    sound = {"bytes": b"OggS", "path": "a.opus"}
    table = datasets.Dataset.from_list([row | {"audio": sound}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: table)
    corpus = data.load_mls()
    assert corpus.row("7_1")["text"] == "olá" and corpus.row(0)["audio"] == sound
    assert repr(corpus) == "Corpus(MLS Portuguese 1_hours: 1 clips, 0.0 min, 1 speakers)"
