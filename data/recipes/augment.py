"""Make clean synthetic speech sound as if a person held a microphone: for training only.

Every function takes and gives a float32 waveform (samples,) at 16 kHz and draws from the
generator it is given, so that one seed gives one sound.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import soxr

RATE = 16_000


def change_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Play faster (factor > 1) or slower: tempo and pitch move together, a new voice for little."""
    return soxr.resample(waveform, RATE * factor, RATE, quality="LQ").astype(np.float32)


def room_and_microphone(
    waveform: np.ndarray, rng: np.random.Generator, reverb: float, colour: float
) -> np.ndarray:
    """Reverberation (probability ``reverb``) and a random frequency response (``colour``).

    The room is exponentially decaying noise (RT60 0.1 to 0.7 s) behind the direct sound; the
    response is a smooth curve of +-8 dB with a high-pass and a low-pass edge (a telephone's
    3.4 kHz at the worst). Both are one multiplication in the frequency domain.
    """
    with_room, with_colour = rng.random() < reverb, rng.random() < colour
    if not (with_room or with_colour):
        return waveform
    size = scipy.fft.next_fast_len(len(waveform) + RATE // 4, real=True)
    spectrum = scipy.fft.rfft(waveform, size)
    if with_room:
        spectrum *= scipy.fft.rfft(_room(rng), size)
    if with_colour:
        spectrum *= _response(rng, len(spectrum))
    return scipy.fft.irfft(spectrum, size)[: len(waveform)].astype(np.float32)


def _room(rng: np.random.Generator) -> np.ndarray:
    rt60 = rng.uniform(0.1, 0.7)
    t = np.arange(RATE // 4) / RATE
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / rt60)
    tail[: rng.integers(16, 160)] = 0
    direct_to_reverb = 10 ** (rng.uniform(0, 15) / 20)
    tail /= np.sqrt(np.sum(tail**2)) * direct_to_reverb + 1e-9
    tail[0] = 1.0
    return tail.astype(np.float32)


def _response(rng: np.random.Generator, bins: int) -> np.ndarray:
    hz = np.linspace(0, RATE / 2, bins)
    knots = np.linspace(0, RATE / 2, 7)
    curve = 10 ** (np.interp(hz, knots, rng.uniform(-8, 8, len(knots))) / 20)
    low, high = rng.uniform(20, 300), rng.choice([8000, rng.uniform(3400, 8000)])
    edges = 1 / (1 + (low / np.maximum(hz, 1)) ** 4) / (1 + (hz / high) ** 16)
    return (curve * edges).astype(np.float32)


def coloured_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with power falling as 1/f**a, a drawn from 0 (white) to 2 (brown)."""
    size = scipy.fft.next_fast_len(samples, real=True)
    bins = np.arange(1, size // 2 + 2)
    spectrum = rng.standard_normal((2, len(bins))) * bins ** (-rng.uniform(0, 2) / 2)
    return scipy.fft.irfft(spectrum[0] + 1j * spectrum[1], size)[:samples].astype(np.float32)


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add ``noise`` at a signal-to-noise ratio of ``snr_db`` decibels over the whole clip."""
    noise = np.resize(noise, len(waveform))
    power, noise_power = np.mean(waveform**2) + 1e-12, np.mean(noise**2) + 1e-12
    return waveform + noise * np.float32(np.sqrt(power / noise_power / 10 ** (snr_db / 10)))


def companded(waveform: np.ndarray, mu: int = 255) -> np.ndarray:
    """Mu-law at 8 bits, as on a telephone line (ITU-T G.711 without its 8 kHz sampling)."""
    x = waveform / (np.abs(waveform).max() + 1e-9)
    y = np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)
    y = np.round(y * 127) / 127
    return (np.sign(y) * np.expm1(np.abs(y) * np.log1p(mu)) / mu).astype(np.float32)


def augment(
    waveform: np.ndarray,
    rng: np.random.Generator,
    strength: float = 1.0,
    babble: np.ndarray | None = None,
) -> np.ndarray:
    """Room, microphone, noise, clipping, telephone, each with a probability times ``strength``."""
    y = room_and_microphone(waveform, rng, 0.35 * strength, 0.6 * strength)
    if rng.random() < 0.5 * strength:
        noise = coloured_noise(len(y), rng)
        if babble is not None and rng.random() < 0.25:
            noise = babble
        y = add_noise(y, noise, rng.uniform(5, 35))
    if rng.random() < 0.08 * strength:
        y = np.clip(y, *np.quantile(y, [0.01, 0.99]))
    if rng.random() < 0.08 * strength:
        y = companded(y)
    return y.astype(np.float32)
