"""From the frames of a recording to one vector a layer, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import numpy as np

from ptlab.errors import PtlabError

__all__ = ["POOLS", "check_pool", "pool_frames", "pooled_size"]

PERCENTILES = (10, 50, 90)
POOLS = {"mean": 1, "mean_std": 2, "max": 1, "percentiles": len(PERCENTILES)}  # numbers a dimension


def check_pool(pool: str | None) -> None:
    """Refuse a pooling that there is not.

    Examples
    --------
    >>> check_pool("sum")
    Traceback (most recent call last):
    ptlab.errors.PtlabError: pool='sum'; choose 'mean', 'mean_std', 'max' or 'percentiles', or None for all frames.
    """  # noqa: E501
    if pool is not None and pool not in POOLS:
        *names, last = map(repr, POOLS)
        raise PtlabError(
            f"pool={pool!r}; choose {', '.join(names)} or {last}, or None for all frames."
        )


def pooled_size(hidden: int, pool: str | None) -> int:
    """Numbers of a vector.

    Examples
    --------
    >>> pooled_size(1024, "mean"), pooled_size(1024, "mean_std"), pooled_size(1024, None)
    (1024, 2048, 1024)
    """
    return hidden * (1 if pool is None else POOLS[pool])


def pool_frames(pieces: Iterable[np.ndarray], pool: str) -> np.ndarray:
    """Pool a recording that comes in pieces; only ``"percentiles"`` holds all of them at once.

    Parameters
    ----------
    pieces : iterable of ndarray (layers, frames, hidden)
        One at least, with a frame at least each.
    pool : str
        ``"mean"``; ``"mean_std"``, mean and standard deviation (over n) one after the other;
        ``"max"``; or ``"percentiles"``, the 10th, 50th and 90th, which a few loud or odd frames do
        not move.

    Returns
    -------
    ndarray (layers, hidden times the numbers of `POOLS`), float32

    Examples
    --------
    >>> pool_frames([np.array([[[1.0]]]), np.array([[[2.0], [6.0]]])], "mean_std").round(3)
    array([[3.  , 2.16]], dtype=float32)
    """
    check_pool(pool)
    if pool == "max":
        return reduce(np.maximum, (piece.max(axis=1) for piece in pieces)).astype(np.float32)
    if pool == "percentiles":
        frames = np.concatenate(list(pieces), axis=1)
        return np.concatenate(np.percentile(frames, PERCENTILES, axis=1), -1).astype(np.float32)
    mean, deviation = _moments(pieces)
    parts = [mean] if pool == "mean" else [mean, deviation]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def _moments(pieces: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation in one pass (Chan, Golub and LeVeque 1983, "Algorithms for Computing the
    Sample Variance"), as a difference of sums of squares would lose digits."""
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for piece in pieces:
        added = piece.shape[1]
        ours = piece.mean(axis=1, dtype=np.float64)
        squares = squares + ((piece - ours[:, None]) ** 2).sum(axis=1)
        squares = squares + (ours - mean) ** 2 * (count * added / (count + added))
        mean = mean + (ours - mean) * (added / (count + added))
        count += added
    return mean, np.sqrt(squares / count)
