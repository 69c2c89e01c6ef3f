"""What a probe guesses for clips that it has not learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ptlab._probe.folds import Folds, inner_folds
from ptlab._probe.scores import score_guesses
from ptlab.errors import PtlabError

__all__ = ["Guesses", "as_tensor", "guess", "majority_guesses", "make_classifier"]

INNER_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Guesses:
    """Guesses (clips,), each by a probe that has not learned from the clip, and where it looked.

    ``layers`` holds, for each fold, the position of the layer that its training clips chose.
    """

    guesses: np.ndarray
    layers: tuple[int, ...]


def make_classifier(kind: Any = "logistic", C: float = 1.0) -> Any:  # noqa: N803
    """A scikit-learn pipeline: standardised, then linear.

    In "logistic" and "svm" classes weigh the same. "lda" is linear discriminant analysis with the
    shrinkage of Ledoit and Wolf: it learns which directions vary *inside* a class, such as the
    microphones of a voice, and plays them down. There a class weighs what it holds.

    Parameters
    ----------
    kind : {"logistic", "svm", "lda"} or estimator
        An estimator is taken as it is (a clone).
    C : float
        Weight of the errors against that of the penalty (L2); "lda" has none.

    Examples
    --------
    >>> [type(step).__name__ for step in make_classifier("svm")]
    ['StandardScaler', 'LinearSVC']
    """
    from sklearn.base import clone
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if hasattr(kind, "fit"):
        return clone(kind)
    if kind == "logistic":
        head = LogisticRegression(C=C, class_weight="balanced", max_iter=2000, tol=1e-3)
    elif kind == "svm":
        # dual: ten times as fast as the primal on 300 clips of 256 numbers without a pattern
        head = LinearSVC(C=C, class_weight="balanced", dual=True, max_iter=20_000, random_state=0)
    elif kind == "lda":
        head = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    else:
        raise PtlabError(
            f"classifier={kind!r}; choose 'logistic', 'svm', 'lda' or give an estimator."
        )
    return make_pipeline(StandardScaler(), head)


def as_tensor(features: Any, what: str, count: int) -> np.ndarray:
    """Features as (clips, layers, numbers), checked.

    Examples
    --------
    >>> as_tensor(np.zeros((5, 3)), "X", 5).shape
    (5, 1, 3)
    """
    array = np.asarray(features.tensor() if hasattr(features, "tensor") else features, np.float32)
    if array.ndim == 2:
        array = array[:, None]
    if array.ndim != 3 or len(array) != count or not array.size:
        raise PtlabError(
            f"{what} has the shape {array.shape} for {count} clips; expected (clips, numbers) or "
            "(clips, layers, numbers), as embed(..., pool='mean') makes it."
        )
    if not np.isfinite(array).all():
        raise PtlabError(f"{what} holds NaN or infinite values.")
    return array


def guess(
    features: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    folds: Folds,
    classifier: Any,
    seed: int,
) -> Guesses:
    """Guess each fold's clips after training on the others, the layer chosen among the latter.

    Parameters
    ----------
    features : ndarray (clips, layers, numbers)
    y, groups : ndarray of int (clips,)
    folds : list of (ndarray, ndarray)
    classifier : estimator
        If it has ``takes_layers`` it is given all layers.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(40) % 2
    >>> layers = rng.normal(size=(40, 2, 3)) + [[[0.0], [9.0]]] * y[:, None, None]
    >>> from ptlab._probe.folds import group_folds
    >>> folds = group_folds(y, np.arange(40) // 4, 5)
    >>> found = guess(layers, y, np.arange(40) // 4, folds, make_classifier(), 0)
    >>> (found.guesses == y).all(), found.layers
    (np.True_, (1, 1, 1, 1, 1))
    """
    guesses, chosen = np.full(len(y), -1), []
    for train, test in folds:
        if getattr(classifier, "takes_layers", False):
            guesses[test] = _fitted(classifier, features[train], y[train]).predict(features[test])
            continue
        layer = _best_layer(features[train], y[train], groups[train], classifier, seed)
        chosen.append(layer)
        fitted = _fitted(classifier, features[train, layer], y[train])
        guesses[test] = fitted.predict(features[test, layer])
    return Guesses(guesses, tuple(chosen))


def majority_guesses(y: np.ndarray, folds: Folds) -> np.ndarray:
    """For each clip the most frequent class of its training clips.

    Examples
    --------
    >>> majority_guesses(np.array([0, 0, 1]), [(np.array([0, 1]), np.array([2]))])[2]
    np.int64(0)
    """
    guesses = np.full(len(y), -1)
    for train, test in folds:
        guesses[test] = np.bincount(y[train]).argmax()
    return guesses


def _best_layer(
    features: np.ndarray, y: np.ndarray, groups: np.ndarray, classifier: Any, seed: int
) -> int:
    """The layer of the best macro-F1 on folds of these clips alone."""
    if features.shape[1] == 1:
        return 0
    folds = inner_folds(y, groups, INNER_FOLDS, seed)
    scores = []
    for layer in range(features.shape[1]):
        guesses = np.zeros_like(y)
        for train, test in folds:
            fitted = _fitted(classifier, features[train, layer], y[train])
            guesses[test] = fitted.predict(features[test, layer])
        scores.append(score_guesses(y, guesses, groups, y.max() + 1, n_resamples=1).macro_f1.value)
    return int(np.argmax(scores))


def _fitted(classifier: Any, features: np.ndarray, y: np.ndarray) -> Any:
    from sklearn.base import clone
    from sklearn.dummy import DummyClassifier

    if len(np.unique(y)) == 1:  # so it may be with shuffled labels of few groups
        classifier = DummyClassifier()
    return clone(classifier).fit(features, y)
