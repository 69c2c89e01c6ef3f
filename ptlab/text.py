"""Portuguese text for references and for scoring, in the letters that the model can write.

>>> import ptlab
>>> ptlab.normalize_text("Às 14h30, a avó comprou 2 copos d’água!")
"às catorze horas e trinta minutos a avó comprou dois copos d'água"
>>> ptlab.audit_text(["Olá!"]).unknown  # what would be lost if it were not normalised
(('O', 1), ('!', 1))

The policy, in the order in which it is applied:

* NFC, so that *ã* is one letter; compatibility signs (ligatures, full-width letters) made plain.
* The vocabulary's case: lower, as in the real checkpoint, unless it has capitals only.
* Numbers are spelled out (`spell_numbers`); the checkpoint's own evaluation dropped them.
* An apostrophe or a hyphen stays where it joins letters: *d'água*, *fazê-lo*, *guarda-chuva*.
  Elsewhere (dashes, quotation marks) it becomes a space.
* Whatever the vocabulary lacks becomes a space. Accents are never removed: *avó* is not *avô*.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ptlab._speech.numerals import spell_numbers
from ptlab.errors import TextError

__all__ = [
    "VOCABULARY",
    "TextAudit",
    "audit_text",
    "encode",
    "normalize_text",
    "spell_numbers",
    "writable_text",
]

VOCABULARY: tuple[str, ...] = (
    "<pad>", "<s>", "</s>", "<unk>", "|", "'", "-", *"abcdefghijklmnopqrstuvwxyz",
    *"àáâãçéêíóôõúü",
)  # fmt: skip
"""The 46 tokens of jonatasgrosman/wav2vec2-large-xlsr-53-portuguese, by id."""

_APOSTROPHES = dict.fromkeys(map(ord, "’‘‛ʼ`´′＇"), "'")
_HYPHENS = dict.fromkeys(map(ord, "‐‑‒﹣－"), "-")
_GONE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"), None)


def normalize_text(
    text: str,
    vocabulary: Sequence[str] = VOCABULARY,
    *,
    spell: bool = True,
    variety: str = "br",
) -> str:
    """Write a text in the vocabulary's letters; the policy is at the top of this module.

    Parameters
    ----------
    text : str
    vocabulary : sequence of str
        Tokens of the model; the default is that of the real checkpoint and of mini.
    spell : bool
        Spell numbers out; if not, digits become spaces, as in the real checkpoint's evaluation.
    variety : {"br", "pt"}
        *dezesseis* or *dezasseis*.

    Examples
    --------
    >>> normalize_text("Às 14h30, a avó comprou 2 copos d’água!")
    "às catorze horas e trinta minutos a avó comprou dois copos d'água"
    >>> normalize_text("Guarda-chuva? Fazê-lo…")
    'guarda-chuva fazê-lo'
    """
    text = _plain(text)
    if spell:
        text = spell_numbers(text, variety)
    letters = _letters(vocabulary)
    text = text.upper() if _is_upper(letters) else text.lower()
    text = "".join(c if c in letters else " " for c in unicodedata.normalize("NFC", text))
    text = re.sub(r"(?<![^\W\d_])['-]+|['-]+(?![^\W\d_])|(?<=['-])['-]+", " ", text)
    return " ".join(text.split())


def _letters(vocabulary: Sequence[str]) -> set[str]:
    return {token for token in vocabulary if len(token) == 1} - {"|", " "}


def _is_upper(letters: set[str]) -> bool:
    return any(c.isupper() for c in letters) and not any(c.islower() for c in letters)


def writable_text(text: str, vocabulary: Sequence[str] = VOCABULARY) -> str:
    """`normalize_text` for where nothing that is spoken may get lost, as in forced alignment.

    Raises
    ------
    TextError
        If the vocabulary lacks a letter of the text, or nothing is left of the text.

    Examples
    --------
    >>> writable_text("Às 2h, chá!")
    'às duas horas chá'
    >>> writable_text("El Niño")
    Traceback (most recent call last):
    ptlab.errors.TextError: The vocabulary cannot write 'ñ'; spell it as it sounds.
    """
    normal = normalize_text(text, vocabulary)
    letters = _letters(vocabulary)
    spoken = unicodedata.normalize("NFKC", text.upper() if _is_upper(letters) else text.lower())
    lost = sorted({c for c in spoken if _is_letter(c)} - letters)
    if lost:
        listed = ", ".join(map(repr, lost))
        raise TextError(f"The vocabulary cannot write {listed}; spell it as it sounds.")
    if not normal:
        raise TextError(f"The text {text!r} has no letters; give what was said.")
    return normal


def _is_letter(character: str) -> bool:
    """Modifier letters are left out: some serve as apostrophes."""
    return unicodedata.category(character) in ("Ll", "Lu", "Lt", "Lo")


def _plain(text: str) -> str:
    """NFC with plain apostrophes and hyphens, ligatures undone, invisible signs dropped.

    Superscripts keep their meaning: NFKC would turn *1º* into *1o*, and *½* into *1⁄2*.
    """
    if not isinstance(text, str):
        raise TextError(f"A text of type {type(text).__name__}; expected str.")
    text = unicodedata.normalize("NFC", text)
    text = text.translate(_APOSTROPHES | _HYPHENS | _GONE)
    return "".join(
        c if c in "ºª" else unicodedata.normalize("NFKC", c) if _is_form(c) else c for c in text
    )


def _is_form(character: str) -> bool:
    """Ligatures, full-width forms and odd spaces."""
    return unicodedata.decomposition(character).startswith(("<compat>", "<wide>", "<noBreak>"))


@dataclass(frozen=True)
class TextAudit:
    """Which characters of a set of texts the vocabulary cannot write.

    Attributes
    ----------
    unknown : tuple of (str, int)
        Characters and how often they occur, most frequent first.
    texts, affected : int
        How many texts were looked at, and how many hold an unknown character.
    examples : tuple of str
        A few of those.

    Examples
    --------
    >>> audit_text(["Não", "sim"])
    TextAudit(unknown=(('N', 1),), texts=2, affected=1, examples=('Não',))
    """

    unknown: tuple[tuple[str, int], ...]
    texts: int
    affected: int
    examples: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the vocabulary can write every text."""
        return not self.unknown

    def __str__(self) -> str:
        if self.ok:
            return f"{self.texts} texts: the vocabulary can write every one."
        listed = ", ".join(f"{c!r} x{n} ({_unicode_name(c)})" for c, n in self.unknown[:10])
        return f"{self.affected} of {self.texts} texts would lose letters to <unk>: {listed}"


