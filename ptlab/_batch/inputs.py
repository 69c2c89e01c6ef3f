"""What a batch is given -> its files, one by one."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptlab.data import Corpus
from ptlab.errors import DataError

__all__ = ["SOUND_SUFFIXES", "Source", "Sources", "find_sources", "source_of"]

# What a folder is searched for; a file that is named is read whatever its suffix.
SOUND_SUFFIXES = frozenset((
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au",
    ".snd", ".caf", ".w64", ".rf64", ".m4a", ".m4b", ".mp4", ".aac", ".wma", ".amr", ".3gp",
    ".webm", ".weba", ".mkv", ".mka", ".mov", ".avi", ".mp2", ".ac3",
))  # fmt: skip
_TABLES = {".csv": ",", ".tsv": "\t"}
_OF_A_TABLE, _OF_A_DATASET = ("path", "file", "audio"), ("audio", "path", "file")


@dataclass(frozen=True)
class Source:
    """One file: its name in the report, and what `load_audio` reads."""

    name: str
    content: Any


@dataclass(frozen=True)
class Sources:
    """The files of a batch, made one by one, so that a data set need not fit into memory.

    Attributes
    ----------
    count : int
    get : callable
        From a number below ``count`` to a `Source`.
    notes : tuple of str
        What the report should say about how they were found.
    sizes : list of int, optional
        Their bytes, from which the time left is guessed; by default all count the same.
    """

    count: int
    get: Callable[[int], Source]
    notes: tuple[str, ...] = ()
    sizes: Sequence[int] | None = None


def source_of(get: Callable[[int], Source], number: int) -> Source:
    """A file, or what will be no sound: one row that is wrong must not stop the others.

    Examples
    --------
    >>> source_of({7: Source("a.wav", "a.wav")}.__getitem__, 3)
    Source(name='row 3', content=None)
    """
    try:
        return get(number)
    except Exception:
        return Source(f"row {number}", None)


def find_sources(inputs: Any, column: str | None = None) -> Sources:
    """The files that are meant.

    Parameters
    ----------
    inputs
        - a path, or a list of paths or of rows of a data set;
        - a folder, alone or in a list: the sound files in it and in its folders, by name;
        - a glob such as ``"calls/**/*.mp3"``;
        - a csv or tsv file whose paths are relative to it, or a pandas frame;
        - a `datasets.Dataset`, decoded by ptlab and not by torchcodec, or a `Corpus`.
    column : str, optional
        Of a table or data set, where the sounds are; by default ``path``, ``file`` or ``audio``.

    Raises
    ------
    DataError
        If there is no such file, folder or column, or nothing that matches. A file of a list may be
        missing: that is told in its result.

    Examples
    --------
    >>> sources = find_sources(["a.wav", "b.wav"])
    >>> sources.count, sources.get(1)
    (2, Source(name='b.wav', content='b.wav'))
    """
    if isinstance(inputs, str | os.PathLike):
        return _from_path(os.fspath(inputs), column)
    if isinstance(inputs, Corpus):
        return _from_frame(inputs.frame, column or ("audio" if "audio" in inputs.frame else "file"))
    if hasattr(inputs, "iloc") and hasattr(inputs, "columns"):
        return _from_frame(inputs, column)
    if hasattr(inputs, "cast_column"):
        return _from_dataset(inputs, column)
    if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable):
        raise DataError(
            f"Inputs of type {type(inputs).__name__}; accepted are a path, a folder, a glob, a "
            "list of paths, a csv file, a pandas frame and a datasets.Dataset."
        )
    return _from_list(inputs)


def _from_path(name: str, column: str | None) -> Sources:
    path = Path(name).expanduser()
    if path.is_dir():
        found, notes = _in_folder(path)
        if not found:
            raise DataError(f"No sound files in the folder {name!r}. {' '.join(notes)}".rstrip())
        return _from_names(found, notes)
    if path.suffix.lower() in _TABLES and path.is_file():
        return _from_table(path, column)
    if path.exists():
        return _from_names([name])
    found = sorted(f for f in glob.glob(str(path), recursive=True) if os.path.isfile(f))
    if not found:
        raise DataError(f"No file, folder or match for {name!r}; check the path.")
    return _from_names(found)


def _from_list(items: Iterable[Any]) -> Sources:
    sources, notes = [], []
    for item in items:
        named = isinstance(item, str | os.PathLike)
        if named and os.path.isdir(item):
            found, about = _in_folder(Path(item))
            sources += [Source(f, f) for f in found]
            notes += about
        elif named:
            sources.append(Source(os.fspath(item), os.fspath(item)))
        else:
            sources.append(_row(item, len(sources)))
    sizes = [_size(source.name) for source in sources]
    return Sources(len(sources), sources.__getitem__, tuple(notes), sizes)


def _from_names(names: list[str], notes: Iterable[str] = ()) -> Sources:
    sizes = [_size(name) for name in names]
    return Sources(len(names), lambda i: Source(names[i], names[i]), tuple(notes), sizes)


def _size(name: str) -> int:
    try:
        return max(1, os.path.getsize(name))
    except OSError:  # reading it will say why
        return 1


def _in_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Sound files by name, and a note on what was left out. Hidden ones are (``._a.wav``)."""
    found: list[str] = []
    others: Counter[str] = Counter()
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(f for f in files if not f.startswith(".")):
            suffix = os.path.splitext(file)[1].lower()
            if suffix in SOUND_SUFFIXES:
                found.append(os.path.join(root, file))
            else:
                others[suffix or "no suffix"] += 1
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in others.most_common(5))
    left_out = f"{others.total()} files in {folder} have no suffix of a sound file ({kinds})."
    return found, [left_out] if others else []


