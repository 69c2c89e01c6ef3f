"""WER and CER with intervals, comparisons, errors one by one, and how honest a confidence is.

>>> import ptlab
>>> said, heard = "a avó riu muito", "avó rio muito"
>>> print(ptlab.error_rates(said, heard))
WER 50.0% (1 substituted, 1 deleted, 0 inserted of 4 words), CER 20.0%, 1 utterances
>>> print(ptlab.show_errors(said, heard))
REF: a avó riu muito
HYP: * avó rio muito
     D     S
>>> interval = ptlab.bootstrap([said] * 20, [said] * 10 + [heard] * 10)  # how sure is that?
>>> interval.low < interval.value == 0.25 < interval.high
True

Edge cases: over a corpus, an empty reference adds its inserted words to the errors and nothing to
the words; if all references are empty the rate is 0 where nothing was inserted, else infinite.
Score normalised text (`ptlab.text.normalize_text`) on both sides, by the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptlab._metrics.calibration import auroc, ece, reliability
from ptlab._metrics.edits import (
    Edit,
    align_words,
    confusions,
    paired_texts,
    show_errors,
    word_correctness,
)
from ptlab._metrics.resampling import group_draws, middle, two_sided_p
from ptlab.errors import PtlabError

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

    Examples
    --------
    >>> rates = error_rates(["bom dia", "até logo"], ["bom dia", "até o lobo"])
    >>> rates.substitutions, rates.deletions, rates.insertions, rates.words
    (1, 0, 1, 4)
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
    """A value and its bootstrap interval.

    Examples
    --------
    >>> print(Interval(value=0.213, low=0.18, high=0.25))
    21.3% [18.0%, 25.0%]
    """

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

    Examples
    --------
    >>> print(PairedComparison(difference=-0.02, low=-0.035, high=-0.004, p_value=0.012))
    -2.0% [-3.5%, -0.4%], p = 0.012
    """

    difference: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        return f"{self.difference:+.1%} [{self.low:+.1%}, {self.high:+.1%}], p = {self.p_value:.3f}"


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
    references, hypotheses = paired_texts(references, hypotheses)
    words, characters = (_counts(references, hypotheses, x) for x in ("word", "char"))
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
    the errors of one voice go together and an interval over utterances is then too narrow. That
    of a few groups (under about 20) is still somewhat too narrow.

    Parameters
    ----------
    metric : {"wer", "cer"}
    groups : sequence, one an utterance
    level : float
        Share of such intervals that hold the true rate.

    References
    ----------
    Bisani and Ney (2004), "Bootstrap Estimates for Confidence Intervals in ASR Performance
    Evaluation", ICASSP.

    Examples
    --------
    >>> interval = bootstrap(["um dois"] * 20, ["um dois"] * 10 + ["um"] * 10)
    >>> interval.value, 0.1 < interval.low < 0.25 < interval.high < 0.4
    (0.25, True)
    """
    counts = _counts(*paired_texts(references, hypotheses), _level(metric))
    rates = _resampled_rates([counts], groups, n_resamples, seed)[0]
    return Interval(_rate(counts), *middle(rates, level), level)


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
    both = [_counts(*paired_texts(references, h), _level(metric)) for h in (first, second)]
    a, b = _resampled_rates(both, groups, n_resamples, seed)
    difference = _rate(both[1]) - _rate(both[0])
    return PairedComparison(difference, *middle(b - a, level), two_sided_p(b - a))


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
    return float(_ratio(counts[:, :3].sum(), counts[:, 3].sum()))


def _ratio(errors: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Errors over lengths; without any length 0 if there are no errors, else infinite."""
    empty = np.where(errors > 0, np.inf, 0.0)
    return np.where(lengths > 0, errors / np.maximum(lengths, 1), empty)


def _resampled_rates(
    systems: list[np.ndarray], groups: Sequence[object] | None, n_resamples: int, seed: int
) -> list[np.ndarray]:
    """Error rate of every resample for each system, the same draws for all."""
    size = len(systems[0])
    labels = np.arange(size) if groups is None else np.unique(list(groups), return_inverse=True)[1]
    if len(labels) != size:
        raise PtlabError(f"{len(labels)} groups for {size} utterances; give one an utterance.")
    clusters = labels.max() + 1
    draws = group_draws(clusters, n_resamples, seed)
    results = []
    for counts in systems:
        errors = np.bincount(labels, counts[:, :3].sum(axis=1), clusters)
        lengths = np.bincount(labels, counts[:, 3], clusters)
        results.append(_ratio(draws @ errors, draws @ lengths))
    return results
