"""How sure is the model? From log-probs to a probability that a word is right.

>>> import ptlab
>>> model = ptlab.load_model("mini", device="cpu")
>>> log_probs = model.log_probs([ptlab.load_corpus("test").audio(0).waveform])[0]
>>> of_frames = ptlab.frame_confidence(log_probs)
>>> letters = ptlab.char_segments(log_probs, None, model.vocabulary)
>>> word, spelled = ptlab.word_segments(letters)[0]
>>> raw = ptlab.word_confidence([ptlab.segment_confidence(of_frames, c) for c in spelled])
>>> 0 <= raw <= 1
True

What `ptlab.transcribe` gives each word is calibrated besides:

>>> calibrator = ptlab.Transcriber(model).calibrator
>>> calibrator([0.2]).item() <= calibrator([0.9]).item()
True

Two steps: a raw score a frame, a token, a word (no training), then a calibrator fitted on one set
of speakers that turns the score of a word into the share of such words that are right.
Confidence speaks of what was recognised: it cannot see a word that was left out.

References
----------
Laptev and Ginsburg (2022), "Fast Entropy-Based Methods of Word-Level Confidence Estimation for
End-to-End Automatic Speech Recognition", arXiv 2212.08703.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ptlab.ctc import Segment
from ptlab.errors import PtlabError

__all__ = [
    "Calibrator",
    "frame_confidence",
    "path_confidence",
    "segment_confidence",
    "word_confidence",
]

METHODS = ("tsallis", "max_prob")
SLICE_FRAMES = 10_000  # scored at once: the float64 of an hour would take 130 MB
_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "min": np.min,
    "mean": np.mean,
    "prod": np.prod,
}


def frame_confidence(
    log_probs: np.ndarray, method: str = "tsallis", alpha: float = 1 / 3
) -> np.ndarray:
    """Confidence of every frame, 0 (all tokens equal) to 1 (one token has it all).

    ``"max_prob"`` is the largest probability, stretched so that the uniform distribution is 0.
    ``"tsallis"`` is the Tsallis entropy of order ``alpha``, exponentially normalised
    (equation 13 of the paper): ``(exp(-H) - exp(-H_max)) / (1 - exp(-H_max))``.
    Small ``alpha`` makes the score feel the tail: many half-likely tokens, a low score.

    Parameters
    ----------
    log_probs : ndarray (frames, vocab)
    method : {"tsallis", "max_prob"}
    alpha : float
        Order of the entropy, not 1; the paper's best are 1/2 to 1/3.

    Returns
    -------
    ndarray (frames,)

    Examples
    --------
    >>> log_probs = np.log([[0.98, 0.01, 0.01], [0.4, 0.3, 0.3]])
    >>> frame_confidence(log_probs, "max_prob").round(2).tolist()
    [0.97, 0.1]
    >>> frame_confidence(log_probs).round(2).tolist()
    [0.41, 0.0]
    """
    if method not in METHODS:
        raise PtlabError(f"Confidence method {method!r}; choose one of {', '.join(METHODS)}.")
    if method == "tsallis" and (alpha <= 0 or alpha == 1):
        raise PtlabError(f"alpha is {alpha}; it must be above 0 and not 1, such as 1/3.")
    log_probs = np.asarray(log_probs)
    starts = range(0, max(1, len(log_probs)), SLICE_FRAMES)
    slices = (log_probs[i : i + SLICE_FRAMES] for i in starts)
    return np.concatenate([_scores(s, method, alpha) for s in slices])


def _scores(log_probs: np.ndarray, method: str, alpha: float) -> np.ndarray:
    probs = np.exp(log_probs.astype(np.float64))
    vocab = probs.shape[-1]
    if method == "max_prob":
        return (probs.max(axis=-1) - 1 / vocab) / (1 - 1 / vocab)
    entropy = ((probs**alpha).sum(axis=-1) - 1) / (1 - alpha)
    floor = np.exp(-(vocab ** (1 - alpha) - 1) / (1 - alpha))
    return np.clip((np.exp(-entropy) - floor) / (1 - floor), 0.0, 1.0)


def segment_confidence(frame_scores: np.ndarray, segment: Segment) -> float:
    """Score of a character: the mean over the frames in which it is emitted, blanks left out.

    Parameters
    ----------
    frame_scores : ndarray (frames,)
        From `frame_confidence`.

    Examples
    --------
    >>> segment_confidence(np.array([1.0, 0.5, 0.7, 0.0]), Segment("a", 0, 4, 1, 3))
    0.6
    """
    return float(np.mean(frame_scores[segment.first_frame : segment.last_frame]))


def word_confidence(character_scores: Iterable[float], aggregate: str = "min") -> float:
    """Score of a word from those of its characters.

    Parameters
    ----------
    aggregate : {"min", "mean", "prod"}
        A word is as sure as its least sure character by default.

    Examples
    --------
    >>> word_confidence([0.9, 0.4, 0.8])
    0.4
    """
    if aggregate not in _AGGREGATES:
        raise PtlabError(f"Aggregate {aggregate!r}; choose one of {', '.join(_AGGREGATES)}.")
    return float(_AGGREGATES[aggregate](list(character_scores)))


def path_confidence(log_probs: np.ndarray, words: Sequence[Segment]) -> np.ndarray:
    """Probability of the best path over each word and over the gaps to its neighbours.

    The letters of a word may all be sure while its end is not: *a cor da* or *acorda*? The gaps
    know, and so does this score.

    Parameters
    ----------
    log_probs : ndarray (frames, vocab)
    words : sequence of Segment
        All words of the recording in their order, from `ptlab.ctc.word_segments`.

    Returns
    -------
    ndarray (words,)

    Examples
    --------
    >>> log_probs = np.log([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])  # the last is one frame of "a"
    >>> path_confidence(log_probs, [Segment("a", 0, 3, 2, 3)]).round(2).tolist()
    [0.36]
    """
    best = np.asarray(log_probs).max(axis=-1).astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(best)])
    begins = [0, *(word.last_frame for word in words)][: len(words)]
    ends = [*(word.first_frame for word in words), len(total) - 1][1:]
    return np.exp([total[end] - total[begin] for begin, end in zip(begins, ends, strict=False)])


@dataclass(frozen=True)
class Calibrator:
    """Turn a raw score into a probability: monotone, piecewise linear between fitted points.

    Fitted by isotonic regression (Zadrozny and Elkan, 2002) on words of known correctness,
    pooled into at most ``knots`` groups of equal size so that it does not follow the noise.

    Attributes
    ----------
    scores, probabilities : tuple of float
        The points; outside them the nearest probability holds.
    method, alpha, aggregate
        How the scores were made.
    path : float
        Power of `path_confidence` by which they were multiplied; 0 leaves it out.

    Examples
    --------
    >>> calibrator = Calibrator(scores=(0.2, 0.8), probabilities=(0.1, 0.9))
    >>> calibrator([0.0, 0.5, 1.0]).tolist()
    [0.1, 0.5, 0.9]
    >>> Calibrator.from_dict(calibrator.to_dict()) == calibrator
    True
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    method: str = "tsallis"
    alpha: float = 1 / 3
    aggregate: str = "min"
    path: float = 0.0

    @classmethod
    def fit(
        cls, scores: Sequence[float], correct: Sequence[bool], knots: int = 20, **how: Any
    ) -> Calibrator:
        """Fit on the scores of words and whether each is right.

        Raises
        ------
        PtlabError
            If lengths differ, or all words are right, or all are wrong.

        Examples
        --------
        >>> calibrator = Calibrator.fit([0.1, 0.2, 0.8, 0.9], [False, False, True, True], knots=2)
        >>> [round(float(p), 2) for p in calibrator([0.0, 1.0])]
        [0.0, 1.0]
        """
        x, y = np.asarray(scores, float), np.asarray(correct, float)
        if len(x) != len(y):
            raise PtlabError(f"{len(x)} scores but {len(y)} marks; give one mark a score.")
        if len(np.unique(y)) < 2:
            raise PtlabError("A calibrator needs right and wrong words; these are all alike.")
        order = np.argsort(x, kind="stable")
        groups = np.array_split(order, min(knots, len(x)))
        points = [(x[g].mean(), y[g].mean(), len(g)) for g in groups]
        return cls(*_monotone(points), **how)

    def __call__(self, scores: Sequence[float] | np.ndarray) -> np.ndarray:
        """Probabilities of being right, same shape as ``scores``."""
        return np.interp(np.asarray(scores), self.scores, self.probabilities)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibrator:
        """The inverse of `to_dict`."""
        points = {k: tuple(values[k]) for k in ("scores", "probabilities")}
        return cls(**{**values, **points})


def _monotone(
    points: list[tuple[float, float, int]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Pool adjacent violators: a group that falls is merged with the one before it."""
    pools: list[tuple[float, int, list[float]]] = []
    for score, share, size in points:
        pools.append((share, size, [score]))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            above, many, more = pools.pop()
            below, few, scores = pools.pop()
            mean = (below * few + above * many) / (few + many)
            pools.append((mean, few + many, scores + more))
    return (
        tuple(float(s) for _, _, group in pools for s in group),
        tuple(float(share) for share, _, group in pools for _ in group),
    )
