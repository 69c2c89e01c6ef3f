"""Four ways of speaking, by the vocoder WORLD: pitch, rate, dynamics and spectral tilt.

They are called styles and not emotions, as nobody felt anything. The directions are those that
Juslin and Laukka (2003, "Communication of emotions in vocal expression and music performance",
Psychological Bulletin 129) found in most studies of happiness, sadness and anger; the sizes are
ours. The level is not changed, as all clips are made equally loud in the end: the energy that a
style has or lacks is in its dynamics and its tilt. Neutral speech goes through the vocoder too, or
the vocoder would give it away.

WORLD: Morise, Yokomori and Ozawa (2016), IEICE Transactions E99-D(7).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

FRAME_MS = 5.0
PITCH_HZ = (60.0, 600.0)
QUIETEST = np.log(1e-4)  # of the loudest frames: what lies below is moved no further


@dataclass(frozen=True)
class Style:
    """How speech is changed; 0, 1, 1, 1, 0 leave it as it is."""

    pitch_semitones: float  # level of the pitch
    pitch_range: float  # factor of its distance from the mean, in semitones
    rate: float  # 1.1 is a tenth faster
    dynamics: float  # factor of the distance between loud and quiet, in dB
    tilt_db: float  # an octave, from 500 Hz on


STYLES = {
    "neutral": Style(0.0, 1.0, 1.0, 1.0, 0.0),
    "animated": Style(2.5, 1.6, 1.10, 1.10, 1.0),
    "sad-like": Style(-1.5, 0.6, 0.88, 0.85, -2.5),
    "angry-like": Style(1.5, 1.2, 1.06, 1.25, 3.0),
}
# Deviation of each clip from its style: speakers are not of one measure either.
SPREAD = Style(0.7, 0.12, 0.05, 0.05, 0.7)


def drawn(name: str, rng: np.random.Generator) -> Style:
    """A style with the spread of one clip.

    >>> drawn("sad-like", np.random.default_rng(0)).rate < STYLES["neutral"].rate
    True
    """
    pairs = zip(astuple(STYLES[name]), astuple(SPREAD), strict=True)
    return Style(*(middle + spread * float(rng.standard_normal()) for middle, spread in pairs))


def restyle(waveform: np.ndarray, sampling_rate: int, style: Style) -> np.ndarray:
    """Take speech apart into pitch, envelope and breath, change them, put it together."""
    import pyworld

    x = np.ascontiguousarray(waveform, np.float64)
    rough, times = pyworld.dio(x, sampling_rate, *PITCH_HZ, frame_period=FRAME_MS)
    pitch = pyworld.stonemask(x, rough, times, sampling_rate)
    envelope = pyworld.cheaptrick(x, pitch, times, sampling_rate)
    breath = pyworld.d4c(x, pitch, times, sampling_rate)
    changed = changed_envelope(envelope, sampling_rate, style)
    # Frames that are put closer together are spoken faster.
    spoken = pyworld.synthesize(
        changed_pitch(pitch, style), changed, breath, sampling_rate, FRAME_MS / style.rate
    )
    return spoken.astype(np.float32)


def changed_pitch(pitch: np.ndarray, style: Style) -> np.ndarray:
    """Pitch in Hz, 0 where there is no voice, at another level and of another range.

    >>> changed_pitch(np.array([0.0, 100.0, 200.0]), Style(12, 1, 1, 1, 0)).round(6).tolist()
    [0.0, 200.0, 400.0]
    """
    voiced = pitch > 0
    if not voiced.any():
        return pitch
    semitones = 12 * np.log2(pitch[voiced])
    middle = semitones.mean()
    semitones = middle + style.pitch_range * (semitones - middle) + style.pitch_semitones
    out = np.zeros_like(pitch)
    out[voiced] = np.clip(2 ** (semitones / 12), *PITCH_HZ)
    return out


def changed_envelope(envelope: np.ndarray, sampling_rate: int, style: Style) -> np.ndarray:
    """Power (frames, bins) with another tilt, and loud and quiet frames further apart or closer."""
    hz = np.linspace(0, sampling_rate / 2, envelope.shape[1])
    octaves = np.log2(np.clip(hz, 500, 8000) / 500)
    energy = np.log(envelope.mean(axis=1) + 1e-16)
    below = np.clip(energy - np.quantile(energy, 0.95), QUIETEST, 0)
    gain = np.exp((style.dynamics - 1) * below)
    return envelope * gain[:, None] * 10 ** (style.tilt_db * octaves / 10)
