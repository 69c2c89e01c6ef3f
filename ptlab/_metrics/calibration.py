"""How honest a confidence is: does it tell right from wrong words, and is it as often right as
it says? `ptlab.metrics` has the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ptlab.errors import PtlabError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["auroc", "ece", "reliability"]


def auroc(scores: Sequence[float], correct: Sequence[bool]) -> float:
    """Area under the ROC curve: the chance that a right word scores above a wrong one.

    Ties count half. Undefined (NaN) if all words are right, or all wrong.

    Examples
    --------
    >>> auroc([0.9, 0.8, 0.3], [True, False, False])
    1.0
    """
    from sklearn.metrics import roc_auc_score

    scores, correct = _marks(scores, correct)
    if correct.all() or not correct.any():
        return float("nan")
    return float(roc_auc_score(correct, scores))


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

    Examples
    --------
    >>> table = reliability([0.2, 0.4, 0.8, 1.0], [False, True, True, True], bins=2)
    >>> table.round(2).values.tolist()
    [[0.3, 0.5, 2.0], [0.9, 1.0, 2.0]]
    """
    import pandas as pd

    scores, correct = _marks(scores, correct)
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, bins + 1)[1:-1]))
    frame = pd.DataFrame({"confidence": scores, "accuracy": correct.astype(float)})
    grouped = frame.groupby(np.searchsorted(edges, scores, side="right"))
    table = grouped.mean()
    table["count"] = grouped.size()
    return table.reset_index(drop=True)


def _marks(scores: Sequence[float], correct: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    scores, correct = np.asarray(scores, float), np.asarray(correct, bool)
    if len(scores) != len(correct) or not len(scores):
        raise PtlabError(f"{len(scores)} scores and {len(correct)} marks; give as many, not none.")
    return scores, correct
