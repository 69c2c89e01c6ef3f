"""The bootstrap: draws of whole groups, the middle of what they give, and the p-value of a change.

Reference: Bisani and Ney (2004), "Bootstrap estimates for confidence intervals in ASR performance
evaluation".
"""

from __future__ import annotations

import numpy as np

__all__ = ["group_draws", "middle", "two_sided_p"]


def group_draws(groups: int, n_resamples: int, seed: int) -> np.ndarray:
    """How often each group is in each resample, ``(n_resamples, groups)``.

    Examples
    --------
    >>> group_draws(3, 2, seed=0).sum(axis=1).tolist()
    [3, 3]
    """
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), n_resamples)


def middle(values: np.ndarray, level: float) -> tuple[float, float]:
    """Ends of the middle ``level`` of the values; always values that occur, infinite ones too.

    Examples
    --------
    >>> middle(np.arange(101), 0.9)
    (5.0, 95.0)
    """
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)


def two_sided_p(changes: np.ndarray) -> float:
    """How likely a change as far from zero is by chance, given it for every resample.

    Examples
    --------
    >>> two_sided_p(np.array([1.0, 2.0, 3.0, -1.0])), two_sided_p(np.ones(100))
    (0.5, 0.02)
    """
    tail = min((changes <= 0).mean(), (changes >= 0).mean())
    return min(1.0, 2 * max(float(tail), 1 / len(changes)))
