"""Portuguese text -> Kokoro's phoneme symbols, word by word.

espeak-ng (GPL; run as a tool, nothing of it is shipped) gives the phonemes of a clause. It joins
some words and splits others, so each symbol is given back to its text word by aligning the clause
with the same words phonemised one at a time. Punctuation stays: Kokoro makes its pauses from it.
"""

from __future__ import annotations

import re
import subprocess
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ESPEAK_VOICES = {
    "br": "pt-br", "pt": "pt",
    "es": "es", "it": "it", "fr": "fr-fr", "en": "en-us", "hi": "hi", "ja": "ja",  # probe sets
}  # fmt: skip
# Kokoro writes these diphthongs and affricates with one letter (misaki's table).
TIES = {
    "t^ʃ": "ʧ", "d^ʒ": "ʤ", "t^s": "ʦ", "d^z": "ʣ",
    "e^ɪ": "A", "a^ɪ": "I", "a^ʊ": "W", "o^ʊ": "O", "ɔ^ɪ": "Y",
}  # fmt: skip
MARKS = "ˈˌ"  # stress: belongs to the phone after it
MODIFIERS = "\u0303ːʰʲ"  # nasal, length: belong to the phone before it
PAUSES = ",.;:!?…—"
_PIECE = re.compile(r"[^,.;:!?…—–\s\"“”«»()\[\]]+|[,.;:!?…—–\[\]()]|\s+|[\"“”«»]")


@dataclass(frozen=True)
class SpokenWord:
    """One text word, its Kokoro symbols (a space inside is possible) and the pause after it."""

    text: str
    symbols: str
    pause: str = ""


def phonemize(text: str, variety: str = "br") -> tuple[SpokenWord, ...]:
    """Phonemes of every word of a sentence, in Kokoro's symbols.

    Parameters
    ----------
    text : str
        One sentence. Hyphenated words (*fazê-lo*) are one word.
    variety : str
        ``"br"`` or ``"pt"``, Brazilian or European Portuguese, or another of `ESPEAK_VOICES`.
    """
    spoken: list[SpokenWord] = []
    for words, pause in clauses(text):
        symbols = _clause_symbols(tuple(words), ESPEAK_VOICES[variety])
        pauses = [""] * (len(words) - 1) + [pause]
        spoken += [SpokenWord(*row) for row in zip(words, symbols, pauses, strict=True)]
    return tuple(spoken)


def clauses(text: str) -> list[tuple[list[str], str]]:
    """Cut a text at its punctuation: ``[(words, pause symbol), ...]``."""
    found: list[tuple[list[str], str]] = []
    words: list[str] = []
    for piece in _PIECE.findall(unicodedata.normalize("NFC", text)):
        if any(char.isalnum() for char in piece):
            words.append(piece)
        elif words and (pause := _pause_symbol(piece)):
            found.append((words, pause))
            words = []
    return found + ([(words, "")] if words else [])


def _pause_symbol(piece: str) -> str:
    if piece in PAUSES:
        return piece
    return "," if piece in "–()[]" else ""


def _clause_symbols(words: tuple[str, ...], voice: str) -> list[str]:
    joined = _espeak(" ".join(words), voice)
    parts = joined.split()
    alone = [_espeak(word, voice) for word in words]
    if len(parts) == len(words) and all(map(_alike, parts, alone)):
        return parts
    return _cut_like(joined, alone)


def _alike(together: str, alone: str) -> bool:
    """Is this the same word in a sentence and alone, give or take sandhi and weak vowels?"""
    a, b = ("".join(c for c in s if c not in MARKS + MODIFIERS + " ") for s in (together, alone))
    return min(len(a), len(b)) <= 3 or (
        abs(len(a) - len(b)) <= 2 and (a[0] == b[0] or a[1] == b[1])
    )


def _cut_like(joined: str, alone: list[str]) -> list[str]:
    """Cut ``joined`` into one string a word, at the best match with the words spoken alone.

    Examples
    --------
    >>> _cut_like("kyˈɛ kˈazæ", ["ky", "ˈɛ", "kˈazæ"])
    ['ky', 'ˈɛ', 'kˈazæ']
    """
    target = " ".join(symbols.replace(" ", "") for symbols in alone)
    cost = _edit_table(joined, target)
    owner, i, j = [0] * len(joined), len(joined), len(target)
    while i:
        owner[i - 1] = target.count(" ", 0, j)
        if j and cost[i, j] == cost[i - 1, j - 1] + _change(joined[i - 1], target[j - 1]):
            i, j = i - 1, j - 1
        elif j and cost[i, j] == cost[i, j - 1] + 1:
            j -= 1
        else:
            i -= 1
    return _gather(joined, owner, alone)


def _change(a: str, b: str) -> float:
    """Cost of reading ``a`` for ``b``: a space is never a letter."""
    return 0.0 if a == b else 9.0 if " " in (a, b) else 1.5


def _edit_table(source: str, target: str) -> np.ndarray:
    cost = np.add.outer(np.arange(len(source) + 1.0), np.arange(len(target) + 1.0))
    for i, a in enumerate(source, 1):
        for j, b in enumerate(target, 1):
            change = cost[i - 1, j - 1] + _change(a, b)
            cost[i, j] = min(change, cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    return cost


def _gather(joined: str, owner: list[int], alone: list[str]) -> list[str]:
    pairs = [(c, o) for c, o in zip(joined, owner, strict=True) if c != " "]
    letters, owner = [c for c, _ in pairs], [o for _, o in pairs]
    for i in range(len(letters) - 2, -1, -1):  # a stress mark goes with the phone after it
        if letters[i] in MARKS:
            owner[i] = owner[i + 1]
    for i in range(1, len(letters)):  # a modifier goes with the phone before it
        if letters[i] in MODIFIERS:
            owner[i] = owner[i - 1]
    cut = ["" for _ in alone]
    for letter, word in zip(letters, owner, strict=True):
        cut[word] += letter
    # A word that lost all its symbols (espeak merged two vowels) is spoken as it is alone.
    return [found or own for found, own in zip(cut, alone, strict=True)]


@lru_cache(maxsize=50_000)
def _espeak(text: str, voice: str) -> str:
    command = ["espeak-ng", "-q", "--ipa", "--tie=^", "-v", voice, "--", text]
    ipa = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return to_kokoro(ipa)


def to_kokoro(ipa: str) -> str:
    """Turn espeak-ng's IPA (ties written ``^``) into Kokoro's symbols.

    Examples
    --------
    >>> to_kokoro("d^ʒj u e^ɪŋ mˈɐ̃^ʊ̃")
    'ʤj u Aŋ mˈɐ̃ʊ̃'
    """
    ipa = re.sub(r"\(\^?[a-z][^)]*\)", "", ipa)  # (en)...(pt): espeak's language switches
    for tie, symbol in TIES.items():
        ipa = ipa.replace(tie, symbol)
    ipa = unicodedata.normalize("NFC", ipa).translate(_PRECOMPOSED).replace("^", "")
    ipa = "".join(c for c in ipa if c == "\u0303" or not unicodedata.combining(c))  # not Kokoro's
    ipa = ipa.translate({ord("ä"): "a", ord("ʑ"): "ʒ"})  # Japanese
    return " ".join(ipa.replace("_", " ").replace("-", "").split())


# Kokoro has ã, ũ ... as letter and tilde, but ç as one letter: take only the tilde apart.
_PRECOMPOSED = {
    ord(unicodedata.normalize("NFC", c + "\u0303")): c + "\u0303"
    for c in "aeiouyvn"
    if len(unicodedata.normalize("NFC", c + "\u0303")) == 1
}
