"""Scores of a classifier, with intervals that know that the clips of a group go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptlab._metrics.resampling import group_draws, middle, two_sided_p
from ptlab.metrics import Interval, PairedComparison

__all__ = ["METRICS", "Scores", "compare_guesses", "score_guesses"]

METRICS = ("macro_f1", "balanced_accuracy", "accuracy")


@dataclass(frozen=True, eq=False)
class Scores:
    """How good guesses are.

    Attributes
    ----------
    macro_f1, balanced_accuracy, accuracy : Interval
        The mean F1 and the mean recall of the classes, which a frequent class cannot carry, and the
        share of right guesses, which it can. The interval of a faultless score has no width, though
        more clips would show faults: of n groups without a fault the true rate of faults is at most
        about 3 / n (the rule of three).
    confusion : ndarray (classes, classes)
        Clips by their true class (row) and by the guess (column).

    Examples
    --------
    >>> scores = score_guesses([0, 0, 0, 1] * 9, [0, 0, 0, 0] * 9, groups=range(36), classes=2)
    >>> round(scores.macro_f1.value, 3), scores.balanced_accuracy.value, scores.accuracy.value
    (0.429, 0.5, 0.75)
    """

    macro_f1: Interval
    balanced_accuracy: Interval
    accuracy: Interval
    confusion: np.ndarray

    def __str__(self) -> str:
        return (
            f"macro-F1 {self.macro_f1}, balanced accuracy {self.balanced_accuracy}, "
            f"accuracy {self.accuracy}"
        )


def score_guesses(
    y: Sequence[int] | np.ndarray,
    guesses: Sequence[int] | np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    classes: int,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Scores:
    """Score guesses; the intervals are from a bootstrap that draws whole groups.

    Parameters
    ----------
    y, guesses : sequence of int
        From 0 to ``classes - 1``.
    groups : sequence
        Of each clip: a voice, a text.

    References
    ----------
    Bisani and Ney (2004), for the draw of groups; F1 and recall as in scikit-learn, where a class
    that is neither there nor guessed does not count.

    Examples
    --------
    >>> score_guesses([0, 1, 0, 1], [0, 1, 1, 1], [1, 1, 2, 2], 2).confusion.tolist()
    [[1, 1], [0, 2]]
    """
    cells = _by_group(y, guesses, groups, classes)
    whole, draws = _measures(cells.sum(axis=0)), _measures(_resampled(cells, n_resamples, seed))
    intervals = {
        name: Interval(float(whole[name]), *middle(draws[name], level), level) for name in METRICS
    }
    return Scores(**intervals, confusion=cells.sum(axis=0).astype(int))


def compare_guesses(
    y: Sequence[int] | np.ndarray,
    first: Sequence[int] | np.ndarray,
    second: Sequence[int] | np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    classes: int,
    *,
    metric: str = "macro_f1",
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedComparison:
    """By how much the second guesses are better, every draw of groups the same for both.

    Examples
    --------
    >>> compare_guesses([0, 1] * 9, [0, 0] * 9, [0, 1] * 9, range(18), 2, metric="accuracy").difference
    0.5
    """  # noqa: E501
    both = [_by_group(y, guesses, groups, classes) for guesses in (first, second)]
    a, b = (_measures(_resampled(cells, n_resamples, seed))[metric] for cells in both)
    whole = [float(_measures(cells.sum(axis=0))[metric]) for cells in both]
    return PairedComparison(whole[1] - whole[0], *middle(b - a, level), two_sided_p(b - a))


def _by_group(
    y: Sequence[int] | np.ndarray,
    guesses: Sequence[int] | np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    classes: int,
) -> np.ndarray:
    """Confusion matrix of each group, (groups, classes, classes)."""
    number = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    cells = np.zeros((number.max() + 1, classes, classes))
    np.add.at(cells, (number, np.asarray(y), np.asarray(guesses)), 1)
    return cells


def _resampled(cells: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Confusion matrices of draws of groups, (n_resamples, classes, classes)."""
    return np.tensordot(group_draws(len(cells), n_resamples, seed).astype(float), cells, axes=1)


def _measures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, guessed = confusion.sum(axis=-1), confusion.sum(axis=-2)
    return {
        "macro_f1": _mean_of_shares(2 * right, true + guessed),
        "balanced_accuracy": _mean_of_shares(right, true),
        "accuracy": right.sum(axis=-1) / confusion.sum(axis=(-2, -1)),
    }


def _mean_of_shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Mean of part by whole over the classes that have a whole."""
    there = wholes > 0
    return (parts / np.where(there, wholes, 1)).sum(axis=-1) / there.sum(axis=-1)
