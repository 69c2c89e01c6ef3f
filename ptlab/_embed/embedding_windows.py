"""Embeddings of long recordings, in windows whose seams do not show.

A recording is normalised as a whole, then cut. Of every overlap the outer quarters are left out,
where one of the two windows has little context; over the middle half the one is faded into the
other, so that there is no jump. With the usual overlap of 6 s the quarter is 1.5 s, more than the
1.28 s to which the positional convolution of XLSR-53 reaches: ``"conv"`` and layer 0 are then what
one run over the whole would give (if the feature encoder has layer norm), and what is left of a
window in the higher layers is that attention has heard the window and not the whole recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

__all__ = ["OVERLAP_S", "WINDOW_S", "faded"]

WINDOW_S = 30.0
OVERLAP_S = 6.0


def faded(runs: Iterable[tuple[int, np.ndarray]]) -> Iterator[np.ndarray]:
    """Join windows, piece by piece.

    Parameters
    ----------
    runs : iterable of (int, ndarray (layers, frames, hidden))
        First frame and layers of each window, in order. No more than two overlap anywhere.

    Yields
    ------
    ndarray (layers, frames, hidden)
        One after the other these are the recording.

    Examples
    --------
    >>> windows = [(0, np.zeros((1, 8, 1))), (4, np.ones((1, 8, 1)))]
    >>> np.concatenate(list(faded(windows)), axis=1).ravel().round(2).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.33, 0.67, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    first, left = 0, None
    for start, right in runs:
        if left is not None:
            begin = start - first
            shared = left.shape[1] - begin
            weight = _ramp(shared)[:, None].astype(left.dtype)
            mixed = (1 - weight) * left[:, begin:] + weight * right[:, :shared]
            yield left[:, :begin]
            right = np.concatenate([mixed, right[:, shared:]], axis=1)
        first, left = start, right
    if left is not None:
        yield left


def _ramp(shared: int) -> np.ndarray:
    """From 0 to 1 over the middle half of an overlap.

    >>> _ramp(8).round(2).tolist()
    [0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    """
    margin = shared // 4
    return np.clip((np.arange(shared) - margin + 1) / (shared - 2 * margin + 1), 0, 1)
