"""Log-probs of recordings of any length, in windows that overlap.

The rule: windows of ``window_s`` start every ``window_s - overlap_s``, on the frame grid of the
whole recording. Of every overlap the outer quarters are left out, where one of the two windows has
little context; in the middle half the windows are joined at the frame around which (over 9 frames,
0.18 s) both are surest that nothing is said: a blank or a space. So a seam does not cut a word if
there is a pause, every frame is kept once, and there are as many frames as one run would give.
Memory for the model is that of ``batch_size`` windows, whatever the length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ptlab.errors import PtlabError

if TYPE_CHECKING:
    from ptlab._speech.speech_model import CTCModel, OnGrid

__all__ = ["check_windows", "cut_windows", "join_windows", "stitched_log_probs", "window_log_probs"]

CALM_FRAMES = 9  # over which the windows must be sure of silence at a seam
LEAST_OVERLAP = 4  # frames, so that quarters can be left out


def check_windows(model: OnGrid, window_s: float, overlap_s: float) -> None:
    """Refuse windows that cannot be joined.

    Examples
    --------
    >>> import ptlab
    >>> check_windows(ptlab.load_model("mini", device="cpu"), 20.0, 15.0)
    Traceback (most recent call last):
    ptlab.errors.PtlabError: window_s=20.0 and overlap_s=15.0: the overlap must be at least 0.08 s and under half of the window.
    """  # noqa: E501
    least_s = LEAST_OVERLAP * model.hop / model.sampling_rate
    if not least_s <= overlap_s < window_s / 2:
        raise PtlabError(
            f"window_s={window_s} and overlap_s={overlap_s}: the overlap must be at least "
            f"{least_s:g} s and under half of the window."
        )


def stitched_log_probs(
    model: CTCModel,
    waveform: np.ndarray,
    *,
    window_s: float = 20.0,
    overlap_s: float = 4.0,
    batch_size: int = 4,
) -> tuple[np.ndarray, int]:
    """Log-probs ``(frames, vocab)`` of a waveform of any length, and the windows it took.

    A waveform of up to ``window_s`` is run whole. The rule of the seams is at the top of this
    module.

    Examples
    --------
    >>> import ptlab
    >>> model = ptlab.load_model("mini", device="cpu")
    >>> log_probs, windows = stitched_log_probs(model, np.zeros(80_000), window_s=2, overlap_s=0.5)
    >>> log_probs.shape, windows
    ((249, 46), 3)
    """
    runs = list(window_log_probs(model, [waveform], window_s, overlap_s, batch_size))
    return join_windows(model, runs), len(runs)


def window_log_probs(
    model: CTCModel,
    blocks: Iterable[np.ndarray],
    window_s: float,
    overlap_s: float,
    batch_size: int,
) -> Iterator[tuple[int, np.ndarray]]:
    """First sample and log-probs of each window of a sound that comes in blocks (samples,).

    ``batch_size`` windows are held, and in the model, at once.

    Examples
    --------
    >>> import ptlab
    >>> model = ptlab.load_model("mini", device="cpu")
    >>> blocks = [np.zeros(30_000), np.zeros(50_000)]
    >>> [(start, len(frames)) for start, frames in window_log_probs(model, blocks, 2.0, 0.5, 4)]
    [(0, 99), (24000, 99), (48000, 99)]
    """
    windows = cut_windows(model, blocks, window_s, overlap_s)
    while some := list(islice(windows, batch_size)):
        starts, waveforms = zip(*some, strict=True)
        yield from zip(starts, model.log_probs(waveforms, batch_size=batch_size), strict=True)


def cut_windows(
    model: OnGrid, blocks: Iterable[np.ndarray], window_s: float, overlap_s: float
) -> Iterator[tuple[int, np.ndarray]]:
    """First sample and waveform of each window of a sound that comes in blocks (samples,).

    The last window may be shorter, and is there even if there is no sound at all.

    Examples
    --------
    >>> import ptlab
    >>> model = ptlab.load_model("mini", device="cpu")
    >>> blocks = [np.zeros(30_000), np.zeros(50_000)]
    >>> [(start, len(w)) for start, w in cut_windows(model, blocks, 2.0, 0.5)]
    [(0, 32000), (24000, 32000), (48000, 32000)]
    """
    window, overlap = _samples(model, window_s), _samples(model, overlap_s)
    start, held = 0, np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block]) if len(held) else block
        while len(held) > window:  # only then is it known that another window comes
            yield start, held[:window]
            start, held = start + window - overlap, held[window - overlap :]
    yield start, held


def join_windows(model: CTCModel, runs: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
    """Log-probs ``(frames, vocab)`` of a sound from the first sample and log-probs of its windows.

    Windows come in order; of each there may also be what `Transcriber.read` made of its log-probs,
    ``(frames,)``. The rule of the seams is at the top of this module.

    Examples
    --------
    >>> import ptlab
    >>> model = ptlab.load_model("mini", device="cpu")
    >>> runs = [(s, model.log_probs([np.zeros(32_000)])[0]) for s in (0, 24_000, 48_000)]
    >>> join_windows(model, runs).shape
    (249, 46)
    """
    pieces, first, left = [], 0, None
    for sample, right in runs:
        start = sample // model.hop
        if left is not None:
            seam = _seam(model, left, right, start - first)
            pieces.append(left[:seam])
            first, right = first + seam, right[first + seam - start :]
        left = right
    return np.concatenate([*pieces, left])


def _samples(model: OnGrid, seconds: float) -> int:
    """Whole hops, so that the frames of all windows lie on one grid."""
    return int(seconds * model.sampling_rate) // model.hop * model.hop


def _seam(model: CTCModel, left: np.ndarray, right: np.ndarray, begin: int) -> int:
    """Frame of ``left`` at which ``right``, which begins at its frame ``begin``, takes over."""
    shared = len(left) - begin
    margin = shared // 4
    inner = slice(margin, max(margin + 1, shared - margin))
    both = calm(model, left[begin:][inner]) + calm(model, right[inner])
    around = np.pad(both, CALM_FRAMES // 2, mode="edge")
    return begin + margin + int(np.convolve(around, np.ones(CALM_FRAMES), "valid").argmax())


def calm(model: CTCModel, log_probs: np.ndarray) -> np.ndarray:
    """Log-probability of a blank or a space, ``(frames,)``.

    Examples
    --------
    >>> import ptlab
    >>> model = ptlab.load_model("mini", device="cpu")
    >>> np.exp(calm(model, np.log(np.full((2, 46), 0.01)))).round(2).tolist()
    [0.02, 0.02]
    """
    if log_probs.dtype.names:  # it was read before
        return log_probs["calm"]
    if model.word_delimiter not in model.vocabulary:
        return log_probs[:, model.blank]
    space = model.vocabulary.index(model.word_delimiter)
    return np.logaddexp(log_probs[:, model.blank], log_probs[:, space])
