"""Second targets for pre-training: which of some clusters of MFCCs a hidden frame is in (HuBERT).

The features are 13 cepstra of 25 ms with their slopes, every 20 ms as wav2vec2's frames, brought to
zero mean and unit variance over each clip: what is left is more the sound than the voice. The
clusters are found once by k-means (Hsu et al. 2021, arXiv 2106.07447, first iteration).
"""

from __future__ import annotations

from functools import lru_cache

import librosa
import numpy as np
import scipy.fft
import torch
from augment import RATE
from speech import FIELD, HOP
from torch import Tensor

CEPSTRA, MELS, FFT = 13, 40, 512
FLOOR = 1e-3  # power under which all is silence; the waveforms have unit variance


@lru_cache(maxsize=1)
def _filters() -> tuple[Tensor, Tensor]:
    mel = librosa.filters.mel(sr=RATE, n_fft=FFT, n_mels=MELS, fmin=60, fmax=7_600)
    cosine = scipy.fft.dct(np.eye(MELS), norm="ortho")[:, :CEPSTRA]
    return torch.from_numpy(mel.T.astype(np.float32)), torch.from_numpy(cosine.astype(np.float32))


def log_mel(waves: Tensor) -> Tensor:
    """``(batch, samples)`` to energies ``(batch, frames, 40)``, natural logarithm of power."""
    framed = waves.unfold(1, FIELD, HOP) * torch.hann_window(FIELD)
    return (torch.fft.rfft(framed, FFT).abs().square() @ _filters()[0] + FLOOR).log()


def mfcc(waves: Tensor, lengths: Tensor) -> Tensor:
    """``(batch, samples)`` to ``(batch, frames, 26)``; ``lengths`` are the valid frames."""
    cepstra = log_mel(waves) @ _filters()[1]
    slopes = torch.gradient(cepstra, dim=1)[0]
    x = torch.cat([cepstra, slopes], -1)
    valid = (torch.arange(x.shape[1]) < lengths[:, None]).unsqueeze(-1)
    count = valid.sum(1, keepdim=True)
    mean = (x * valid).sum(1, keepdim=True) / count
    variance = ((x - mean).square() * valid).sum(1, keepdim=True) / count
    return (x - mean) / (variance.sqrt() + 1e-3) * valid


def fit(frames: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Centres ``(count, 26)`` of the clusters."""
    from sklearn.cluster import KMeans

    return KMeans(count, n_init=1, random_state=seed).fit(frames).cluster_centers_.astype("f4")


def nearest(frames: Tensor, centres: Tensor) -> Tensor:
    """Number of the nearest centre of each frame: ``(..., 26)`` to ``(...)``."""
    return torch.cdist(frames, centres).argmin(-1)
