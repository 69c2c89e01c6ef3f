"""Recordings that are one recording: copied, trimmed, louder, filtered or coded anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ptlab.audio import Audio, load_audio

__all__ = ["near_duplicates"]

BANDS, HOP_S = 20, 0.040
# Of 7,000 pairs of different clips of the course's corpus the most alike had 0.44. Clips had at
# least 1.0 with themselves at a tenth of the level, 0.92 through a telephone's band, 0.88 between
# stretches of silence, 0.82 through a high-pass, 0.80 in noise 20 dB below them, and 0.78 without
# their first fifth.
ALIKE = 0.7
FLOOR_DB, SILENCE_DB = 40.0, 30.0  # below the peak: the least value, and what is off at both ends
SHORTEST = 0.7  # of the longer of two that are compared


def near_duplicates(sounds: Sequence[Any], alike: float = ALIKE) -> np.ndarray:
    """Number of the recording that each clip is of, ``(clips,)``; copies share theirs.

    Two clips are compared by the correlation of their log-mel spectrograms at the lag where it is
    largest, the mean of each band taken away, so that neither loudness nor a steady filter counts.
    A clip that is less than 0.7 of another is not compared with it.

    Parameters
    ----------
    sounds : sequence
        What `ptlab.load_audio` reads, or `Audio`.
    alike : float
        Correlation from which on two are one.

    Examples
    --------
    >>> import ptlab
    >>> clips = [ptlab.load_corpus("test").audio(i) for i in (0, 1)]
    >>> quieter = ptlab.load_audio(0.3 * clips[0].waveform[2000:], 16_000)
    >>> near_duplicates([*clips, quieter]).tolist()
    [0, 1, 0]
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    pictures = [_picture(s if isinstance(s, Audio) else load_audio(s)) for s in sounds]
    frames = np.array([p.shape[1] for p in pictures])
    width = 2 * int(frames.max())  # so that no lag wraps round
    spectra = np.stack([np.fft.rfft(p, width).astype(np.complex64) for p in pictures])
    pairs = []
    for i in range(len(pictures)):
        later = np.arange(i + 1, len(pictures))
        ratio = np.minimum(frames[later], frames[i]) / np.maximum(frames[later], frames[i])
        later = later[ratio >= SHORTEST]
        cross = np.einsum("bf,nbf->nf", spectra[i].conj(), spectra[later])
        peaks = np.fft.irfft(cross, width).max(axis=1) if len(later) else later
        pairs += [(i, j) for j in later[peaks >= alike]]
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    graph = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(pictures),) * 2)
    return connected_components(graph, directed=False)[1]


def _picture(audio: Audio) -> np.ndarray:
    """Log-mel spectrogram (bands, frames), of norm one, bands centred."""
    import librosa
    from librosa.effects import trim

    rate, hop = audio.sampling_rate, round(HOP_S * audio.sampling_rate)
    wave, _ = trim(audio.waveform, top_db=SILENCE_DB)
    wave = wave / max(1e-9, float(np.abs(wave).max()))
    mel = librosa.feature.melspectrogram(
        y=wave, sr=rate, n_fft=2 * hop, hop_length=hop, n_mels=BANDS, fmax=min(4000, rate / 2)
    )
    picture = librosa.power_to_db(mel, ref=np.max, top_db=FLOOR_DB)
    picture = picture - picture.mean(axis=1, keepdims=True)
    return (picture / max(1e-9, float(np.linalg.norm(picture)))).astype(np.float32)
