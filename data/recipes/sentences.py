"""Check the sentences of the corpus and share them out: ``data/sentences.tsv``.

    python data/recipes/sentences.py drafts/*.tsv --not-in other_text.txt --out data/sentences.tsv

Drafts have three columns: domain, variety (br or pt), text. Taken are sentences of 3 to 18 words,
in NFC, without digits or letters outside the model's vocabulary, and unlike any other one. What
``--out`` holds already stays as it is, so a later draft moves no sentence to another split.
The splits are stratified by domain and variety.
"""

from __future__ import annotations

import argparse
import csv
import lzma
import re
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

KEYS = ("split", "domain", "variety", "text")
LETTERS = set("abcdefghijklmnopqrstuvwxyzàáâãçéêíóôõúü'-")
PUNCTUATION = set(" ,.;:!?…—")
# Of 13 sentences 8, 2 and 3: about 40, 10 and 15 minutes.
BLOCK = ("train",) * 8 + ("dev",) * 2 + ("test",) * 3
NEAR = 0.80  # likeness (0 to 1) from which two sentences are near copies


def lines_of(path: Path) -> list[str]:
    """The lines of a text, which may be packed by xz."""
    data = path.read_bytes()
    return (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8").splitlines()


def words_of(text: str) -> list[str]:
    """Lower-case words, punctuation gone.

    Examples
    --------
    >>> words_of("— Fazê-lo? Já!")
    ['fazê-lo', 'já']
    """
    return re.findall(r"[a-zà-ü'-]*[a-zà-ü][a-zà-ü'-]*", text.lower())


def tidy(text: str) -> str:
    """NFC, one kind of apostrophe, dash and quote, single spaces."""
    text = unicodedata.normalize("NFC", text).replace("’", "'").replace("–", "—")
    text = re.sub(r"[\"“”«»]", "", text)
    return " ".join(re.sub(r"\.{3}", "…", text).split()).removeprefix("— ")


def trouble(text: str) -> str:
    """Why a sentence cannot be used; empty if it can."""
    strange = sorted(set(text.lower()) - LETTERS - PUNCTUATION)
    if strange:
        return f"characters {''.join(strange)!r}"
    return "" if 3 <= len(words_of(text)) <= 18 else f"{len(words_of(text))} words"


def near_pairs(texts: list[str], others: Iterable[str] = ()) -> dict[int, str]:
    """Index of each text that is (nearly) an earlier text, or one of ``others``; and which one.

    Examples
    --------
    >>> near_pairs(["O gato dormiu no sofá.", "Choveu muito ontem.", "O gato dorme no sofá."])
    {2: 'O gato dormiu no sofá.'}
    """
    known = [(text, words_of(text)) for text in others]
    found: dict[int, str] = {}
    postings: dict[str, set[int]] = {}
    for at, (_, words) in enumerate(known):
        _post(postings, words, at)
    for index, text in enumerate(texts):
        words = words_of(text)
        if (copy := _nearest(words, known, postings)) is not None:
            found[index] = copy
        _post(postings, words, len(known))
        known.append((text, words))
    return found


def _post(postings: dict[str, set[int]], words: list[str], at: int) -> None:
    for word in set(words):
        postings.setdefault(word, set()).add(at)


def _nearest(words: list[str], known: list, postings: dict[str, set[int]]) -> str | None:
    shared: dict[int, int] = {}
    for word in set(words):
        for at in postings.get(word, ()):
            shared[at] = shared.get(at, 0) + 1
    own = " ".join(words)
    for at, count in shared.items():
        other = known[at][1]
        if count >= 0.5 * min(len(set(words)), len(set(other))):
            matcher = SequenceMatcher(None, own, " ".join(other), autojunk=False)
            if matcher.quick_ratio() >= NEAR and matcher.ratio() >= NEAR:
                return known[at][0]
    return None


def share_out(rows: list[dict[str, str]], seed: int) -> list[dict[str, str]]:
    """Give each row of one draft a split, stratified by domain and variety."""
    rng = np.random.default_rng(seed)
    rows = [rows[i] for i in rng.permutation(len(rows))]
    rows.sort(key=lambda row: (row["variety"], row["domain"]))
    splits = np.concatenate([rng.permutation(BLOCK) for _ in range(len(rows) // len(BLOCK) + 1)])
    rows = [row | {"split": str(split)} for row, split in zip(rows, splits, strict=False)]
    return [rows[i] for i in rng.permutation(len(rows))]


def read_draft(path: Path) -> list[dict[str, str]]:
    rows = (line.split("\t") for line in lines_of(path))
    return [dict(zip(KEYS[1:], map(tidy, row), strict=True)) for row in rows if len(row) == 3]


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table, delimiter="\t"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drafts", type=Path, nargs="+")
    parser.add_argument("--not-in", type=Path, nargs="*", default=[], help="texts to stay clear of")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    kept = read_table(args.out) if args.out.exists() else []
    others = [line for path in args.not_in for line in lines_of(path)]
    others += [row["text"] for row in kept]
    for number, path in enumerate(args.drafts):
        good = check(read_draft(path), others)
        others += [row["text"] for row in good]
        kept += share_out(good, args.seed + number)
    with args.out.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, KEYS, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(kept)
    print(f"{len(kept)} sentences in {args.out}")


def check(rows: list[dict[str, str]], others: list[str]) -> list[dict[str, str]]:
    """The rows that can be used; says why the others cannot."""
    copies = near_pairs([row["text"] for row in rows], others)
    good = []
    for index, row in enumerate(rows):
        if fault := trouble(row["text"]) or (index in copies and f"near: {copies[index]}"):
            print(f"left out: {row['text']} ({fault})")
        else:
            good.append(row)
    return good


if __name__ == "__main__":
    main()
