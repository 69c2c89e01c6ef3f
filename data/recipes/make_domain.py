"""A small domain to adapt to: sentences from the pharmacy, in Portuguese with a Spanish accent.

    python data/recipes/make_domain.py

Reads ``pharmacy_br.txt`` and writes ``data/pharmacy``: clips and a ``metadata.csv`` with the
columns of the corpus. ``mini`` was trained on no word list of medicines and on no voice with this
accent. The accent is made of rules on phonemes (`spanish_accent`), spoken by Kokoro's voices: those
of ``train`` and ``dev`` are not in ``test``, and no sentence is in two splits.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

import numpy as np
import opus
from make_corpus import COLUMNS, checksum
from voices import describe

RECIPES = Path(__file__).resolve().parent
SPEEDS = (0.9, 1.15)
SEED = 11
VOICES = {"train": ("em_santa", "ef_dora"), "dev": ("if_sara",), "test": ("em_alex", "af_sky")}
SIZES = {"train": 70, "dev": 14, "test": 36}
# What speakers of Spanish do with Portuguese, a habit a line. Symbols are Kokoro's.
ACCENT = (
    ("ɐ̃ʊ̃", "aʊn"), ("õj", "ojn"), ("ɐ̃", "an"), ("Aŋ", "en"),  # a nasal vowel is a vowel and an n,
    ("(?<=[aeiou])\u0303", "n"), ("n?ŋ", "n"),
    ("v", "b"), ("z", "s"), ("ʒ", "ʃ"),  # v as b, no voiced z, j as ch,
    ("ʤ", "d"), ("ʧ", "t"),  # di and ti as they are written,
    ("ɛ", "e"), ("ɔ", "o"),  # one e and one o,
    ("[yɪ]$", "e"), ("[wʊ]$", "o"), ("[yɪ](?=s$)", "e"), ("ʊ(?=s$)", "o"), ("æ", "a"),  # full ends,
    ("[xʁ]", "r"),  # and a rolled r.
)  # fmt: skip


def spanish_accent(symbols: str) -> str:
    """The phonemes of a Brazilian word as a speaker of Spanish may say it.

    Examples
    --------
    >>> [spanish_accent(s) for s in ("nˌɐ̃ʊ̃", "ʒˌenˈɛɾikʊ", "dˈɔzy", "xapˈas", "ʤˈizAŋ")]
    ['nˌaʊn', 'ʃˌenˈeɾiko', 'dˈose', 'rapˈas', 'dˈisen']
    """
    for pattern, sound in ACCENT:
        symbols = re.sub(pattern, sound, symbols)
    return symbols


def plan(texts: list[str]) -> list[dict[str, object]]:
    """A row a sentence: split, voice, speed."""
    order = np.random.default_rng(SEED).permutation(len(texts))
    splits = [split for split, size in SIZES.items() for _ in range(size)]
    rows = []
    for number, (index, split) in enumerate(zip(order, splits, strict=True)):
        voice = VOICES[split][number % len(VOICES[split])]
        speed = round(float(np.random.default_rng([SEED, number]).uniform(*SPEEDS)), 2)
        name = f"pharmacy_{number + 1:03d}"
        row = {"id": name, "path": f"clips/{name}.ogg", "split": split, "speed": speed}
        row |= describe(voice) | {"variety": "br", "domain": "pharmacy", "text": texts[index]}
        rows.append(row | {"accent": "foreign", "sampling_rate": opus.SAMPLING_RATE})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RECIPES.parent / "pharmacy")
    parser.add_argument("--cache", help="where Kokoro lies (default: $PTLAB_CACHE)")
    args = parser.parse_args()
    from fast_kokoro import FastKokoro

    (args.out / "clips").mkdir(parents=True, exist_ok=True)
    kokoro = FastKokoro(args.cache)
    rows = plan((RECIPES / "pharmacy_br.txt").read_text("utf-8").splitlines())
    for row in rows:
        speech = kokoro.synthesize(row["text"], row["speaker"], row["speed"], "br", spanish_accent)
        opus.write(args.out / row["path"], opus.to_16k(speech.waveform))
        row["duration_s"] = round(speech.duration_s, 3)
        row["sha256"] = checksum(args.out / row["path"])
    with (args.out / "metadata.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
