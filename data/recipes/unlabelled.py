"""Unlabelled speech of any folder of the ``make_*.py`` recipes, to be drawn from at random."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from languages import language_shares

RATE = 16_000
OTHERWISE = "pt"  # the language of folders that name none


@dataclass(frozen=True)
class Sounds:
    """Clips end to end, in one memory map a folder, so that processes share them."""

    maps: tuple[np.ndarray, ...]
    places: np.ndarray  # (clips, 3): map, first sample, samples
    languages: np.ndarray  # (clips,)

    def clip(self, number: int) -> np.ndarray:
        """int16 samples of a clip."""
        folder, start, length = self.places[number]
        return self.maps[folder][start : start + length]

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each language."""
        names, kind = np.unique(self.languages, return_inverse=True)
        totals = np.bincount(kind, self.places[:, 2] / RATE)
        return dict(zip(names.tolist(), totals.tolist(), strict=True))


def read_sounds(folders: Sequence[Path], languages: Iterable[str] = ()) -> Sounds:
    """All clips of the folders, or those in some languages; decoded once, into ``pack.i16``."""
    maps, places, names, wanted = [], [], [], set(languages)
    for folder in folders:
        start = 0
        for _, length, language in pack(folder):
            if not wanted or language in wanted:
                places.append((len(maps), start, length))
                names.append(language)
            start += length
        maps.append(np.memmap(folder / "pack.i16", np.int16, "r"))
    if not places:
        raise SystemExit(f"No clip{f' in {sorted(wanted)}' if wanted else ''} in these folders.")
    return Sounds(tuple(maps), np.array(places), np.array(names))


def pack(folder: Path) -> list[tuple[str, int, str]]:
    """Decode what was not decoded yet; (path, samples, language) of all clips, in their order."""
    index = folder / "pack.json"
    known = json.loads(index.read_text("utf-8")) if index.exists() else []
    paths = {path for path, _, _ in known}
    rows = [row for row in _rows(folder) if row["path"] not in paths]
    if not rows:  # nor is anything written, so that two runs may share a folder
        return known
    with (folder / "pack.i16").open("ab") as out:
        out.truncate(2 * sum(length for _, length, _ in known))  # what a killed call left
        for row in rows:
            samples, rate = soundfile.read(folder / row["path"], dtype="int16")
            if rate != RATE:
                raise ValueError(f"{row['path']}: {rate} Hz, expected {RATE}")
            out.write(samples.tobytes())
            known.append((row["path"], len(samples), row.get("language", OTHERWISE)))
    part = index.with_suffix(".part")
    part.write_text(json.dumps(known), "utf-8")
    part.replace(index)
    return known


def _rows(folder: Path) -> list[dict]:
    """Rows of the part files, but for a last line that is still being written."""
    lines = [
        line
        for part in sorted(folder.glob("part*.jsonl"))
        for line in part.read_text("utf-8").splitlines(keepends=True)
    ]
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Drawer:
    """Draws clips: a language by XLSR's rule from the speech there is, then a clip of it.

    ``alpha`` is 1 for a folder that is balanced already, as ``make_babel.py``'s is.
    """

    def __init__(self, sounds: Sounds, alpha: float = 1.0):
        self.sounds = sounds
        shares = language_shares(sounds.seconds, alpha)
        self.numbers = [np.flatnonzero(sounds.languages == name) for name in shares]
        self.weights = np.cumsum(list(shares.values()))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """float32 samples of the longer of two clips, so that less has to be padded."""
        language = np.searchsorted(self.weights, rng.random() * self.weights[-1])
        two = rng.choice(self.numbers[language], 2)
        number = max(two, key=lambda n: self.sounds.places[n, 2])
        return self.sounds.clip(number).astype(np.float32) / 32768