def audit_text(texts: Iterable[str], vocabulary: Sequence[str] = VOCABULARY) -> TextAudit:
    """List what would become ``<unk>``: capitals, digits, decomposed accents, punctuation.

    Examples
    --------
    >>> print(audit_text(["Olá", "não"]))
    1 of 2 texts would lose letters to <unk>: 'O' x1 (LATIN CAPITAL LETTER O)
    >>> audit_text([normalize_text("Olá, são 2!")]).ok
    True
    """
    if isinstance(texts, str):
        raise TextError("One string given where several are expected; pass [text].")
    texts, known = list(texts), {*vocabulary, " "}
    counts = Counter(c for text in texts for c in text if c not in known)
    affected = [text for text in texts if any(c not in known for c in text)]
    return TextAudit(tuple(counts.most_common()), len(texts), len(affected), tuple(affected[:5]))


def _unicode_name(character: str) -> str:
    return unicodedata.name(character, f"U+{ord(character):04X}")


def encode(text: str, vocabulary: Sequence[str] = VOCABULARY) -> np.ndarray:
    """Token ids of a normalised text: a space is ``|``, what is not known ``<unk>``.

    Returns
    -------
    ndarray of int64 (characters,)

    Examples
    --------
    >>> encode("é o").tolist()
    [38, 4, 21]
    """
    ids = {token: i for i, token in enumerate(vocabulary)}
    unknown = ids.get("<unk>", ids.get("[UNK]"))
    space = "|" if "|" in ids else " "
    tokens = [ids.get(space if c == " " else c, unknown) for c in text]
    if None in tokens:
        raise TextError("A character is not in the vocabulary, which has no <unk> to stand for it.")
    return np.array(tokens, dtype=np.int64)
