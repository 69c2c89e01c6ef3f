"""New sentences out of words that were already spoken: what was learned by heart is no help there.

After "on-the-fly aligned data augmentation" (Lam et al. 2021, arXiv 2104.01393), which takes words
of any speaker too; here they come in runs of up to four, cut where `Clip.word_cuts` says.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import takewhile

import numpy as np
from augment import RATE
from speech import Clip, to_labels

OVERLAP = RATE // 50  # 20 ms in which one piece goes and the next comes
LONGEST_RUN, TRIES = 4, 6
LOUDNESS = 1600  # root mean square of each piece, in steps of int16


class Splicer:
    """Says sentences with words of clips: ``Splicer(texts).say(clips, rng)``.

    Clips may be added to the list between calls, not taken out of it.
    """

    def __init__(self, texts: list[str]):
        self.texts = [words for text in texts if (words := to_labels(text)[1])]
        self.places: dict[str, list[tuple[int, int]]] = defaultdict(list)  # word: clip, place
        self.words: list[list[str]] = []  # of each clip read so far

    def say(self, clips: list[Clip], rng: np.random.Generator) -> Clip | None:
        """A text drawn at random, said by pieces of ``clips``; None if a word of it is in none."""
        self._read(clips)
        words = self.texts[rng.integers(len(self.texts))]
        if not all(word in self.places for word in words):
            return None
        pieces, at = [], 0
        while at < len(words):
            clip, place, run = self._piece(
                words[at : at + int(rng.integers(1, LONGEST_RUN + 1))], rng
            )
            pieces.append((clips[clip], place, place + run))
            at += run
        return spliced(pieces, " ".join(words))

    def _read(self, clips: list[Clip]) -> None:
        for number in range(len(self.words), len(clips)):
            known = clips[number].word_cuts is not None
            self.words.append(to_labels(clips[number].text)[1] if known else [])
            for place, word in enumerate(self.words[-1]):
                self.places[word].append((number, place))

    def _piece(self, words: list[str], rng: np.random.Generator) -> tuple[int, int, int]:
        """Clip, place in it and number of words: the longest run among a few places."""
        found = self.places[words[0]]
        tried = [found[rng.integers(len(found))] for _ in range(TRIES)]
        runs = [shared(words, self.words[clip][place:]) for clip, place in tried]
        best = runs.index(max(runs))
        return *tried[best], runs[best]


def shared(first: list[str], second: list[str]) -> int:
    """With how many of the same words both begin."""
    pairs = zip(first, second, strict=False)  # up to the end of the shorter one
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def spliced(pieces: list[tuple[Clip, int, int]], text: str) -> Clip:
    """Words ``first`` up to ``last`` of each (clip, first, last) in a row, equally loud."""
    bounds = [piece_bounds(*piece) for piece in pieces]
    sound = np.zeros(sum(end - start for start, end in bounds) + OVERLAP, np.float32)
    rise, half, at = np.sqrt(np.linspace(0, 1, OVERLAP, dtype=np.float32)), OVERLAP // 2, 0
    phones, ends, cuts = [], [], [np.zeros(1)]
    for (clip, first, last), (start, end) in zip(pieces, bounds, strict=True):
        piece = np.pad(clip.samples, half)[start : end + OVERLAP].astype(np.float32)
        piece *= LOUDNESS / max(1.0, float(np.sqrt(np.mean(piece**2))))
        piece[:OVERLAP] *= rise
        piece[-OVERLAP:] *= rise[::-1]
        sound[at : at + len(piece)] += piece
        ends_here = np.rint(clip.ends_s * RATE)
        tokens = slice(
            np.searchsorted(ends_here, start, "right"), np.searchsorted(ends_here, end) + 1
        )
        phones.append(clip.phones[tokens])
        ends.append((np.minimum(ends_here[tokens], end) - start + at) / RATE)
        cuts.append(clip.word_cuts[first + 1 : last + 1] + (at - start) / RATE)
        at += end - start
    samples = np.clip(sound[half : half + at], -32768, 32767).astype(np.int16)
    return Clip(samples, np.concatenate(phones), np.concatenate(ends), text, np.concatenate(cuts))


def piece_bounds(clip: Clip, first: int, last: int) -> tuple[int, int]:
    """First sample and the one after the last of some words of a clip."""
    start, end = (round(float(clip.word_cuts[i]) * RATE) for i in (first, last))
    return start, min(end, len(clip.samples))
