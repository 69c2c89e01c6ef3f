"""The work of `ptlab.embed`: read, run in mini-batches or windows, pool, keep."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptlab._batch.inputs import Source, Sources
from ptlab._batch.reader import digest_of
from ptlab._embed.embedding_windows import faded
from ptlab._embed.hidden_states import LayerReader
from ptlab._embed.pooling import pool_frames
from ptlab._embed.store import DiskStore, MemoryStore
from ptlab._speech.windows import cut_windows
from ptlab.audio import Audio, load_audio
from ptlab.errors import AudioError
from ptlab.minibatches import MiniBatches, lanes_for

__all__ = ["EmbeddingRun", "readable"]

ROUND_BATCHES = 16  # mini-batches read ahead, among which clips alike in length are run together


@dataclass(frozen=True, eq=False)
class _Clip:
    """A recording: its digest, and what the encoder is given of it."""

    digest: str
    piece: np.ndarray


class EmbeddingRun:
    """One call of `embed`."""

    def __init__(
        self,
        reader: LayerReader,
        store: MemoryStore | DiskStore,
        pool: str | None,
        batch_s: float,
        windows: tuple[float, float],
    ):
        self.reader, self.store, self.pool, self.windows = reader, store, pool, windows
        self.batches = MiniBatches(reader, batch_s, lanes_for(reader))
        self.longest = windows[0] * reader.sampling_rate
        self.round = ROUND_BATCHES * batch_s * reader.sampling_rate
        self.begun: set[str] = set()

    def all(self, sources: Sources, sampling_rate: int | None, bar: Any) -> list[str]:
        """Embed what the store lacks; the digests of all recordings."""
        digests: list[str] = []
        failures: list[tuple[str, AudioError]] = []
        waiting: list[_Clip] = []
        for number in range(sources.count):
            source = sources.get(number)
            try:
                digest, clip = self._clip(source, sampling_rate)
            except AudioError as error:
                failures.append((source.name, error))
                bar.update()
                continue
            digests.append(digest)
            if clip is None:
                bar.update()
                continue
            waiting.append(clip)
            if sum(len(c.piece) for c in waiting) > self.round:
                self._embed(waiting, bar)
                waiting = []
        self._embed(waiting, bar)
        if failures:
            raise _failure(failures)
        return digests

    def _clip(self, source: Source, sampling_rate: int | None) -> tuple[str, _Clip | None]:
        """The digest of a recording; what is read of it unless its embedding is under way."""
        content, digest = readable(source.content, sampling_rate)
        if digest in self.begun or self.store.read(digest) is not None:
            return digest, None
        model = self.reader.model
        audio = load_audio(content, target_rate=model.sampling_rate)
        if not self.reader.model_frames(len(audio)):
            raise AudioError(
                f"{len(audio)} samples at {model.sampling_rate} Hz, and the model needs "
                f"{model.receptive_field} for its first frame.",
                "too_short",
            )
        self.begun.add(digest)
        return digest, _Clip(digest, self.reader.prepared(audio.waveform))

    def _embed(self, clips: list[_Clip], bar: Any) -> None:
        short = [clip for clip in clips if len(clip.piece) <= self.longest]
        for outcome in self.batches.run([clip.piece for clip in short]):
            self._write(short[outcome.index], [_value(outcome)])
            bar.update()
        for clip in clips:
            if len(clip.piece) > self.longest:
                self._write(clip, faded(self._windowed(clip.piece)))
                bar.update()

    def _windowed(self, piece: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """First frame and layers of each window, as many windows at once as there are lanes."""
        cuts = list(cut_windows(self.reader, [piece], *self.windows))
        many = max(self.batches.lanes, int(self.batches.limit // self.longest))
        for i in range(0, len(cuts), many):
            starts, windows = zip(*cuts[i : i + many], strict=True)
            found = {o.index: _value(o) for o in self.batches.run(windows)}
            for j, start in enumerate(starts):
                yield start // self.reader.hop, found.pop(j)

    def _write(self, clip: _Clip, pieces: Iterable[np.ndarray]) -> None:
        if self.pool is not None:
            vectors = pool_frames(pieces, self.pool)
            self.store.write(clip.digest, vectors.shape, [vectors])
            return
        frames, hidden = self.reader.frames(len(clip.piece)), self.reader.model.hidden_size
        self.store.write(clip.digest, (len(self.reader.layers), frames, hidden), pieces)


def readable(content: Any, sampling_rate: int | None) -> tuple[Any, str]:
    """What `load_audio` reads, and its digest.

    Examples
    --------
    >>> content, digest = readable(np.zeros(400, np.float32), 16_000)
    >>> sorted(content), len(digest)
    (['array', 'sampling_rate'], 32)
    """
    if not isinstance(content, str | os.PathLike | bytes | Mapping):
        if not isinstance(content, Audio):
            content = load_audio(content, sampling_rate)
        content = {"array": content.waveform, "sampling_rate": content.sampling_rate}
    digest = digest_of(content)
    if digest is None:
        load_audio(content)  # says why
        raise AudioError("It cannot be read as a file.")
    return content, digest


def _value(outcome: Any) -> np.ndarray:
    if outcome.error is not None:
        raise outcome.error
    return outcome.log_probs


def _failure(failures: list[tuple[str, AudioError]]) -> AudioError:
    shown = "; ".join(f"{name}: {error}" for name, error in failures[:5])
    more = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
    return AudioError(
        f"{len(failures)} recordings cannot be embedded: {shown}{more} Leave them out, with their "
        "labels.",
        failures[0][1].kind,
    )
