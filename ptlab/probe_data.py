"""Recordings with a label: the course's probe sets, emoUERJ, and any folder.

>>> import ptlab
>>> speakers = ptlab.load_probe_set("speakers")
>>> speakers
Corpus(speakers: 600 clips, 27.4 min, 20 speakers)
>>> speakers.row(0)["label"], speakers.row(0)["group"]  # what is guessed; what is kept apart
('pm_alex', 'pm_alex-1')

Each is a `Corpus` whose frame has a column ``label``, what a probe is to guess, and, where it is
known, a column ``group``, what training and test must not share: give it to `ptlab.probe`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ptlab._batch.inputs import SOUND_SUFFIXES
from ptlab.data import Corpus, data_dir, read_metadata
from ptlab.errors import DataError

__all__ = ["PROBE_SETS", "load_emouerj", "load_labelled_folder", "load_probe_set"]

PROBE_SETS = ("speakers", "languages", "styles")
"""Names that `load_probe_set` takes."""

EMOTIONS = {"h": "happiness", "a": "anger", "s": "sadness", "n": "neutral"}
_EMOUERJ = r"(?:.*/)?(?P<speaker>(?P<sex>[mw])\d\d)(?P<label>[hasn])(?P<take>\d\d)\.wav"
_BY_FOLDER = r"(?P<label>[^/]+)/(?:(?P<speaker>[^/]+)/)?[^/]+"


def load_probe_set(name: str, root: str | os.PathLike[str] | None = None) -> Corpus:
    """A set of this course for probes: synthetic, all of one loudness (data/README.md).

    Parameters
    ----------
    name : {"speakers", "languages", "styles"}
        20 voices in six sessions each, grouped by session; seven languages by the same 12 voices,
        and four speaking styles (no emotions: nobody felt any) by seven voices, grouped by voice.
        No sentence is spoken by two voices.
    root : path, optional
        See `data_dir`.

    Raises
    ------
    DataError
        If there is no such set, or it is not there.

    Examples
    --------
    >>> styles = load_probe_set("styles")
    >>> sorted(styles.frame.label.unique())
    ['angry-like', 'animated', 'neutral', 'sad-like']
    """
    if name not in PROBE_SETS:
        raise DataError(f"No probe set {name!r}; there are {', '.join(PROBE_SETS)}.")
    folder = data_dir(root) / "probes"
    if not (folder / "metadata.csv").is_file():
        raise DataError(
            f"No probe sets in {folder}. They come with the repository; "
            "data/recipes/make_probe_sets.py makes them again."
        )
    frame = read_metadata(folder)
    frame = frame[frame["set"] == name].dropna(axis="columns", how="all").reset_index(drop=True)
    return Corpus(name, frame, folder)


def load_emouerj(folder: str | os.PathLike[str]) -> Corpus:
    """emoUERJ: 377 acted Brazilian recordings of four emotions, from zenodo.org/records/5427549.

    Labels and actors come from the names of the files: ``w04a11`` is the eleventh recording of
    anger by the fourth actress. What was said (one of ten sentences) is in no name, so ``text`` is
    empty.

    With **eight actors** a score is that of eight people at most: split by actor, as ``group`` is,
    and expect wide intervals. Before you compare with a published score, look how it was split: on
    IEMOCAP, actors that the probe knew made 79.6 % of 73.0 % (arXiv 2111.02735). CORAA-SER, the
    larger Brazilian set (challenge baseline macro-F1 0.54, best 0.73), needs another care: two of
    its three labels are *non-neutral female* and *non-neutral male*, so that to tell the sexes
    apart is half of the task.

    Parameters
    ----------
    folder : path
        Where the archive was unpacked; folders in it are searched too.

    Raises
    ------
    DataError
        If there are no such files.

    Examples
    --------
    >>> corpus = load_emouerj("emoUERJ")  # doctest: +SKIP
    >>> ptlab.probe(  # doctest: +SKIP
    ...     ptlab.embed(corpus, pool="mean"), corpus.frame.label, corpus.frame.group
    ... )
    """
    corpus = load_labelled_folder(folder, _EMOUERJ)
    frame = corpus.frame.assign(
        label=[EMOTIONS[letter] for letter in corpus.frame.label],
        sex=["f" if letter == "w" else "m" for letter in corpus.frame.sex],
        take=corpus.frame["take"].astype(int),
    )
    return Corpus("emoUERJ", frame, corpus.root)


def load_labelled_folder(folder: str | os.PathLike[str], pattern: str = _BY_FOLDER) -> Corpus:
    """Any folder of recordings whose paths tell their labels.

    Parameters
    ----------
    folder : path
        By default its folders are the labels, and folders in them, if there are any, the speakers:
        ``anger/ana/01.wav``.
    pattern : str
        A regular expression with the named group ``label`` that matches the whole path of a
        recording under ``folder``, written with ``/``. Other named groups become columns, and
        ``speaker`` becomes the ``group`` too. CORAA-SER's is
        ``r"(?P<id>.*)_(?P<label>[^_]+)\\.wav"``.

    Raises
    ------
    DataError
        If a recording does not match (nothing is left out without a word), or there are none.

    Examples
    --------
    >>> corpus = load_labelled_folder("gravações")  # doctest: +SKIP
    >>> corpus.frame.label.value_counts()  # doctest: +SKIP
    """
    import pandas as pd

    root, matcher = Path(folder).expanduser(), re.compile(pattern)
    if "label" not in matcher.groupindex:
        raise DataError(
            f"The pattern {pattern!r} has no named group 'label', as in (?P<label>...)."
        )
    paths = [p.relative_to(root).as_posix() for p in _recordings(root)]
    if not paths:
        raise DataError(f"No recordings in {root}; known are {', '.join(sorted(SOUND_SUFFIXES))}.")
    matches = [matcher.fullmatch(path) for path in paths]
    if None in matches:
        odd = [path for path, match in zip(paths, matches, strict=True) if match is None]
        raise DataError(
            f"{len(odd)} of {len(paths)} recordings in {root} do not match {pattern!r}, the first "
            f"is {odd[0]!r}. Move them away, or give another pattern."
        )
    frame = pd.DataFrame([match.groupdict() for match in matches if match])
    frame = frame.dropna(axis="columns", how="all").assign(
        path=paths, file=[str(root.resolve() / path) for path in paths], text=""
    )
    if "id" not in frame:
        frame.insert(0, "id", [path.rpartition(".")[0] for path in paths])
    if "speaker" in frame:
        frame["group"] = frame.speaker
    return Corpus(root.name, frame, root)


def _recordings(root: Path) -> list[Path]:
    """Sound files by name; hidden ones, such as macOS writes beside others, are none."""
    found = (p for p in root.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))
