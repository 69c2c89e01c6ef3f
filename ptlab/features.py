"""Speech encoders in scikit-learn: sounds in, one row of numbers a sound out.

>>> import ptlab
>>> from sklearn.linear_model import LogisticRegression
>>> from sklearn.pipeline import make_pipeline
>>> clips = ptlab.load_corpus("test").filter(speaker=["pm_alex", "af_bella"])
>>> few = clips.frame.groupby("speaker").head(6)
>>> pipe = make_pipeline(ptlab.Wav2Vec2Features("mini", layer=2), LogisticRegression())
>>> pipe.fit(few.file[::2], few.speaker[::2]).predict(few.file[1::2]).shape
(6,)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from ptlab._embed.hidden_states import CONV, FINAL, Layer, find_layers
from ptlab._embed.pooling import check_pool, pooled_size
from ptlab.audio import Audio
from ptlab.embeddings import embed
from ptlab.errors import PtlabError
from ptlab.models import SpeechModel, load_model
from ptlab.onnx_model import OnnxModel

__all__ = ["Wav2Vec2Features"]


class Wav2Vec2Features(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A transformer of scikit-learn: pooled embeddings of one layer.

    Nothing is learned: `fit` only checks. The model is named, not held: clones share it, and a
    pickle has no weights in it.

    Parameters
    ----------
    model : str or path
        See `ptlab.load_model`.
    layer : int or str
        See `ptlab.hidden_states`.
    pool : {"mean", "mean_std", "max", "percentiles"}
    sampling_rate : int, optional
        Of arrays, in Hz.
    cache : path, optional
        As for `ptlab.embed`. All layers are kept there, so that a search over ``layer`` and folds
        runs the model once over each sound.
    device : str

    Examples
    --------
    >>> import ptlab
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> clips = ptlab.load_corpus("test").frame[:6]
    >>> features = Wav2Vec2Features("mini", layer=2, device="cpu")
    >>> pipe = make_pipeline(features, StandardScaler(), LogisticRegression())
    >>> features.fit_transform(clips.file).shape
    (6, 256)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "mini",
        layer: Layer = FINAL,
        pool: str = "mean",
        sampling_rate: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        device: str = "auto",
    ):
        self.model, self.layer, self.pool = model, layer, pool
        self.sampling_rate, self.cache, self.device = sampling_rate, cache, device

    def fit(self, X: Any, y: Any = None) -> Wav2Vec2Features:  # noqa: N803
        """Check the parameters and the sounds.

        Parameters
        ----------
        X : sequence of sounds
            Paths, arrays, or what else `ptlab.load_audio` reads; a table of one column; or a matrix
            (sounds, samples).
        y
            Ignored.

        Returns
        -------
        Wav2Vec2Features
            Itself.
        """
        _sounds(X)
        if self.pool is None:
            raise PtlabError("pool=None keeps the frames, and here a sound is one row: name one.")
        check_pool(self.pool)
        model = self._loaded()
        find_layers(self.layer, model.num_layers)
        self._n_features_out = pooled_size(model.hidden_size, self.pool)
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Embed the sounds.

        Parameters
        ----------
        X : sequence of sounds
            As for `fit`.

        Returns
        -------
        ndarray (sounds, size), float32
        """
        check_is_fitted(self)
        sounds, model = _sounds(X), self._loaded()
        (layer,) = find_layers(self.layer, model.num_layers)
        layers: Layer | list[Layer] = layer
        if self.cache is not None:
            layers = [CONV, *find_layers("all", model.num_layers), FINAL]
        found = embed(
            sounds, model, layers, pool=self.pool, sampling_rate=self.sampling_rate,
            cache=self.cache,
        )  # fmt: skip
        return found.matrix(layer)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _loaded(self) -> SpeechModel | OnnxModel:
        if not isinstance(self.model, str | os.PathLike):
            raise PtlabError(
                f"model is a {type(self.model).__name__}; give a name or a folder, as clones and "
                "pickles would copy the weights. SpeechModel.model.save_pretrained makes a folder."
            )
        return _load(os.fspath(self.model), self.device)


@lru_cache(maxsize=2)
def _load(name: str, device: str) -> SpeechModel | OnnxModel:
    return load_model(name, device=device)


def _sounds(X: Any) -> list[Any]:  # noqa: N803
    """One sound a row; a matrix of numbers is checked as scikit-learn checks it."""
    if hasattr(X, "iloc"):
        X = X.to_numpy()  # noqa: N806
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUS" and X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]  # noqa: N806
    one_by_one = isinstance(X, list | tuple) or (
        isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.kind in "OUS"
    )
    kinds = (str, bytes, os.PathLike, Mapping, Audio, np.ndarray)
    if one_by_one and len(X) and all(isinstance(x, kinds) for x in X):
        return [str(x) if isinstance(x, np.str_) else x for x in X]
    return list(check_array(X, dtype=np.float32))