def _from_table(path: Path, column: str | None) -> Sources:
    import pandas as pd

    try:
        separator = _TABLES[path.suffix.lower()]
        frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except ValueError as error:  # of the parser, of the encoding, or an empty file
        raise DataError(f"{path} cannot be read as a table: {error}.") from error
    column = _column(list(frame.columns), column, _OF_A_TABLE, str(path))
    names = [os.path.join(path.parent, os.path.expanduser(name)) for name in frame[column]]
    return _from_names(names)


def _from_frame(frame: Any, column: str | None) -> Sources:
    cells = frame[_column(list(frame.columns), column, _OF_A_TABLE, "The frame")].tolist()
    return Sources(len(cells), lambda i: _row(cells[i], i))


def _from_dataset(dataset: Any, column: str | None) -> Sources:
    import datasets

    if not hasattr(dataset, "__len__") or isinstance(dataset, Mapping):
        raise DataError(
            f"A {type(dataset).__name__}; accepted is one datasets.Dataset: choose a split, and "
            "load it without streaming."
        )
    column = _column(dataset.column_names, column, _OF_A_DATASET, "The data set")
    if isinstance(dataset.features[column], datasets.Audio):
        dataset = dataset.cast_column(column, datasets.Audio(decode=False))
    return Sources(len(dataset), lambda i: _row(dataset[i][column], i))


def _row(cell: Any, number: int) -> Source:
    """A cell of a table or data set: a path, a dict with bytes or path, or whatever else it is."""
    if isinstance(cell, str | os.PathLike):
        return Source(os.fspath(cell), os.fspath(cell))
    path = cell.get("path") if isinstance(cell, Mapping) else None
    named = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    return Source(named or f"row {number}", cell)


def _column(columns: list[str], given: str | None, usual: tuple[str, ...], where: str) -> str:
    wanted = (given,) if given is not None else usual
    found = next((c for c in wanted if c in columns), None)
    if found is None:
        raise DataError(
            f"{where} has no column {' or '.join(map(repr, wanted))}; it has "
            f"{', '.join(map(str, columns))}. Name the one with the sounds: column=..."
        )
    return found
