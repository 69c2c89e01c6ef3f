"""What a probe must beat before its score says anything about the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ptlab.audio import Audio, load_audio
from ptlab.embeddings import Embeddings

__all__ = ["CONTROLS", "FROM_LABELS", "RANDOM", "duration", "loudness", "mfcc_statistics",
           "sound_controls"]  # fmt: skip

RANDOM = "random weights"
FROM_LABELS = ("majority", "shuffled labels")  # need no sound
CONTROLS = (*FROM_LABELS, "duration", "loudness", "MFCC", RANDOM)
MFCC_COUNT = 20  # coefficients of 25 ms, 10 ms apart
SILENCE_DB = -100.0


def mfcc_statistics(audio: Audio) -> np.ndarray:
    """Mean and deviation over a clip of 20 MFCCs and of their slopes, ``(80,)``.

    The textbook's voice print: what a probe of an encoder does not beat was in the spectrum.

    Examples
    --------
    >>> mfcc_statistics(load_audio(np.zeros(16_000, np.float32), 16_000)).shape
    (80,)
    """
    import librosa

    rate = audio.sampling_rate
    window, hop = round(0.025 * rate), round(0.010 * rate)
    mfcc = librosa.feature.mfcc(
        y=audio.waveform, sr=rate, n_mfcc=MFCC_COUNT, n_mels=40, n_fft=window, hop_length=hop
    )
    parts = [mfcc, librosa.feature.delta(mfcc, mode="nearest")]
    return np.concatenate([f(p, axis=1) for p in parts for f in (np.mean, np.std)])


def duration(audio: Audio) -> np.ndarray:
    """Seconds, ``(1,)``."""
    return np.array([audio.duration_s])


def loudness(audio: Audio) -> np.ndarray:
    """Root mean square in dB of full scale, ``(1,)``.

    Examples
    --------
    >>> loudness(load_audio(np.full(16_000, 0.1, np.float32), 16_000)).round(3)
    array([-20.])
    """
    power = float(np.mean(np.square(audio.waveform, dtype=np.float64)))
    return np.array([max(SILENCE_DB, 10 * np.log10(power) if power else SILENCE_DB)])


def sound_controls(sounds: Embeddings | Sequence[Any]) -> dict[str, np.ndarray]:
    """Features of the controls that are made of the sounds: give them to `ptlab.probe`.

    Parameters
    ----------
    sounds : Embeddings, or sequence of what `ptlab.load_audio` reads
        From `Embeddings` the encoder with random weights is made too, with as many layers.

    Returns
    -------
    dict of str to ndarray (clips, numbers) or (clips, layers, numbers)

    Examples
    --------
    >>> import ptlab
    >>> found = sound_controls(ptlab.load_corpus("test").frame.file[:3].tolist())
    >>> {name: features.shape for name, features in found.items()}
    {'duration': (3, 1), 'loudness': (3, 1), 'MFCC': (3, 80)}
    """
    makers = {"duration": duration, "loudness": loudness, "MFCC": mfcc_statistics}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in makers}
    for i in range(len(sounds)):
        audio = sounds.audio(i) if isinstance(sounds, Embeddings) else load_audio(sounds[i])
        for name, make in makers.items():
            rows[name].append(make(audio))
    found = {name: np.stack(row) for name, row in rows.items()}
    if isinstance(sounds, Embeddings):
        found[RANDOM] = sounds.random_twin().tensor()
    return found
