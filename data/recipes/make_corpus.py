"""Speak the corpus: ``data/sentences.tsv`` -> clips, ``metadata.csv`` and ``times.jsonl``.

    python data/recipes/make_corpus.py [--splits dev test story train]

Sentences, splits, voices and speeds come from the sentence list and a seed, so that the same call
gives the same corpus. Clips whose row in the tables is as planned, and whose checksum is right, are
kept: a call that was stopped goes on where it was. Needs espeak-ng and npm.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import opus
import story
from kokoro import Kokoro
from tqdm.auto import tqdm
from voices import DEV, TEST, describe, training_voices

DATA = Path(__file__).resolve().parents[1]
SPEEDS = (0.80, 1.25)
SEED = 2026
SPLITS = ("train", "dev", "test")
SAVE_EVERY = 25  # clips; the tables are all that tells what is done
# Clips of the native voice and of each foreign one in a block: 26 to 29 % of a split are native,
# enough to compare accents.
BLOCKS = {"train": (14, 1), "dev": (4, 2), "test": (7, 2)}
COLUMNS = (
    "id", "path", "split", "speaker", "accent", "sex", "voice_language", "variety", "domain",
    "text", "speed", "duration_s", "sampling_rate", "sha256",
)  # fmt: skip


def split_voices(split: str, all_voices: tuple[str, ...]) -> tuple[str, ...]:
    """The voices of a split, the native one first."""
    voices = {"dev": DEV, "test": TEST, "train": training_voices(all_voices)}[split]
    return tuple(sorted(voices, key=lambda voice: (voice[0] != "p", voice)))


def voice_sequence(split: str, voices: tuple[str, ...], count: int) -> list[str]:
    """Voices for ``count`` sentences, in shuffled blocks: a longer list starts with a shorter."""
    native, foreign = BLOCKS[split]
    block = [voices[0]] * native + list(voices[1:]) * foreign
    found: list[str] = []
    while len(found) < count:
        rng = np.random.default_rng([SEED, SPLITS.index(split), len(found)])
        found += [block[i] for i in rng.permutation(len(block))]
    return found[:count]


def plan(split: str, rows: list[dict[str, str]], all_voices: tuple[str, ...]) -> list[dict]:
    """One row a clip, without what only the sound can tell."""
    rows = [row for row in rows if row["split"] == split]
    spoken = voice_sequence(split, split_voices(split, all_voices), len(rows))
    planned = []
    for number, (row, voice) in enumerate(zip(rows, spoken, strict=True), 1):
        rng = np.random.default_rng([SEED, 10 + SPLITS.index(split), number])
        name = f"{split}_{number:04d}"
        clip = {"id": name, "path": f"clips/{split}/{name}.ogg", **row, **describe(voice)}
        planned.append(clip | {"speed": round(float(rng.uniform(*SPEEDS)), 2)})
    return planned


def make_clip(kokoro: Kokoro, row: dict, data: Path) -> dict:
    """Speak one row, write its sound; the row with duration, times and checksum."""
    speech = kokoro.synthesize(row["text"], row["speaker"], row["speed"], row["variety"])
    sound = opus.to_16k(speech.waveform)
    opus.write(data / row["path"], sound)
    return row | {
        "duration_s": round(len(sound) / opus.SAMPLING_RATE, 4),
        "sampling_rate": opus.SAMPLING_RATE,
        "sha256": checksum(data / row["path"]),
        "words": [[word.lower(), *time] for word, *time in speech.words],
        "phones": [list(phone) for phone in speech.phones],
    }


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_done(planned: list[dict], data: Path) -> dict[str, dict]:
    """Rows of the tables that are as planned and whose sound is there, untouched; by id."""
    if not ((data / "metadata.csv").exists() and (data / "times.jsonl").exists()):
        return {}
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as table:
        rows = {row["id"]: row for row in csv.DictReader(table)}
    lines = (data / "times.jsonl").read_text("utf-8").splitlines()
    times = {row["id"]: row for row in map(json.loads, lines)}
    found = {row["id"]: rows.get(row["id"], {}) | times.get(row["id"], {}) for row in planned}
    return {row["id"]: found[row["id"]] for row in planned if is_done(row, found[row["id"]], data)}


def is_done(row: dict, found: dict, data: Path) -> bool:
    """Was this row spoken as planned? Cells read from the table are strings."""
    same = all(str(found.get(key)) == str(row[key]) for key in row) and "words" in found
    path = data / row["path"]
    return same and path.exists() and checksum(path) == found["sha256"]


def make_split(kokoro: Kokoro, planned: list[dict], split: str, data: Path) -> None:
    """Speak what is not done yet. A call that is stopped keeps what it has."""
    done = read_done(planned, data)
    missing = [row for row in planned if row["split"] == split and row["id"] not in done]
    try:
        for number, row in enumerate(tqdm(missing, desc=split, mininterval=10), 1):
            done[row["id"]] = make_clip(kokoro, row, data)
            if number % SAVE_EVERY == 0:
                write_tables(planned, done, data)
    finally:
        write_tables(planned, done, data)


def write_tables(planned: list[dict], done: dict[str, dict], data: Path) -> None:
    """``metadata.csv`` and ``times.jsonl`` of all clips that are there, in plan order."""
    rows = [done[row["id"]] for row in planned if row["id"] in done]
    with whole(data / "metadata.csv") as out:
        table = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    with whole(data / "times.jsonl") as out:
        for row in rows:
            line = {key: row[key] for key in ("id", "words", "phones")}
            out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


@contextmanager
def whole(path: Path) -> Iterator[TextIO]:
    """Write a file that others find as it was before or whole, never half written."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as out:
        yield out
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = ("dev", "test", "story", "train")
    parser.add_argument("--splits", nargs="*", default=steps, choices=steps)
    parser.add_argument("--data", type=Path, default=DATA, help="holds sentences.tsv; is written")
    parser.add_argument("--cache", help="where model and voices lie (default: $PTLAB_CACHE)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    kokoro = Kokoro(args.cache, args.threads)
    with (args.data / "sentences.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    planned = [row for split in SPLITS for row in plan(split, rows, kokoro.voices)]
    for step in args.splits:
        if step == "story":
            story.make_story(kokoro, args.data)
        else:
            make_split(kokoro, planned, step, args.data)


if __name__ == "__main__":
    main()
