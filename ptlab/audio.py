"""Sound in, 16 kHz mono float32 out; what cannot be used is refused with advice."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ptlab.errors import AudioError

__all__ = ["SAMPLE_RATE", "Audio", "load_audio", "normalize", "resample"]

SAMPLE_RATE = 16_000  # Hz; what wav2vec2 models are trained on
MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; outside is a mistake, not a recording
SILENCE_PEAK = 10 ** (-60 / 20)  # a peak below -60 dBFS is called silent
MAX_FLOAT_PEAK = 16.0  # float audio beyond this was never divided by its full scale
MAX_CHANNELS = 32


@dataclass(frozen=True, eq=False, repr=False)
class Audio:
    """A mono recording and where it came from.

    Attributes
    ----------
    waveform : ndarray (samples,), float32
        Full scale is 1.0.
    sampling_rate : int
        Of ``waveform``, in Hz.
    original_sampling_rate, original_channels : int
        As they were before resampling and mixing.
    source : str or None
        The file, when there was one.
    """

    waveform: np.ndarray
    sampling_rate: int
    original_sampling_rate: int
    original_channels: int
    source: str | None = None

    def __repr__(self) -> str:
        origin = f", from {self.original_sampling_rate} Hz" if self.was_resampled else ""
        silent = ", silent" if self.is_silent else ""
        return f"Audio({self.duration_s:.2f} s, {self.sampling_rate} Hz{origin}{silent})"

    def __len__(self) -> int:
        return len(self.waveform)

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / self.sampling_rate

    @property
    def was_resampled(self) -> bool:
        return self.sampling_rate != self.original_sampling_rate

    @property
    def is_silent(self) -> bool:
        """Whether the peak lies below -60 dBFS: nothing that a microphone would call speech."""
        return bool(np.abs(self.waveform).max() < SILENCE_PEAK)


def load_audio(
    source: Any,
    sampling_rate: int | None = None,
    *,
    target_rate: int = SAMPLE_RATE,
    channel: int | None = None,
) -> Audio:
    """Read sound from nearly anything.

    Parameters
    ----------
    source
        A path; bytes or a binary file object holding an audio file; an array or tensor
        ``(samples,)``, ``(channels, samples)`` or ``(samples, channels)`` (the shorter axis is
        that of the channels); a dict with ``array`` and ``sampling_rate``, or with ``bytes`` or
        ``path``, as Hugging Face datasets give; or an `Audio`. Integers are divided by their full
        scale (uint8 is unsigned, as in WAV). Nothing that is passed in is changed.
    sampling_rate : int, optional
        Of an array, in Hz. Files know their own.
    target_rate : int
        Rate of the result, in Hz.
    channel : int, optional
        Take this channel (from 0) instead of the mean of all.

    Returns
    -------
    Audio

    Raises
    ------
    AudioError
        If there is no such file, it is not audio, it is empty, holds NaN or infinite values, has
        an unusable shape, or its rate is missing or absurd.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000)
    >>> audio = load_audio(tone, sampling_rate=8_000)
    >>> audio
    Audio(1.00 s, 16000 Hz, from 8000 Hz)
    >>> audio.waveform.dtype, audio.waveform.shape
    (dtype('float32'), (16000,))
    """
    _check_rate(target_rate)
    if isinstance(source, Audio):
        return _resampled(source, target_rate)
    if isinstance(source, dict):
        return _from_dict(source, sampling_rate, target_rate, channel)
    if _is_array(source):
        if sampling_rate is None:
            raise AudioError(
                "An array does not say how fast it was sampled. Give its rate in Hz: "
                "load_audio(array, sampling_rate=16_000)."
            )
        return _build(_to_numpy(source), sampling_rate, target_rate, channel, None)
    data, rate, name = _read(source)
    return _build(data, rate, target_rate, channel, name)


def resample(waveform: np.ndarray, orig_rate: int, target_rate: int) -> np.ndarray:
    """Resample ``(samples,)`` with soxr's high quality; the same array if the rates are equal.

    Examples
    --------
    >>> resample(np.zeros(44_100, np.float32), 44_100, 16_000).shape
    (16000,)
    """
    _check_rate(orig_rate)
    _check_rate(target_rate)
    if orig_rate == target_rate:
        return waveform
    import soxr

    return soxr.resample(np.asarray(waveform, np.float32), orig_rate, target_rate, quality="HQ")


def normalize(waveform: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the samples given, as ``Wav2Vec2FeatureExtractor`` does.

    Give the valid samples only: padding would change both.

    Examples
    --------
    >>> y = normalize(np.array([1.0, 3.0], dtype=np.float32))
    >>> y.round(3).tolist()
    [-1.0, 1.0]
    """
    x = np.asarray(waveform, np.float32)
    return (x - x.mean()) / np.sqrt(x.var() + np.float32(1e-7))


def _build(
    data: np.ndarray, rate: int, target_rate: int, channel: int | None, name: str | None
) -> Audio:
    _check_rate(rate)
    channels = _channels_first(_to_float(data))
    count = len(channels)
    if channel is not None and not 0 <= channel < count:
        raise AudioError(f"No channel {channel}: there are {count}, numbered from 0.")
    mono = channels.mean(axis=0) if channel is None else channels[channel]
    if not np.isfinite(mono).all():
        bad = int((~np.isfinite(mono)).sum())
        raise AudioError(
            f"{bad} of {len(mono)} samples are NaN or infinite. Repair or cut them first, "
            "for example with numpy.nan_to_num."
        )
    mono = np.ascontiguousarray(mono, dtype=np.float32)
    return _resampled(Audio(mono, int(rate), int(rate), count, name), target_rate)


