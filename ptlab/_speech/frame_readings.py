"""What decoding needs of log-probs, frame by frame: the same words from a ninth of the memory.

An hour has 180,000 frames: 33 MB as log-probs of 46 tokens, under 4 MB here. Every frame is read by
itself, so that pieces that are read and then put together equal the whole that is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptlab._speech.windows import calm
from ptlab.confidence import frame_confidence
from ptlab.ctc import greedy_path

if TYPE_CHECKING:
    from ptlab._speech.speech_model import CTCModel

__all__ = ["read_frames"]


def read_frames(model: CTCModel, log_probs: np.ndarray, method: str, alpha: float) -> np.ndarray:
    """Best token of every frame, its log-prob, how calm and how sure the frame is.

    Parameters
    ----------
    model
        For its vocabulary.
    log_probs : ndarray (frames, vocab)
    method, alpha
        As in `ptlab.confidence.frame_confidence`.

    Returns
    -------
    ndarray (frames,)
        With the fields ``token``, ``best``, ``calm`` and ``sure``.

    Examples
    --------
    >>> import ptlab
    >>> model = ptlab.load_model("mini", device="cpu")
    >>> frames = read_frames(model, np.log(np.full((50, 46), 1 / 46)), "max_prob", 0.5)
    >>> frames.shape, frames.dtype.names
    ((50,), ('token', 'best', 'calm', 'sure'))
    """
    tokens, kind = greedy_path(log_probs), log_probs.dtype
    fields = [("token", np.int32), ("best", kind), ("calm", kind), ("sure", np.float64)]
    frames = np.empty(len(tokens), fields)
    frames["token"], frames["best"] = tokens, log_probs.max(axis=1)
    frames["calm"] = calm(model, log_probs)
    frames["sure"] = frame_confidence(log_probs, method, alpha)
    return frames
