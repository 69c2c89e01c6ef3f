"""Change clips as they are read, so that no epoch hears the same sound twice.

All randomness comes from the generator that is given: `ptlab.finetune` makes one from seed, epoch
and number of the clip, so that a run that was killed goes on with the very same sounds.
"""

from __future__ import annotations

import numpy as np

from ptlab.audio import SAMPLE_RATE, resample

__all__ = ["add_noise", "augment_waveform", "time_mask"]

SPEEDS = (0.9, 1.0, 1.1)  # Ko et al. (2015), "Audio augmentation for speech recognition"
GAIN_DB = 6.0
SNR_DB = (10.0, 40.0)
MASK_FRAMES = 10  # as in wav2vec 2.0: 200 ms
MOST_MASKED = 0.5  # of a clip, however short


def augment_waveform(
    waveform: np.ndarray, rng: np.random.Generator, sampling_rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Another speed (and with it another pitch), another loudness, and every other time noise.

    The loudness is heard only by models that do not normalise their input.

    Parameters
    ----------
    waveform : ndarray (samples,)
    rng : numpy.random.Generator
    sampling_rate : int
        In Hz.

    Returns
    -------
    ndarray (samples at that speed,), float32

    Examples
    --------
    >>> tone = np.sin(np.arange(16_000) / 10).astype(np.float32)
    >>> changed = [augment_waveform(tone, np.random.default_rng(n)) for n in range(20)]
    >>> sorted({round(16_000 / len(c), 1) for c in changed})
    [0.9, 1.0, 1.1]
    """
    speed = rng.choice(SPEEDS)
    gain = 10 ** (rng.uniform(-GAIN_DB, GAIN_DB) / 20)
    changed = resample(waveform, round(sampling_rate * speed), sampling_rate) * np.float32(gain)
    return add_noise(changed, rng.uniform(*SNR_DB), rng) if rng.random() < 0.5 else changed


def add_noise(waveform: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add pink noise, which falls by 3 dB an octave as that of rooms and streets roughly does.

    Parameters
    ----------
    waveform : ndarray (samples,)
    snr_db : float
        Power of the whole clip over that of the noise.
    rng : numpy.random.Generator

    Examples
    --------
    >>> tone = np.sin(np.arange(16_000) / 10).astype(np.float32)
    >>> noise = add_noise(tone, 20.0, np.random.default_rng(0)) - tone
    >>> round(float(10 * np.log10((tone**2).mean() / (noise**2).mean())), 2)
    20.0
    """
    spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(waveform))
    power = np.mean(np.square(waveform, dtype=np.float64)) / 10 ** (snr_db / 10)
    scale = np.sqrt(power / max(np.mean(noise**2), 1e-20))
    return (waveform + scale * noise).astype(np.float32)


def time_mask(frames: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Frames that SpecAugment hides from the Transformer (Park et al., 2019).

    The models of transformers do this by themselves, but fail for a batch of clips under
    10 frames (0.2 s), and may hide all of a clip under 20. Here spans get shorter with the clip.

    Parameters
    ----------
    frames : int
    share : float
        Of the frames, at most: spans may overlap. Never more than half of a clip.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of bool (frames,)

    Examples
    --------
    >>> [int(time_mask(n, 0.9, np.random.default_rng(0)).sum()) for n in (1, 2, 4)]
    [0, 1, 2]
    """
    mask = np.zeros(frames, dtype=bool)
    span = min(MASK_FRAMES, int(MOST_MASKED * frames))
    if span:
        wanted = int(share * frames / span + rng.random())  # rounds up as often as it should
        count = min(wanted, int(MOST_MASKED * frames) // span)
        for start in rng.choice(frames - span + 1, count, replace=False):
            mask[start : start + span] = True
    return mask
