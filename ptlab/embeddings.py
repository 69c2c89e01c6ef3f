"""Recordings -> what the layers of a speech encoder make of them.

>>> import ptlab
>>> clips = ptlab.load_corpus("test").frame.file[:2].tolist()
>>> frames = ptlab.embed(clips, "mini", layers=[0, 4])
>>> frames
Embeddings(2 recordings, mini, layers 0, 4, 256 numbers a frame)
>>> frames.times(0)[:3].round(4).tolist()  # seconds
[0.0125, 0.0325, 0.0525]
>>> ptlab.embed(clips, "mini", layers=[0, 4], pool="mean").matrix(layer=4).shape
(2, 256)

Which tensor each layer is stands in `ptlab.hidden_states`, how long recordings are cut and joined
in `ptlab._embed.embedding_windows`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptlab._batch.inputs import Sources, find_sources
from ptlab._embed.embedding_windows import OVERLAP_S, WINDOW_S
from ptlab._embed.graph_layers import GraphReader
from ptlab._embed.hidden_states import (
    Layer,
    LayerReader,
    Layers,
    find_layers,
    hidden_states,
    with_random_weights,
)
from ptlab._embed.pooling import check_pool, pooled_size
from ptlab._embed.run import EmbeddingRun, readable
from ptlab._embed.store import DiskStore, MemoryStore
from ptlab._speech.speech_model import digest_of_model
from ptlab._speech.windows import check_windows
from ptlab.audio import Audio, load_audio
from ptlab.errors import DataError, PtlabError
from ptlab.models import SpeechModel, load_model, load_speech_model
from ptlab.onnx_model import OnnxModel

__all__ = ["Embeddings", "embed", "hidden_states", "with_random_weights"]

BATCH_S = 20.0  # padded audio run at once: the layers of 20 s of XLSR-53, all kept, are 100 MB
_FORMAT = 1  # raised when the numbers change for a reason that is in no other part of the key


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings(Sequence[np.ndarray]):
    """What the layers make of some recordings; a sequence of arrays, one a recording.

    Each is ``(layers, frames, hidden)``, or ``(layers, size)`` if it is pooled. With a cache the
    arrays are mapped from the disk when they are asked for, and not kept.

    Attributes
    ----------
    names : tuple of str
        Of the recordings: their paths, or ``row 3``.
    model : str
    layers : tuple of int or str
        What the rows of each array are; see `ptlab.hidden_states`.
    pool : str or None
    hop_s, receptive_field_s : float
        From one frame to the next, and what one frame hears of the sound, in seconds.

    Examples
    --------
    >>> silence = np.zeros(16_000, np.float32)
    >>> found = embed(silence, "mini", layers=[0, "final"], sampling_rate=16_000)
    >>> found
    Embeddings(1 recording, mini, layers 0, final, 256 numbers a frame)
    >>> found[0].shape, found.times(0)[:3].round(4).tolist()
    ((2, 49, 256), [0.0125, 0.0325, 0.0525])
    """

    names: tuple[str, ...]
    model: str
    layers: tuple[Layer, ...]
    pool: str | None
    hop_s: float
    receptive_field_s: float
    size: int
    _digests: tuple[str, ...]
    _store: MemoryStore | DiskStore
    _sources: Sources
    _model: SpeechModel | OnnxModel
    _options: dict[str, Any]

    def __len__(self) -> int:
        return len(self._digests)

    def __getitem__(self, number: int) -> np.ndarray:  # type: ignore[override]  # one by one
        array = self._store.read(self._digests[number])
        if array is None:
            raise DataError(
                f"The embedding of {self.names[number]} is not in the cache any more. Run embed "
                "again."
            )
        return array

    def __repr__(self) -> str:
        many = "recording" if len(self) == 1 else "recordings"
        each = f"{self.size} numbers a {'frame' if self.pool is None else f'{self.pool} vector'}"
        layers = ", ".join(map(str, self.layers))
        return f"Embeddings({len(self)} {many}, {self.model}, layers {layers}, {each})"

    def matrix(self, layer: Layer | None = None) -> np.ndarray:
        """Pooled vectors of one layer, ``(recordings, size)``: what scikit-learn takes.

        Parameters
        ----------
        layer : int or str, optional
            Needed if there is more than one.

        Raises
        ------
        PtlabError
            If it is not pooled, or there is no such layer.
        """
        return np.stack([self._pooled(i)[self._row(layer)] for i in range(len(self))])

    def tensor(self) -> np.ndarray:
        """Pooled vectors of all layers, ``(recordings, layers, size)``."""
        return np.stack([self._pooled(i) for i in range(len(self))])

    def times(self, number: int) -> np.ndarray:
        """Centre of each frame of a recording in seconds, ``(frames,)``."""
        if self.pool is not None:
            raise PtlabError(f"pool={self.pool!r} has made one vector of all frames; use None.")
        return np.arange(self[number].shape[1]) * self.hop_s + self.receptive_field_s / 2

    def at(self, number: int, seconds: Sequence[float] | np.ndarray) -> np.ndarray:
        """Frames of a recording whose centres are nearest to some moments.

        Parameters
        ----------
        number : int
        seconds : sequence of float (moments,)
            Such as the middles of phones.

        Returns
        -------
        ndarray (layers, moments, hidden)

        Examples
        --------
        >>> found = embed(np.zeros(16_000, np.float32), "mini", [0, 1], sampling_rate=16_000)
        >>> found.at(0, [0.0, 0.5, 9.0]).shape
        (2, 3, 256)
        """
        times = self.times(number)
        nearest = np.rint((np.asarray(seconds) - times[0]) / self.hop_s).astype(int)
        return self[number][:, nearest.clip(0, len(times) - 1)]

    def audio(self, number: int) -> Audio:
        """The sound of a recording, at the model's rate."""
        content, _ = readable(self._sources.get(number).content, self._options["sampling_rate"])
        return load_audio(content, target_rate=self._model.sampling_rate)

    def by(self, model: str | os.PathLike[str] | SpeechModel, **options: Any) -> Embeddings:
        """The same recordings by another model, the other options of `embed` as they were.

        Examples
        --------
        >>> found = embed(np.zeros(16_000, np.float32), "mini", sampling_rate=16_000)
        >>> found.by("mini", layers="final", pool="mean")
        Embeddings(1 recording, mini, layers final, 256 numbers a mean vector)
        """
        return embed(self._sources, model, **{**self._options, **options})

    def random_twin(self, seed: int = 0, **options: Any) -> Embeddings:
        """The same recordings by the same architecture with random weights: what probes must beat.

        What such an encoder lets a probe find was in the sound already, and no training has put it
        there.
        """
        return self.by(with_random_weights(load_speech_model(self._model), seed), **options)

    def _pooled(self, number: int) -> np.ndarray:
        if self.pool is None:
            raise PtlabError(
                "Recordings differ in their frames, so that there is no matrix of them: give pool, "
                "such as pool='mean'."
            )
        return self[number]

    def _row(self, layer: Layer | None) -> int:
        if layer is None and len(self.layers) == 1:
            return 0
        if layer not in self.layers:
            raise PtlabError(f"layer={layer!r}; there are {', '.join(map(str, self.layers))}.")
        return self.layers.index(layer)


