"""Kokoro's 24 kHz sound -> 16 kHz mono Ogg Opus, written by soundfile (libsndfile)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SAMPLING_RATE = 16_000
# 0 is the largest file, 1 the smallest: 0.92 gives about 24 kbit/s for speech (measured).
COMPRESSION = 0.92
PEAK = 0.9


def to_16k(waveform: np.ndarray) -> np.ndarray:
    """Resample from 24 kHz with soxr HQ; lower the gain only where it would clip."""
    import soxr

    out = soxr.resample(waveform, 24_000, SAMPLING_RATE, quality="HQ")
    return (out * min(1.0, PEAK / max(float(np.abs(out).max()), 1e-9))).astype(np.float32)


def write(path: Path, waveform: np.ndarray) -> None:
    """Write ``waveform`` (samples,) at 16 kHz; a file is there whole or not at all."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    soundfile.write(
        part, waveform, SAMPLING_RATE, format="OGG", subtype="OPUS", compression_level=COMPRESSION
    )
    part.replace(path)
