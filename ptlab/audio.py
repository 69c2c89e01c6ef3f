"""Load and check sound: anything in, mono float32 at the model's rate out.

>>> import ptlab
>>> clip = ptlab.load_corpus("test").frame.file[0]
>>> ptlab.load_audio(clip)
Audio(3.45 s, 16000 Hz, test_0001.ogg)
>>> ptlab.load_audio(clip, target_rate=8_000).waveform.shape
(27600,)
>>> ptlab.load_audio("lost.wav")
Traceback (most recent call last):
ptlab.errors.AudioError: No file 'lost.wav'; check the path and the current folder.

Files are read by libsndfile (soundfile); what it cannot read (M4A, WebM, video) goes through the
``ffmpeg`` program if it is there. Nothing is decoded by torchcodec or torchaudio.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ptlab._speech.decoders import decode_bytes, decode_file
from ptlab._speech.samples import (
    checked_rate,
    checked_samples,
    is_silent,
    to_columns,
    to_float,
    to_mono,
    to_numpy,
)
from ptlab.errors import AudioError

__all__ = ["SAMPLE_RATE", "Audio", "load_audio", "normalize", "resample"]

SAMPLE_RATE = 16_000
"""16,000 Hz: what wav2vec2 models hear."""


@dataclass(frozen=True, eq=False, repr=False)
class Audio:
    """Sound that is ready for a model.

    Attributes
    ----------
    waveform : ndarray (samples,), float32
        Mono. Nominally within -1 and 1; a lossy codec may overshoot a little.
    sampling_rate : int
        Of ``waveform``, in Hz.
    original_sampling_rate, original_channels : int
        What the source had.
    source : str or None
        Path of the file; None for arrays and bytes.

    Examples
    --------
    >>> audio = load_audio(np.zeros(8_000, np.float32), 8_000)
    >>> audio
    Audio(1.00 s, 16000 Hz, from 8000 Hz, silent)
    >>> audio.waveform.shape, audio.duration_s, audio.was_resampled, audio.is_silent
    ((16000,), 1.0, True, True)
    """

    waveform: np.ndarray
    sampling_rate: int
    original_sampling_rate: int
    original_channels: int = 1
    source: str | None = None

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.waveform) / self.sampling_rate

    @property
    def was_resampled(self) -> bool:
        """Whether the source had another rate."""
        return self.sampling_rate != self.original_sampling_rate

    @property
    def is_silent(self) -> bool:
        """Whether no sample is 0.001 of full scale (-60 dBFS) away from the mean."""
        return is_silent(self.waveform)

    def __len__(self) -> int:
        return len(self.waveform)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.waveform, dtype=dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        facts = [f"{self.duration_s:.2f} s", f"{self.sampling_rate} Hz"]
        if self.was_resampled:
            facts.append(f"from {self.original_sampling_rate} Hz")
        if self.original_channels > 1:
            facts.append(f"from {self.original_channels} channels")
        if self.is_silent:
            facts.append("silent")
        if self.source:
            facts.append(os.path.basename(self.source))
        return f"Audio({', '.join(facts)})"


def load_audio(
    source: Any,
    sampling_rate: int | None = None,
    *,
    target_rate: int = SAMPLE_RATE,
    channel: int | None = None,
) -> Audio:
    """Read sound of any kind as mono float32 at one rate.

    Parameters
    ----------
    source
        - a path (WAV, FLAC, OGG, Opus, MP3, AIFF, ...; M4A, WebM and video with ffmpeg), the
          bytes of such a file, or an open binary file, which is left where it stood;
        - an array, a list of floats or a torch tensor: ``(samples,)``, ``(channels, samples)``
          or ``(samples, channels)``; the shorter axis is the channels. int8, int16 and int32 are
          divided by full scale, uint8 is centred on 128 as in WAV, floats are taken as they are;
        - a dict of a Hugging Face data set, ``{"array", "sampling_rate"}`` or
          ``{"bytes", "path"}`` (it is not changed), or its torchcodec decoder;
        - an `Audio`.
    sampling_rate : int, optional
        Rate of an array in Hz: needed for arrays. Files know theirs.
    target_rate : int
        Rate of the result in Hz.
    channel : int, optional
        Take this channel, from 0, and not the mean of all.

    Returns
    -------
    Audio

    Raises
    ------
    AudioError
        If the source is missing, empty, not audio or too short; has NaN or infinite samples, a
        shape or type that cannot be sound, values far out of range, no rate or an absurd one; or
        if its channels cancel each other in the mean.

    Examples
    --------
    >>> stereo = np.array([[0, 16384, 0, -16384] * 4000] * 2, np.int16)
    >>> load_audio(stereo, 16_000)
    Audio(1.00 s, 16000 Hz, from 2 channels)
    >>> float(load_audio(stereo, 16_000).waveform.max())
    0.5
    """
    target_rate = checked_rate(target_rate, "target_rate")
    if sampling_rate is not None:
        sampling_rate = checked_rate(sampling_rate, "sampling_rate")
    if isinstance(source, Audio):
        return _again(source, sampling_rate, target_rate, channel)
    samples, rate, name = _read(source, sampling_rate)
    waveform = to_mono(checked_samples(samples), channel)
    return Audio(resample(waveform, rate, target_rate), target_rate, rate, samples.shape[1], name)


def resample(waveform: np.ndarray, original_rate: int, target_rate: int) -> np.ndarray:
    """Change the rate by soxr (HQ: linear phase, 20 bits), the delay taken out.

    Parameters
    ----------
    waveform : ndarray (samples,)
    original_rate, target_rate : int
        In Hz.

    Returns
    -------
    ndarray (about samples * target_rate / original_rate,), float32
        Never the array that was given.

    Raises
    ------
    AudioError
        For more than one axis, an absurd rate, or if nothing would be left.

    Examples
    --------
    >>> resample(np.zeros(44_100), 44_100, 16_000).shape
    (16000,)
    """
    original_rate = checked_rate(original_rate, "original_rate")
    target_rate = checked_rate(target_rate, "target_rate")
    waveform = np.array(waveform, dtype=np.float32)
    if waveform.ndim != 1:
        raise AudioError(f"resample takes (samples,), not {waveform.shape}; load_audio makes mono.")
    if original_rate == target_rate:
        return waveform
    import soxr

    result = soxr.resample(waveform, original_rate, target_rate, quality="HQ")
    if not len(result):
        raise AudioError(
            f"{len(waveform)} samples at {original_rate} Hz are too short to make one sample at "
            f"{target_rate} Hz; give more sound.",
            "too_short",
        )
    return result


def normalize(waveform: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, as `transformers.Wav2Vec2FeatureExtractor` does it.

    Give it one utterance without padding: padding would move mean and variance.

    Parameters
    ----------
    waveform : ndarray (samples,)

    Returns
    -------
    ndarray (samples,), float32
        ``(x - mean(x)) / sqrt(var(x) + 1e-7)``; silence stays zero.

    Examples
    --------
    >>> normalize(np.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    if waveform.ndim != 1 or not waveform.size:
        raise AudioError(
            f"normalize takes (samples,) with at least one sample, not {waveform.shape}."
        )
    return (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)


def _again(audio: Audio, sampling_rate: int | None, target_rate: int, channel: int | None) -> Audio:
    """An `Audio` at another rate."""
    _agree(sampling_rate, audio.sampling_rate, "the Audio")
    if channel:
        raise AudioError(f"channel={channel}, but an Audio is mono; give the source it came from.")
    if audio.sampling_rate == target_rate:
        return audio
    waveform = resample(audio.waveform, audio.sampling_rate, target_rate)
    return replace(audio, waveform=waveform, sampling_rate=target_rate)


def _read(source: Any, sampling_rate: int | None) -> tuple[np.ndarray, int, str | None]:
    """Samples (samples, channels) as float32, their rate, and a name if there is one."""
    if isinstance(source, Mapping):
        return _read_mapping(source, sampling_rate)
    if hasattr(source, "get_all_samples"):  # torchcodec, as datasets decodes
        decoded = source.get_all_samples()
        _agree(sampling_rate, decoded.sample_rate, "the decoder")
        return _from_array(decoded.data, decoded.sample_rate)
    if isinstance(source, str | os.PathLike):
        samples, rate = decode_file(source)
        _agree(sampling_rate, rate, "the file")
        return samples, rate, os.fspath(source)
    if isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        samples, rate = decode_bytes(_content(source))
        _agree(sampling_rate, rate, "the file")
        return samples, rate, None
    return _from_array(source, sampling_rate)


def _read_mapping(
    row: Mapping[str, Any], sampling_rate: int | None
) -> tuple[np.ndarray, int, str | None]:
    if row.get("array") is not None:
        rate = row.get("sampling_rate")
        if rate is not None:
            _agree(sampling_rate, rate, "the dict")
        return _from_array(row["array"], sampling_rate if rate is None else rate)
    if row.get("bytes") is not None:
        return (*_read(row["bytes"], sampling_rate)[:2], row.get("path"))
    if row.get("path") is not None:
        return _read(row["path"], sampling_rate)
    if row.get("audio") is not None:
        return _read(row["audio"], sampling_rate)
    raise AudioError(
        f"A dict with the keys {sorted(map(str, row))}; accepted are 'array' with "
        "'sampling_rate', 'bytes', or 'path' (a cell of a Hugging Face audio column)."
    )


def _content(source: Any) -> bytes:
    """Bytes of a bytes-like or of a file, whose position is put back."""
    if not hasattr(source, "read"):
        return bytes(source)
    if isinstance(source, io.TextIOBase):
        raise AudioError("A file opened as text; open it with open(path, 'rb').")
    start = source.tell() if getattr(source, "seekable", lambda: False)() else None
    content = source.read()
    if start is not None:
        source.seek(start)
    if not content and start:
        raise AudioError("The open file is at its end; call .seek(0) first.")
    return content


def _from_array(array: Any, sampling_rate: int | None) -> tuple[np.ndarray, int, None]:
    samples = to_float(to_numpy(array))
    if sampling_rate is None:
        raise AudioError(
            "An array without its sampling rate; pass it in Hz, as in load_audio(array, 16000)."
        )
    return to_columns(samples), checked_rate(sampling_rate, "sampling_rate"), None


def _agree(given: int | None, found: int, what: str) -> None:
    if given is not None and given != found:
        raise AudioError(
            f"sampling_rate={given}, but {what} says {found} Hz. Leave sampling_rate out: it is "
            "for arrays only. To get another rate, use target_rate."
        )
