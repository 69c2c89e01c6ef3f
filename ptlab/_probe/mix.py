"""A probe of all layers at once: their sum with learned weights, and a linear head on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

__all__ = ["LayerMix"]


class LayerMix(ClassifierMixin, BaseEstimator):
    """Softmax-weighted sum of layers, then logistic regression; both are learned together.

    The convention of SUPERB (Yang et al. 2021): no layer is chosen, and the weights say where the
    head looked. Each layer is standardised first, or the layers of large values would be heard
    whatever their weight. Weights are no proof of what a layer holds: two layers that hold the same
    share theirs.

    Parameters
    ----------
    C : float
        Weight of the errors against that of the penalty on the head (L2), as in scikit-learn.
    max_iter : int
        Of L-BFGS.

    Attributes
    ----------
    classes_ : ndarray
    layer_weights_ : ndarray (layers,)
        They sum to one.

    Examples
    --------
    >>> rng, y = np.random.default_rng(0), np.arange(60) % 2
    >>> layers = rng.normal(size=(60, 3, 4))
    >>> layers[:, 2] += 3 * y[:, None]
    >>> mix = LayerMix().fit(layers, y)
    >>> mix.layer_weights_.argmax(), mix.score(layers, y) > 0.9
    (np.int64(2), True)
    """

    takes_layers = True

    def __init__(self, C: float = 1.0, max_iter: int = 200):  # noqa: N803
        self.C, self.max_iter = C, max_iter

    def fit(self, X: Any, y: Any) -> LayerMix:  # noqa: N803
        """Learn weights and head from X (clips, layers, numbers) and labels (clips,)."""
        import torch

        layers = np.asarray(X, np.float64)
        self.classes_, target = np.unique(y, return_inverse=True)
        self._mean, self._scale = layers.mean(axis=0), layers.std(axis=0)
        self._scale[self._scale == 0] = 1
        x, t = torch.from_numpy(self._standardised(layers)), torch.from_numpy(target.ravel())
        counts = np.bincount(target.ravel())
        weight = torch.from_numpy(len(t) / (len(counts) * counts))  # scikit-learn's "balanced"
        mix = torch.zeros(layers.shape[1], dtype=x.dtype, requires_grad=True)
        head = torch.zeros(layers.shape[2], len(counts), dtype=x.dtype, requires_grad=True)
        bias = torch.zeros(len(counts), dtype=x.dtype, requires_grad=True)
        steps = torch.optim.LBFGS(
            [mix, head, bias], max_iter=self.max_iter, line_search_fn="strong_wolfe"
        )

        def loss() -> Any:
            steps.zero_grad()
            logits = torch.einsum("nld,l->nd", x, mix.softmax(0)) @ head + bias
            errors = torch.nn.functional.cross_entropy(logits, t, weight, reduction="sum")
            total = (self.C * errors + 0.5 * head.square().sum()) / len(t)
            total.backward()
            return total

        steps.step(loss)
        self.layer_weights_ = mix.detach().softmax(0).numpy()
        self._head, self._bias = head.detach().numpy(), bias.detach().numpy()
        return self

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """Logits (clips, classes)."""
        check_is_fitted(self)
        layers = self._standardised(np.asarray(X, np.float64))
        return np.einsum("nld,l->nd", layers, self.layer_weights_) @ self._head + self._bias

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Classes (clips,)."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def _standardised(self, layers: np.ndarray) -> np.ndarray:
        return (layers - self._mean) / self._scale