def _resampled(audio: Audio, target_rate: int) -> Audio:
    if audio.sampling_rate == target_rate:
        return audio
    waveform = resample(audio.waveform, audio.sampling_rate, target_rate)
    if len(waveform) == 0:
        raise AudioError(f"{len(audio)} samples are too few to resample to {target_rate} Hz.")
    return Audio(
        waveform, target_rate, audio.original_sampling_rate, audio.original_channels, audio.source
    )


def _to_float(data: np.ndarray) -> np.ndarray:
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    if np.issubdtype(data.dtype, np.signedinteger):
        return data.astype(np.float64) / -float(np.iinfo(data.dtype).min)
    if not np.issubdtype(data.dtype, np.floating):
        raise AudioError(
            f"Samples of type {data.dtype}; expected float, int8 to int32, or uint8."
        )
    values = data.astype(np.float32) if data.dtype == np.float16 else data
    peak = float(np.nanmax(np.abs(values))) if values.size else 0.0
    if np.isfinite(peak) and peak > MAX_FLOAT_PEAK:
        raise AudioError(
            f"Float samples reach {peak:.0f}, but full scale is 1.0. Divide by the full scale of "
            "their origin (32768 for 16 bits) or pass the integers themselves."
        )
    return values


def _channels_first(data: np.ndarray) -> np.ndarray:
    if data.ndim not in (1, 2):
        raise AudioError(
            f"Audio of shape {data.shape}; expected (samples,), (channels, samples) or "
            "(samples, channels). Take one recording out of a batch: audio[0]."
        )
    if data.size == 0:
        raise AudioError("The audio is empty: it has no samples.")
    if data.ndim == 1:
        return data[None]
    channels = data if data.shape[0] <= data.shape[1] else data.T
    if len(channels) > MAX_CHANNELS:
        raise AudioError(
            f"Audio of shape {data.shape} would have {len(channels)} channels; more than "
            f"{MAX_CHANNELS} is taken for a batch or a spectrogram. Pass one waveform."
        )
    return channels


def _check_rate(rate: Any) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)):
        raise AudioError(f"A sampling rate of {rate!r}; expected a number in Hz, such as 16000.")
    if not MIN_RATE <= rate <= MAX_RATE or int(rate) != rate:
        raise AudioError(
            f"A sampling rate of {rate} Hz; expected a whole number from {MIN_RATE} to {MAX_RATE}."
        )


def _is_array(source: Any) -> bool:
    if isinstance(source, (np.ndarray, list, tuple)):
        return True
    return type(source).__module__.partition(".")[0] == "torch"


def _to_numpy(source: Any) -> np.ndarray:
    if hasattr(source, "detach"):
        tensor = source.detach().cpu()
        return (tensor.float() if tensor.dtype.is_floating_point else tensor).numpy()
    return np.asarray(source)


def _from_dict(
    source: dict, sampling_rate: int | None, target_rate: int, channel: int | None
) -> Audio:
    options = {"target_rate": target_rate, "channel": channel}
    if source.get("array") is not None:
        return load_audio(source["array"], source.get("sampling_rate", sampling_rate), **options)
    inner = source.get("bytes") or source.get("path")
    if inner is None:
        raise AudioError(
            f"A dict with the keys {sorted(source)}; expected 'array' and 'sampling_rate', or "
            "'bytes' or 'path'."
        )
    return load_audio(inner, **options)


def _read(source: Any) -> tuple[np.ndarray, int, str | None]:
    """Samples, rate and name of a path, bytes or file object."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if path.is_dir():
            raise AudioError(f"{path} is a folder; give one audio file.")
        if not path.is_file():
            raise AudioError(f"No file {path}. Check the name and the folder.")
        return *_decode(path.read_bytes(), str(path)), str(path)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return *_decode(bytes(source), "the bytes"), None
    if hasattr(source, "read"):
        content = source.read()
        if not isinstance(content, bytes):
            raise AudioError("The file object gives text; open it with mode 'rb'.")
        return *_decode(content, str(getattr(source, "name", "the file object"))), None
    raise AudioError(
        f"A {type(source).__name__} is not audio; expected a path, bytes, a file object, an "
        "array, a tensor, or a dict with 'array' and 'sampling_rate'."
    )


def _decode(content: bytes, name: str) -> tuple[np.ndarray, int]:
    import soundfile

    if not content:
        raise AudioError(f"{name} is empty (0 bytes).")
    try:
        return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        return _decode_with_ffmpeg(content, name, error)


def _decode_with_ffmpeg(content: bytes, name: str, error: Exception) -> tuple[np.ndarray, int]:
    """M4A, WebM and others; at their own rate is not known here, so at 48 kHz (no loss below)."""
    import soundfile

    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise AudioError(
            f"{name} is not WAV, FLAC, Ogg, Opus or MP3 ({error}). If it is M4A, WebM or video, "
            "install ffmpeg; else the file is damaged or not audio."
        ) from error
    command = [ffmpeg, "-v", "error", "-i", "pipe:0", "-f", "wav", "-ar", "48000", "pipe:1"]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    if done.returncode or len(done.stdout) <= 44:
        done = _ffmpeg_from_file(command, content)
    try:
        return soundfile.read(io.BytesIO(done.stdout), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        why = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no audio stream"]
        raise AudioError(
            f"{name} is damaged or not audio: neither soundfile ({error}) nor ffmpeg "
            f"({why[0]}) can read it."
        ) from error


def _ffmpeg_from_file(command: list[str], content: bytes) -> subprocess.CompletedProcess:
    """M4A may keep its index at the end: then ffmpeg has to seek, which a pipe cannot."""
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".audio") as file:
        file.write(content)
        file.flush()
        command = [file.name if part == "pipe:0" else part for part in command]
        return subprocess.run(command, capture_output=True, check=False)
