"""WER and CER with intervals, comparisons, errors one by one, and how honest a confidence is.

Edge cases: over a corpus, an empty reference adds its inserted words to the errors and nothing to
the words; if all references are empty the rate is 0 where nothing was inserted, else infinite.
Score normalised text (`ptlab.text.normalize_text`) on both sides, by the same rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ptlab.errors import PtlabError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Edit",
    "ErrorRates",
    "Interval",
    "PairedComparison",
    "align_words",
    "auroc",
    "bootstrap",
    "cer",
    "confusions",
    "ece",
    "error_rates",
    "paired_comparison",
    "reliability",
    "show_errors",
    "wer",
    "word_correctness",
]


@dataclass(frozen=True)
class ErrorRates:
    """Errors of a set of hypotheses, counted by jiwer.

    Attributes
    ----------
    wer, cer : float
        Word and character error rate over the whole corpus (1.0 is 100 %).
    utterances, words, characters : int
        Size of the references.
    substitutions, deletions, insertions : int
        Of words.
    """

    wer: float
    cer: float
    utterances: int
    words: int
    characters: int
    substitutions: int
    deletions: int
    insertions: int

    def __str__(self) -> str:
        return (
            f"WER {self.wer:.1%} ({self.substitutions} substituted, {self.deletions} deleted, "
            f"{self.insertions} inserted of {self.words} words), CER {self.cer:.1%}, "
            f"{self.utterances} utterances"
        )


@dataclass(frozen=True)
class Interval:
    """A value and its bootstrap interval."""

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"


@dataclass(frozen=True)
class PairedComparison:
    """Difference of two systems' error rates on the same utterances (second minus first).

    Attributes
    ----------
    difference, low, high : float
        And its bootstrap interval; below zero the second system is better.
    p_value : float
        Two-sided, from the share of resamples on the other side of zero.
    """

    difference: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        return f"{self.difference:+.1%} [{self.low:+.1%}, {self.high:+.1%}], p = {self.p_value:.3f}"


@dataclass(frozen=True)
class Edit:
    """One step of an alignment: ``op`` is ``=`` right, ``S``, ``D`` or ``I``; "" for no word."""

    op: str
    reference: str
    hypothesis: str


def wer(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """Word error rate over one text or a corpus.

    Examples
    --------
    >>> wer("o gato dorme", "o rato dorme")  # one of three words
    0.3333333333333333
    """
    return error_rates(references, hypotheses).wer


def cer(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """Character error rate (spaces count) over one text or a corpus.

    Examples
    --------
    >>> cer("avó", "avô")
    0.3333333333333333
    """
    return error_rates(references, hypotheses).cer


def error_rates(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> ErrorRates:
    """Count the errors of a corpus: errors of all utterances over words of all references.

    Raises
    ------
    PtlabError
        If the two differ in number, or there are none.

    Examples
    --------
    >>> print(error_rates(["bom dia", "até logo"], ["bom dia", "até"]))
    WER 25.0% (0 substituted, 1 deleted, 0 inserted of 4 words), CER 33.3%, 2 utterances
    """
    references, hypotheses = _lists(references, hypotheses)
    words, characters = _counts(references, hypotheses, "word"), _counts(
        references, hypotheses, "char"
    )
    substituted, deleted, inserted, length = (int(n) for n in words.sum(axis=0))
    return ErrorRates(
        _rate(words), _rate(characters), len(references), length, int(characters[:, 3].sum()),
        substituted, deleted, inserted,
    )  # fmt: skip


def bootstrap(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    metric: str = "wer",
    groups: Sequence[object] | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Error rate with a percentile bootstrap interval.

    Utterances are drawn with replacement; with ``groups`` (the speakers) whole groups are, since
    the errors of one voice go together and an interval over utterances is then too narrow.

    Parameters
    ----------
    metric : {"wer", "cer"}
    groups : sequence, one an utterance
        Bisani and Ney (2004) for the bootstrap of error rates.

    Examples
    --------
    >>> interval = bootstrap(["um dois"] * 20, ["um dois"] * 10 + ["um"] * 10)
    >>> interval.value, 0.1 < interval.low < 0.25 < interval.high < 0.4
    (0.25, True)
    """
    counts = _counts(*_lists(references, hypotheses), _level(metric))
    rates = _resampled_rates([counts], groups, n_resamples, seed)[0]
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(_rate(counts), float(low), float(high), level)