def embed(
    inputs: Any,
    model: str | os.PathLike[str] | SpeechModel | OnnxModel | None = None,
    layers: Layers = "all",
    *,
    pool: str | None = None,
    sampling_rate: int | None = None,
    column: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    batch_s: float = BATCH_S,
    window_s: float = WINDOW_S,
    overlap_s: float = OVERLAP_S,
    progress: bool = False,
) -> Embeddings:
    """What the layers of a speech encoder make of recordings: frames, or one vector a layer.

    The numbers of a recording do not depend on what else is in the batch: only valid frames are
    kept and pooled, and models whose padding is not exact run one clip at a time. No gradients
    (`ptlab.hidden_states` has them). The CTC head is not run, nor are layers above the last wanted.

    Parameters
    ----------
    inputs
        One sound as `ptlab.load_audio` reads it, a list of them, or what `ptlab.transcribe_files`
        takes: a folder, a glob, a table, a `Corpus`, a `datasets.Dataset`.
    model : str, path, SpeechModel or OnnxModel
        With or without a CTC head; see `ptlab.load_model`. A graph must have been exported with its
        hidden states.
    layers : int, str or sequence of them
        Numbers from 0 (or -1), ``"conv"``, ``"final"``, or ``"all"`` for all numbers. Which tensor
        each one is: `ptlab.hidden_states`.
    pool : {"mean", "mean_std", "max", "percentiles"}, optional
        How the frames of a recording become one vector; None keeps them.
    sampling_rate : int, optional
        Of arrays, in Hz.
    column : str, optional
        Of a table, where the sounds are.
    cache : path, optional
        A folder that keeps what is computed, by content and model: the next call reads it, also
        after a kill, and results are mapped from there, so that they need not fit into memory.
    batch_s : float
        Seconds of audio, padding included, that are run at once.
    window_s, overlap_s : float
        Longer recordings are run in windows; see `ptlab._embed.embedding_windows`.
    progress : bool
        Show a bar.

    Returns
    -------
    Embeddings
        A sequence also for one sound: ``embed("a.wav")[0]``.

    Raises
    ------
    AudioError
        If recordings cannot be read or are too short for one frame; it names them, and is raised
        when all others are done and in the cache.
    ModelError, DataError, PtlabError
        If there is no such model, layer, file or pooling.

    Examples
    --------
    >>> import ptlab
    >>> corpus = ptlab.load_corpus("test").filter(speaker="pm_alex")
    >>> vectors = embed(corpus.frame.file[:2].tolist(), "mini", layers=[2, 4], pool="mean")
    >>> vectors.matrix(layer=4).shape
    (2, 256)
    """
    from tqdm.auto import tqdm

    options = {
        "layers": layers, "pool": pool, "sampling_rate": sampling_rate, "cache": cache,
        "batch_s": batch_s, "window_s": window_s, "overlap_s": overlap_s, "progress": progress,
    }  # fmt: skip
    check_pool(pool)
    model = _with_layers(model)
    chosen = find_layers(layers, model.num_layers)
    check_windows(model, window_s, overlap_s)
    sources = _sources(inputs, column)
    store: MemoryStore | DiskStore = MemoryStore()
    if cache is not None:
        key = [_FORMAT, digest_of_model(model), model.dtype, pool, window_s, overlap_s]
        store = DiskStore(cache, "-".join(map(str, key)).replace("torch.", ""), chosen)
    with _reader(model, chosen) as reader:
        run = EmbeddingRun(reader, store, pool, batch_s, (window_s, overlap_s))
        with tqdm(total=sources.count, desc="Embedding", unit="clip", disable=not progress) as bar:
            digests = run.all(sources, sampling_rate, bar)
    return Embeddings(
        tuple(sources.get(i).name for i in range(sources.count)),
        model.name,
        chosen,
        pool,
        model.encoder_hop / model.sampling_rate,
        model.receptive_field / model.sampling_rate,
        pooled_size(model.hidden_size, pool),
        tuple(digests),
        store,
        sources,
        model,
        options,
    )


def _with_layers(
    model: str | os.PathLike[str] | SpeechModel | OnnxModel | None,
) -> SpeechModel | OnnxModel:
    """The given one, or what `load_model` loads; a graph without its layers says so when asked."""
    if not isinstance(model, SpeechModel | OnnxModel):
        model = load_model(model)
    return model


def _reader(model: SpeechModel | OnnxModel, layers: tuple[Layer, ...]) -> Any:
    if isinstance(model, OnnxModel):
        return GraphReader(model, layers)
    return LayerReader(model, layers)


def _sources(inputs: Any, column: str | None) -> Sources:
    """As `find_sources`, where one sound that is no path is a list of one."""
    if isinstance(inputs, Sources):
        return inputs
    one = isinstance(inputs, Audio | bytes | bytearray | Mapping) or hasattr(inputs, "read")
    if one or (hasattr(inputs, "ndim") and not hasattr(inputs, "iloc")):  # an array or a tensor
        inputs = [inputs]
    return find_sources(inputs, column)
