"""Lines of many different Portuguese words, so that training speech holds the whole lexicon.

    python data/recipes/rare_words.py --dictionary DICTIONARY... --lines 8000 --out rare.txt

Sentences bring a rare word too seldom, and ``mini`` writes a word that its training speech never
held wrong three times of five. A line here is 3 to 8 words in random order with small words between
them: no sense, but every spelling. Words are those of wordfreq's list (Speer 2022, CC BY-SA 4.0)
that stand in a spelling dictionary, one word a line (Debian's ``wbrazilian`` and ``wportuguese``),
which keeps names and foreign words out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from wordfreq import top_n_list

from ptlab import normalize_text

SMALL_WORDS = (
    *("a", "o", "e", "de", "da", "do", "em", "no", "na", "um", "uma", "que", "com", "por", "para"),
    *("não", "se", "os", "as", "ao", "à", "dos", "das", "nos", "nas", "mais", "mas", "como", "foi"),
    *("ele", "ela", "eu", "é", "ou", "já", "muito", "também", "só", "seu", "sua", "me", "isso"),
    *("este", "esta", "aquele", "quando", "até", "sem"),
)
SMALL_SHARE = 0.35  # chance of a small word before each word
COMMON = 15_000  # so many of the most frequent words are drawn twice as often


def lexicon(dictionaries: list[Path], size: int) -> list[str]:
    """Words of the dictionaries among wordfreq's ``size`` most frequent, most frequent first."""
    known: set[str] = set()
    for path in dictionaries:
        known.update(path.read_text("utf-8").split())
    words = [w for w in top_n_list("pt", size) if len(w) > 2 and w in known]
    return [w for w in words if normalize_text(w, spell=False) == w]


def drawn(words: list[str], rng: np.random.Generator) -> Iterator[str]:
    """Every word once, the common ones twice, in random order; then again, without end."""
    deck = np.array(words + words[:COMMON])
    while True:
        yield from rng.permutation(deck).tolist()


def lines(words: list[str], count: int, seed: int) -> Iterator[str]:
    """``count`` lines; the same arguments give the same lines."""
    rng = np.random.default_rng(seed)
    words_in_turn = drawn(words, rng)
    for _ in range(count):
        line: list[str] = []
        for _ in range(int(rng.integers(3, 9))):
            if rng.random() < SMALL_SHARE:
                line.append(str(rng.choice(SMALL_WORDS)))
            line.append(next(words_in_turn))
        yield " ".join(line).capitalize() + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dictionary", type=Path, nargs="+", required=True)
    parser.add_argument("--size", type=int, default=80_000, help="of wordfreq's list")
    parser.add_argument("--lines", type=int, default=8_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    words = lexicon(args.dictionary, args.size)
    print(f"{len(words)} words")
    args.out.write_text("\n".join(lines(words, args.lines, args.seed)) + "\n", "utf-8")


if __name__ == "__main__":
    main()
