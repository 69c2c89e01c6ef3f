"""Errors one by one: which word or letter was taken for which.

`ptlab.metrics` has the same names beside the rates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ptlab.errors import PtlabError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Edit", "align_words", "common_beginning", "confusions", "paired_texts", "show_errors",
           "word_correctness"]  # fmt: skip


@dataclass(frozen=True)
class Edit:
    """One step of an alignment: ``op`` is ``=`` right, ``S``, ``D`` or ``I``; "" for no word.

    Examples
    --------
    >>> align_words("avó", "avô")[0]
    Edit(op='S', reference='avó', hypothesis='avô')
    """

    op: str
    reference: str
    hypothesis: str


def align_words(reference: str, hypothesis: str) -> tuple[Edit, ...]:
    """Align two texts word by word.

    Examples
    --------
    >>> [(e.op, e.reference, e.hypothesis) for e in align_words("a casa azul", "casa azuis")]
    [('D', 'a', ''), ('=', 'casa', 'casa'), ('S', 'azul', 'azuis')]
    """
    return _align(reference.split(), hypothesis.split())


def show_errors(reference: str, hypothesis: str) -> str:
    """Three lines: reference, hypothesis, and the kind of each error below its word.

    Examples
    --------
    >>> print(show_errors("a avó riu muito", "avó rio muito"))
    REF: a avó riu muito
    HYP: * avó rio muito
         D     S
    """
    rows: list[list[str]] = [[], [], []]
    for edit in align_words(reference, hypothesis):
        width = max(len(edit.reference), len(edit.hypothesis))
        for row, word in zip(rows, (edit.reference, edit.hypothesis), strict=False):
            row.append((word or "*" * width).ljust(width))
        rows[2].append((edit.op if edit.op != "=" else "").ljust(width))
    heads = ("REF:", "HYP:", "    ")
    return "\n".join(" ".join([h, *row]).rstrip() for h, row in zip(heads, rows, strict=True))


def confusions(
    references: Sequence[str], hypotheses: Sequence[str], *, level: str = "char", top: int = 20
) -> pd.DataFrame:
    """What was most often taken for what; an empty cell is a deletion or an insertion.

    Parameters
    ----------
    level : {"char", "word"}

    Examples
    --------
    >>> confusions(["avó", "vovó"], ["avô", "vovô"]).values.tolist()
    [['ó', 'ô', 2]]
    """
    import pandas as pd

    split = list if level == "char" else str.split
    pairs = zip(*paired_texts(references, hypotheses), strict=True)
    edits = (e for r, h in pairs for e in _align(split(r), split(h)) if e.op != "=")
    found = Counter((e.reference, e.hypothesis) for e in edits)
    rows = [(r, h, n) for (r, h), n in found.most_common(top)]
    return pd.DataFrame(rows, columns=["reference", "hypothesis", "count"])


def word_correctness(reference: str, hypothesis: str) -> list[bool]:
    """For every word of the hypothesis, whether it is right.

    Examples
    --------
    >>> word_correctness("a casa azul", "casa azuis")
    [True, False]
    """
    return [e.op == "=" for e in align_words(reference, hypothesis) if e.op != "D"]


def _align(reference: list[str], hypothesis: list[str]) -> tuple[Edit, ...]:
    """Levenshtein alignment by rapidfuzz, which jiwer counts with too."""
    from rapidfuzz.distance import Levenshtein

    kinds = {"equal": "=", "replace": "S", "delete": "D", "insert": "I"}
    edits = []
    for op in Levenshtein.opcodes(reference, hypothesis):
        left = reference[op.src_start : op.src_end]
        right = hypothesis[op.dest_start : op.dest_end]
        for i in range(max(len(left), len(right))):
            pair = (left[i] if i < len(left) else "", right[i] if i < len(right) else "")
            edits.append(Edit(kinds[op.tag], *pair))
    return tuple(edits)


def paired_texts(
    references: str | Sequence[str], hypotheses: str | Sequence[str]
) -> tuple[list[str], list[str]]:
    """Two lists of as many texts, from two lists or two single texts.

    Examples
    --------
    >>> paired_texts("oi", "ou")
    (['oi'], ['ou'])
    """
    if isinstance(references, str) != isinstance(hypotheses, str):
        raise PtlabError("One text and a list of texts; give two texts or two lists.")
    if isinstance(references, str) and isinstance(hypotheses, str):
        return [references], [hypotheses]
    references, hypotheses = list(references), list(hypotheses)
    if len(references) != len(hypotheses) or not references:
        raise PtlabError(
            f"{len(references)} references and {len(hypotheses)} hypotheses; give as many of "
            "one as of the other, and at least one."
        )
    return references, hypotheses


def common_beginning(readings: Sequence[Sequence[object]]) -> int:
    """How many words all readings begin with.

    Examples
    --------
    >>> common_beginning([["a", "casa", "é"], ["a", "casa"], ["a", "caça", "é"]])
    1
    """
    count = 0
    for words in zip(*readings, strict=False):
        if any(word != words[0] for word in words):
            break
        count += 1
    return count
