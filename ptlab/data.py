"""Corpora -> rows: the course's own speech, a Common Voice folder, any folder, MLS online.

>>> import ptlab
>>> corpus = ptlab.load_corpus("test")
>>> corpus
Corpus(test: 260 clips, 16.1 min, 10 speakers)
>>> corpus.row("test_0001")["text"]
'Na minha época, decorava-se a tabuada em coro.'
>>> corpus.audio("test_0001")
Audio(3.45 s, 16000 Hz, test_0001.ogg)
>>> corpus.words("test_0001").text.tolist()[:3]
['na', 'minha', 'época']

Every loader gives a `Corpus`: a pandas frame with one row a clip, and the sound on demand, read
by soundfile (never by torchcodec).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptlab.errors import DataError

if TYPE_CHECKING:
    import datasets
    import pandas as pd

    from ptlab.audio import Audio

__all__ = [
    "SPLITS",
    "Corpus",
    "LongRecording",
    "data_dir",
    "load_common_voice",
    "load_corpus",
    "load_folder",
    "load_mls",
    "load_story",
]

SPLITS = ("train", "dev", "test")
"""Parts of the course's corpus: no voice and no sentence is in two."""
_MLS = "facebook/multilingual_librispeech"
_TIME_COLUMNS = ("text", "start_s", "end_s")


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Clips with their texts.

    Attributes
    ----------
    name : str
        What it is, for titles.
    frame : pandas.DataFrame
        One row a clip; at least ``id``, ``text`` and ``file`` (absolute path) or ``audio``
        (``{"bytes", "path"}``). The course's corpus has the columns that data/README.md explains.
    root : pathlib.Path or None
        Folder that the paths are relative to.

    Examples
    --------
    >>> from ptlab.data import load_corpus
    >>> native = load_corpus("test").filter(accent="native")
    >>> native.frame.speaker.unique().tolist()
    ['pm_alex']
    >>> native.words(0).columns.tolist()
    ['text', 'start_s', 'end_s']
    """

    name: str
    frame: pd.DataFrame
    root: Path | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows as dicts, in order."""
        return iter(self.frame.to_dict("records"))

    def __repr__(self) -> str:
        facts = [f"{len(self):,} clips"]
        if "duration_s" in self.frame:
            facts.append(f"{self.frame.duration_s.sum() / 60:.1f} min")
        if "speaker" in self.frame:
            facts.append(f"{self.frame.speaker.nunique()} speakers")
        return f"Corpus({self.name}: {', '.join(facts)})"

    def row(self, key: int | str) -> dict[str, Any]:
        """One row as a dict, by position or by ``id``; `DataError` if there is none."""
        if isinstance(key, str):
            found = self.frame[self.frame.id == key]
            if found.empty:
                raise DataError(f"No clip {key!r} in {self!r}; ids are like {self._first_id()}.")
            return found.iloc[0].to_dict()
        if not -len(self) <= key < len(self):
            raise DataError(f"No clip number {key}: {self!r} has 0 to {len(self) - 1}.")
        return self.frame.iloc[key].to_dict()

    def audio(self, key: int | str, target_rate: int | None = None) -> Audio:
        """The sound of a clip, by position or id, at 16 kHz or another rate in Hz."""
        from ptlab.audio import SAMPLE_RATE, load_audio

        row = self.row(key)
        source = row["audio"] if "audio" in row else row["file"]
        return load_audio(source, target_rate=target_rate or SAMPLE_RATE)

    def words(self, key: int | str) -> pd.DataFrame:
        """True words of a clip: ``text``, ``start_s``, ``end_s`` in seconds."""
        return _time_frame(self._times(key)["words"])

    def phones(self, key: int | str) -> pd.DataFrame:
        """True phones (IPA, as Kokoro writes it) of a clip: ``text``, ``start_s``, ``end_s``."""
        return _time_frame(self._times(key)["phones"])

    def filter(self, **columns: Any) -> Corpus:
        """Rows where every named column has the given value (or one of a list of values)."""
        frame = self.frame
        for column, wanted in columns.items():
            if column not in frame:
                raise DataError(f"No column {column!r} in {self!r}; there are {_names(frame)}.")
            wanted = (
                [wanted] if isinstance(wanted, str) or not hasattr(wanted, "__iter__") else wanted
            )
            frame = frame[frame[column].isin(list(wanted))]
        return replace(self, frame=frame.reset_index(drop=True))

    def to_dataset(self) -> datasets.Dataset:
        """A `datasets.Dataset`; its ``audio`` column is ``Audio(decode=False)``.

        datasets decodes and encodes audio with torchcodec and FFmpeg; this view needs neither:
        ``load_audio(row["audio"])`` reads path or bytes.
        """
        import datasets

        columns = self.frame.drop(columns=["file", "audio"], errors="ignore").to_dict("list")
        if "audio" in self.frame:
            columns["audio"] = list(self.frame.audio)
        else:
            columns["audio"] = [{"bytes": None, "path": path} for path in self.frame.file]
        table = datasets.Dataset.from_dict(columns)
        return table.cast_column("audio", datasets.Audio(decode=False))

    def _times(self, key: int | str) -> dict[str, Any]:
        path = self.root / "times.jsonl" if self.root else None
        if path is None or not path.is_file():
            raise DataError(
                f"{self!r} has no true times. Only the course's corpus has (load_corpus); for "
                "others use forced alignment (ptlab.align)."
            )
        return _read_times(path)[self.row(key)["id"]]

    def _first_id(self) -> str:
        return repr(self.frame.id.iloc[0]) if len(self) else "(the corpus is empty)"


