"""Are two clips by one voice? Trials, their cosines, the equal error rate and the DET curve.

>>> import ptlab
>>> clips = ptlab.load_corpus("test").filter(speaker=["pm_alex", "af_bella"]).frame
>>> clips = clips.groupby("speaker").head(8)
>>> vectors = ptlab.embed(clips.file.tolist(), "mini", layers=[2], pool="mean").matrix(2)
>>> trials = ptlab.make_trials(clips.speaker, clips.text)  # never two of the same text
>>> trials
Trials(56 of one voice, 64 of two)
>>> bool(ptlab.verify(vectors, clips.speaker, trials, n_resamples=50).eer.value < 0.5)
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptlab._metrics.resampling import group_draws, middle
from ptlab._probe.folds import numbered
from ptlab.errors import PtlabError
from ptlab.metrics import Interval
from ptlab.retrieval import unit_vectors

__all__ = ["Trials", "Verification", "equal_error_rate", "make_trials", "verify"]

FALSE_ALARMS = np.geomspace(0.002, 0.5, 50)  # where the DET curve and its band are given


@dataclass(frozen=True, eq=False)
class Trials:
    """Pairs of clips, each once.

    Attributes
    ----------
    first, second : ndarray of int (trials,)
        Positions of the two clips.
    same : ndarray of bool (trials,)
        Whether one voice speaks in both.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray

    def __len__(self) -> int:
        return len(self.same)

    def __repr__(self) -> str:
        return f"Trials({self.same.sum():,} of one voice, {(~self.same).sum():,} of two)"


@dataclass(frozen=True, eq=False, repr=False)
class Verification:
    """How well trials are told apart.

    Attributes
    ----------
    eer : Interval
        Equal error rate: the threshold is where as many voices are taken for another as are not
        recognised as themselves.
    threshold : float
        That cosine.
    trials : Trials
    scores : ndarray (trials,)
        Cosines.
    false_alarms, misses, low, high : ndarray (points,)
        The DET curve at fixed rates of false alarms: misses and the ends of their interval.
    voices : int
    """

    eer: Interval
    threshold: float
    trials: Trials
    scores: np.ndarray
    false_alarms: np.ndarray
    misses: np.ndarray
    low: np.ndarray
    high: np.ndarray
    voices: int

    def __repr__(self) -> str:
        return (
            f"Verification({self.trials!r}, {self.voices} voices): EER {self.eer} at cosine "
            f"{self.threshold:.2f}"
        )


def make_trials(
    voices: Sequence[Any],
    *apart: Sequence[Any],
    limit: int | None = None,
    seed: int = 0,
) -> Trials:
    """All pairs of clips that share no text, session or other value that could give a voice away.

    Parameters
    ----------
    voices : sequence
        Of each clip.
    *apart : sequences
        Texts, sessions, ...: pairs that share one of these values are left out.
    limit : int, optional
        Draw at most so many of each kind.
    seed : int

    Raises
    ------
    PtlabError
        If no pair of one voice, or none of two, is left.

    Examples
    --------
    >>> make_trials(["ana", "ana", "ana", "rui"], ["oi", "oi", "tchau", "tchau"])
    Trials(2 of one voice, 2 of two)
    """
    voice = numbered(voices, "voices", len(voices))[0]
    first, second = np.triu_indices(len(voice), k=1)
    for column in apart:
        value = numbered(column, "values", len(voice))[0]
        differ = value[first] != value[second]
        first, second = first[differ], second[differ]
    same = voice[first] == voice[second]
    if not same.any() or same.all():
        raise PtlabError(
            f"{same.sum()} pairs of one voice and {(~same).sum()} of two are left; both are "
            "needed. Each voice needs clips that share no text and no session."
        )
    if limit is not None:
        rng = np.random.default_rng(seed)
        kinds = [np.flatnonzero(same == kind) for kind in (True, False)]
        kept = np.sort(np.concatenate([rng.permutation(kind)[:limit] for kind in kinds]))
        first, second, same = first[kept], second[kept], same[kept]
    return Trials(first, second, same)