def paired_comparison(
    references: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    metric: str = "wer",
    groups: Sequence[object] | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedComparison:
    """Compare two systems on the same utterances: every resample draws the same for both.

    Examples
    --------
    >>> references = ["um dois três"] * 30
    >>> worse = ["um dois"] * 30
    >>> paired_comparison(references, references, worse).difference
    0.3333333333333333
    """
    both = [_counts(*_lists(references, h), _level(metric)) for h in (first, second)]
    a, b = _resampled_rates(both, groups, n_resamples, seed)
    change = b - a
    low, high = np.quantile(change, [(1 - level) / 2, (1 + level) / 2])
    tail = min((change <= 0).mean(), (change >= 0).mean())
    p_value = min(1.0, 2 * max(float(tail), 1 / n_resamples))
    return PairedComparison(_rate(both[1]) - _rate(both[0]), float(low), float(high), p_value)


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
    pairs = zip(*_lists(references, hypotheses), strict=True)
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


def auroc(scores: Sequence[float], correct: Sequence[bool]) -> float:
    """Area under the ROC curve: the chance that a right word scores above a wrong one.

    Ties count half. Undefined (NaN) if all words are right, or all wrong.

    Examples
    --------
    >>> auroc([0.9, 0.8, 0.3], [True, False, False])
    1.0
    """
    from scipy.stats import rankdata

    scores, correct = _marks(scores, correct)
    right = int(correct.sum())
    wrong = len(correct) - right
    if not right or not wrong:
        return float("nan")
    ranks = rankdata(scores)[correct].sum()
    return float((ranks - right * (right + 1) / 2) / (right * wrong))


def ece(scores: Sequence[float], correct: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error over bins of equal mass (Nixon et al., arXiv 1904.01685).

    Examples
    --------
    >>> round(ece([0.75] * 4, [True, True, True, False]), 3)
    0.0
    """
    frame = reliability(scores, correct, bins)
    gaps = (frame["confidence"] - frame["accuracy"]).abs()
    return float((gaps * frame["count"]).sum() / frame["count"].sum())


def reliability(scores: Sequence[float], correct: Sequence[bool], bins: int = 10) -> pd.DataFrame:
    """Mean confidence and share of right words in bins of equal size; equal scores stay together.

    Returns
    -------
    DataFrame
        A row a bin: ``confidence, accuracy, count``.
    """
    import pandas as pd

    scores, correct = _marks(scores, correct)
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1]))
    frame = pd.DataFrame({"confidence": scores, "accuracy": correct.astype(float)})
    grouped = frame.groupby(np.searchsorted(edges, scores, side="right"))
    table = grouped.mean()
    table["count"] = grouped.size()
    return table.reset_index(drop=True)


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


def _lists(
    references: str | Sequence[str], hypotheses: str | Sequence[str]
) -> tuple[list[str], list[str]]:
    if isinstance(references, str) and isinstance(hypotheses, str):
        return [references], [hypotheses]
    references, hypotheses = list(references), list(hypotheses)
    if len(references) != len(hypotheses) or not references:
        raise PtlabError(
            f"{len(references)} references and {len(hypotheses)} hypotheses; give as many of "
            "one as of the other, and at least one."
        )
    return references, hypotheses


def _level(metric: str) -> str:
    if metric not in ("wer", "cer"):
        raise PtlabError(f"Metric {metric!r}; choose 'wer' or 'cer'.")
    return {"wer": "word", "cer": "char"}[metric]


def _counts(references: list[str], hypotheses: list[str], level: str) -> np.ndarray:
    """(utterances, 4): substitutions, deletions, insertions and length of the reference."""
    return np.array([_count(r, h, level) for r, h in zip(references, hypotheses, strict=True)])


def _count(reference: str, hypothesis: str, level: str) -> tuple[int, int, int, int]:
    import jiwer

    reference, hypothesis = (" ".join(t.split()) for t in (reference, hypothesis))
    if not reference:  # jiwer refuses it
        return 0, 0, len(hypothesis.split() if level == "word" else hypothesis), 0
    process = jiwer.process_words if level == "word" else jiwer.process_characters
    out = process(reference, hypothesis)
    length = out.hits + out.substitutions + out.deletions
    return out.substitutions, out.deletions, out.insertions, length


def _rate(counts: np.ndarray) -> float:
    errors, length = counts[:, :3].sum(), counts[:, 3].sum()
    if length:
        return float(errors / length)
    return 0.0 if errors == 0 else float("inf")


def _resampled_rates(
    systems: list[np.ndarray], groups: Sequence[object] | None, n_resamples: int, seed: int
) -> list[np.ndarray]:
    """Error rate of every resample for each system, the same draws for all."""
    size = len(systems[0])
    labels = np.arange(size) if groups is None else np.unique(list(groups), return_inverse=True)[1]
    if len(labels) != size:
        raise PtlabError(f"{len(labels)} groups for {size} utterances; give one an utterance.")
    clusters = labels.max() + 1
    draws = np.random.default_rng(seed).multinomial(
        clusters, np.full(clusters, 1 / clusters), n_resamples
    )
    results = []
    for counts in systems:
        errors = np.bincount(labels, counts[:, :3].sum(axis=1), clusters)
        lengths = np.bincount(labels, counts[:, 3], clusters)
        results.append(draws @ errors / np.maximum(draws @ lengths, 1))
    return results


def _marks(scores: Sequence[float], correct: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    scores, correct = np.asarray(scores, float), np.asarray(correct, bool)
    if len(scores) != len(correct) or not len(scores):
        raise PtlabError(f"{len(scores)} scores and {len(correct)} marks; give as many, not none.")
    return scores, correct