@dataclass(frozen=True, eq=False, repr=False)
class LongRecording:
    """One long recording and every true time in it.

    Attributes
    ----------
    path : pathlib.Path
        The sound.
    duration_s : float
    sentences : pandas.DataFrame
        ``text, start_s, end_s, paragraph, role, speaker``.
    words : pandas.DataFrame
        ``text, start_s, end_s, sentence`` (row of ``sentences``).
    phones : pandas.DataFrame
        ``text, start_s, end_s``.
    """

    path: Path
    duration_s: float
    sentences: pd.DataFrame
    words: pd.DataFrame
    phones: pd.DataFrame

    def __repr__(self) -> str:
        size = f"{self.duration_s / 60:.1f} min, {len(self.sentences)} sentences"
        return f"LongRecording({self.path.name}: {size}, {len(self.words)} words)"

    @property
    def text(self) -> str:
        """All sentences, joined by spaces."""
        return " ".join(self.sentences.text)

    def audio(self) -> Audio:
        """The sound at 16 kHz."""
        from ptlab.audio import load_audio

        return load_audio(self.path)


def data_dir(path: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the embedded corpus: argument, ``PTLAB_DATA_DIR``, or ``data/`` of the checkout.

    Parameters
    ----------
    path : path, optional
        The folder that holds ``metadata.csv``.

    Raises
    ------
    DataError
        If there is no corpus there; says how to get it.

    Examples
    --------
    >>> (data_dir() / "metadata.csv").is_file()
    True
    """
    given = path or os.environ.get("PTLAB_DATA_DIR")
    folder = Path(given) if given else Path(__file__).resolve().parents[1] / "data"
    if not (folder / "metadata.csv").is_file():
        raise DataError(
            f"No corpus in {folder} (no metadata.csv). It comes with the repository, not with the "
            "package: clone the repository and give its data folder as argument or as "
            "PTLAB_DATA_DIR, or rebuild it with data/recipes/make_corpus.py."
        )
    return folder.resolve()


def load_corpus(split: str | None = None, root: str | os.PathLike[str] | None = None) -> Corpus:
    """The corpus made for this course: Portuguese sentences by 54 synthetic voices.

    Parameters
    ----------
    split : {"train", "dev", "test"}, optional
        No voice and no sentence is in two of them. All three if not given.
    root : path, optional
        See `data_dir`.

    Examples
    --------
    >>> from ptlab.data import load_corpus
    >>> dev = load_corpus("dev")
    >>> set(dev.frame.split), "pm_santa" in set(dev.frame.speaker)
    ({'dev'}, True)
    """

    if split is not None and split not in SPLITS:
        raise DataError(f"No split {split!r}; there are {', '.join(SPLITS)} (or None for all).")
    folder = data_dir(root)
    frame = read_metadata(folder)
    if split is not None:
        frame = frame[frame.split == split].reset_index(drop=True)
    return Corpus(split or "all", frame, folder)


def read_metadata(folder: Path) -> pd.DataFrame:
    """The table of a set of this course, with the path of each sound in ``file``."""
    import pandas as pd

    frame = pd.read_csv(folder / "metadata.csv", dtype={"text": str})
    frame["file"] = [str(folder / path) for path in frame.path]
    return frame


def load_story(root: str | os.PathLike[str] | None = None) -> LongRecording:
    """The long recording: a story with two voices, pauses and true times.

    Examples
    --------
    >>> from ptlab.data import load_story
    >>> 240 <= load_story().duration_s <= 300
    True
    """
    import pandas as pd

    folder = data_dir(root) / "story"
    missing = [name for name in ("story.json", "story.ogg") if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"No {' and no '.join(missing)} in {folder}. The story comes with the repository; "
            "data/recipes/make_corpus.py --splits story makes it again."
        )
    about = json.loads((folder / "story.json").read_text("utf-8"))
    words = pd.DataFrame(about["words"], columns=[*_TIME_COLUMNS, "sentence"])
    sentences = pd.DataFrame(about["sentences"])
    phones = _time_frame(about["phones"])
    return LongRecording(folder / "story.ogg", about["duration_s"], sentences, words, phones)


def load_common_voice(folder: str | os.PathLike[str], split: str = "test") -> Corpus:
    """A Common Voice folder as Mozilla Data Collective gives it: ``clips/`` and ``<split>.tsv``.

    Columns become ``id, file, text, speaker, split``; the others keep their names.

    Parameters
    ----------
    folder : path
        Folder of one language, such as ``cv-corpus-22.0/pt``.
    split : str
        Name of a tsv file in it: ``train``, ``dev``, ``test``, ``validated``, ...

    Raises
    ------
    DataError
        If the tsv, one of its columns or a clip is missing.

    Examples
    --------
    >>> corpus = load_common_voice("cv-corpus-22.0/pt", "dev")  # doctest: +SKIP
    >>> audio = corpus.audio(0)  # doctest: +SKIP
    """
    import pandas as pd

    root = Path(folder)
    table = root / f"{split}.tsv"
    if not table.is_file():
        found = ", ".join(sorted(path.stem for path in root.glob("*.tsv"))) or "no tsv files"
        raise DataError(
            f"No {split}.tsv in {root} (found: {found}). Give the folder of a language."
        )
    # Common Voice does not quote: a sentence may hold a lone quotation mark.
    frame = pd.read_csv(table, sep="\t", quoting=3, dtype=str, keep_default_na=False)
    _need(frame, ("path", "sentence"), table)
    frame = frame.rename(columns={"sentence": "text", "client_id": "speaker"})
    return _from_files(f"Common Voice {split}", frame.assign(split=split), root / "clips", "path")


def load_folder(
    source: str | os.PathLike[str], audio_column: str = "path", text_column: str = "text"
) -> Corpus:
    """A csv or tsv of your own, or a folder that holds a ``metadata.csv``.

    Parameters
    ----------
    source : path
        The table, or its folder. Paths of sounds are relative to the table.
    audio_column, text_column : str
        Names of the columns with the sound's path and its text.
    """
    import pandas as pd

    table = Path(source)
    table = table / "metadata.csv" if table.is_dir() else table
    if not table.is_file():
        raise DataError(f"No table {table}. Give a csv or tsv, or a folder with metadata.csv.")
    separator = "\t" if table.suffix == ".tsv" else ","
    frame = pd.read_csv(table, sep=separator, dtype={audio_column: str, text_column: str})
    _need(frame, (audio_column, text_column), table)
    frame[text_column] = frame[text_column].fillna("")
    frame = frame.rename(columns={text_column: "text"})
    return _from_files(table.stem, frame, table.parent, audio_column)


def load_mls(split: str = "1_hours", limit: int | None = None) -> Corpus:
    """Portuguese of Multilingual LibriSpeech (CC BY 4.0): read books, real people; needs network.

    Parameters
    ----------
    split : str
        ``1_hours`` (15.6 MB), ``9_hours``, ``dev``, ``test`` or ``train`` (large: give a limit).
    limit : int, optional
        Only the first clips, streamed.
    """
    import datasets
    import pandas as pd

    try:
        table = datasets.load_dataset(_MLS, "portuguese", split=split, streaming=limit is not None)
        table = table.cast_column("audio", datasets.Audio(decode=False))
        rows = list(table if limit is None else table.take(limit))
    except Exception as error:  # the Hub's clients raise many kinds; all mean the same here
        raise DataError(
            f"Could not load {_MLS} ({split}) from the Hugging Face Hub: {error}. It needs network "
            "the first time; load_corpus() works offline."
        ) from error
    names = {"transcript": "text", "speaker_id": "speaker", "audio_duration": "duration_s"}
    frame = pd.DataFrame(rows).rename(columns=names).drop(columns="file", errors="ignore")
    return Corpus(f"MLS Portuguese {split}", frame)


def _from_files(name: str, frame: pd.DataFrame, folder: Path, column: str) -> Corpus:
    files = [str((folder / path).resolve()) for path in frame[column]]
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        count = f"{len(missing)} of {len(files)}"
        raise DataError(f"{count} sound files are missing, the first is {missing[0]}.")
    frame = frame.assign(file=files)
    if "id" not in frame:
        frame.insert(0, "id", [Path(file).stem for file in files])
    return Corpus(name, frame.reset_index(drop=True), folder)


def _need(frame: pd.DataFrame, columns: tuple[str, ...], table: Path) -> None:
    absent = [column for column in columns if column not in frame]
    if absent:
        raise DataError(f"{table} has no column {', '.join(absent)}; it has {_names(frame)}.")


def _names(frame: pd.DataFrame) -> str:
    return ", ".join(map(str, frame.columns))


def _time_frame(rows: list[list[Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=list(_TIME_COLUMNS))


@lru_cache(maxsize=4)
def _read_times(path: Path) -> dict[str, dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return {row["id"]: row for row in map(json.loads, lines)}