def verify(
    vectors: np.ndarray,
    voices: Sequence[Any],
    trials: Trials,
    *,
    centre: np.ndarray | None = None,
    n_resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Verification:
    """Score trials by the cosine of centred vectors of length one; nothing is trained.

    Parameters
    ----------
    vectors : ndarray (clips, numbers)
        Of one layer, pooled.
    voices : sequence
        Of each clip; the intervals draw whole voices, as trials of one voice go together.
    trials : Trials
        See `make_trials`.
    centre : ndarray, optional
        See `unit_vectors`.
    n_resamples, level, seed
        Of the bootstrap.

    References
    ----------
    Martin et al. (1997), "The DET curve in assessment of detection task performance". The bootstrap
    over voices: a trial of two voices counts the product of how often both were drawn.

    Examples
    --------
    >>> rng, voices = np.random.default_rng(0), np.arange(40) // 4
    >>> vectors = 2 * rng.normal(size=(10, 8))[voices] + rng.normal(size=(40, 8))
    >>> result = verify(vectors, voices, make_trials(voices))
    >>> result.trials, bool(result.eer.low < result.eer.value < 0.2)
    (Trials(60 of one voice, 720 of two), True)
    """
    unit = unit_vectors(vectors, centre)
    number, names = numbered(voices, "voices", len(unit))
    scores = np.einsum("td,td->t", unit[trials.first], unit[trials.second])
    a, b = number[trials.first], number[trials.second]
    curve = _Curve(scores, trials.same)
    eer, threshold = curve.equal_error_rate(np.ones(len(scores)))
    misses = curve.misses(np.ones(len(scores)))
    drawn_eer, drawn_misses = [], []
    for draw in group_draws(len(names), n_resamples, seed):
        weights = np.where(trials.same, draw[a], draw[a] * draw[b]).astype(float)
        if weights[trials.same].any() and weights[~trials.same].any():
            drawn_eer.append(curve.equal_error_rate(weights)[0])
            drawn_misses.append(curve.misses(weights))
    columns = zip(*drawn_misses, strict=True)
    low, high = np.array([middle(np.array(column), level) for column in columns]).T
    interval = Interval(eer, *middle(np.array(drawn_eer), level), level)
    return Verification(
        interval, threshold, trials, scores, FALSE_ALARMS, misses, low, high, len(names)
    )


def equal_error_rate(
    scores: Sequence[float] | np.ndarray, same: Sequence[bool] | np.ndarray
) -> float:
    """Where misses and false alarms are equally frequent, on the line between two thresholds.

    Examples
    --------
    >>> same = [True, True, True, False, False, False]
    >>> round(equal_error_rate([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], same), 3)
    0.333
    """
    scores = np.asarray(scores, float)
    return _Curve(scores, np.asarray(same, bool)).equal_error_rate(np.ones(len(scores)))[0]


class _Curve:
    """Error rates at every threshold, for any weights of the trials; sorted once."""

    def __init__(self, scores: np.ndarray, same: np.ndarray):
        self._order = np.argsort(scores, kind="stable")
        self._scores, self._same = scores[self._order], same[self._order]
        # The threshold is a score or above all: equal scores are taken or refused together.
        self._starts = np.flatnonzero(np.diff(self._scores, prepend=-np.inf))

    def rates(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """False alarms, falling from 1 to 0, and misses, rising from 0 to 1."""
        of_same = np.where(self._same, weights[self._order], 0.0)
        of_other = np.where(self._same, 0.0, weights[self._order])
        below = [np.concatenate([[0], np.cumsum(w)]) for w in (of_same, of_other)]
        at = np.append(self._starts, len(self._scores))
        return 1 - below[1][at] / below[1][-1], below[0][at] / below[0][-1]

    def equal_error_rate(self, weights: np.ndarray) -> tuple[float, float]:
        false_alarms, misses = self.rates(weights)
        after = int(np.argmax(misses >= false_alarms))  # the last point always is
        gap = false_alarms - misses
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        rate = misses[after - 1] + share * (misses[after] - misses[after - 1])
        at = min(after, len(self._starts) - 1)
        return float(rate), float(self._scores[self._starts[at]])

    def misses(self, weights: np.ndarray) -> np.ndarray:
        """Misses at `FALSE_ALARMS`: the fewest of a threshold that has no more false alarms."""
        false_alarms, misses = self.rates(weights)
        at = np.searchsorted(-false_alarms, -FALSE_ALARMS - 1e-12)
        return misses[np.minimum(at, len(misses) - 1)]
