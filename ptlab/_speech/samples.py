"""Arrays to checked samples: types to float32, channels to columns, columns to mono; frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptlab.errors import AudioError

__all__ = [
    "checked_rate",
    "checked_samples",
    "frame_count",
    "is_silent",
    "mean_of_channels",
    "to_columns",
    "to_float",
    "to_mono",
    "to_numpy",
]

RATE_RANGE = (1_000, 768_000)  # Hz; outside of it the rate is a mistake
MAX_CHANNELS = 32  # an array with more rows *and* columns is no sound
SILENCE_PEAK = 1e-3  # -60 dBFS
# Speech of unit variance peaks near 15; int16 counts kept as floats peak in the thousands.
MAX_PEAK = 100.0
NO_SAMPLES = "The sound is empty: it has no samples. Check the file or the recording."
CANCELLED = (
    "The channels cancel each other: their mean is silent (one is the other turned around). "
    "Choose one with channel=0."
)
_FULL_SCALE = {"int8": 2**7, "int16": 2**15, "int32": 2**31}


def to_numpy(array: Any) -> np.ndarray:
    """An array, list of numbers or torch tensor (any device, bfloat16 too) as ndarray.

    Examples
    --------
    >>> to_numpy([0.5, 0.25])
    array([0.5 , 0.25])
    """
    if type(array).__module__.partition(".")[0] == "torch" and hasattr(array, "detach"):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    if not isinstance(array, list | np.ndarray) and not hasattr(array, "__array__"):
        raise AudioError(
            f"Cannot read sound from {type(array).__name__}; accepted are a path, bytes, an open "
            "binary file, an array or tensor with its sampling_rate, or a dict of a data set.",
            "unsupported",
        )
    try:
        return np.asarray(array)
    except ValueError as error:
        raise AudioError("A list of lists of different lengths; give one channel.") from error


def to_float(array: np.ndarray) -> np.ndarray:
    """Samples as float32, integers divided by the full scale of their type.

    Examples
    --------
    >>> to_float(np.array([-32768, 16384], np.int16)).tolist()
    [-1.0, 0.5]
    >>> to_float(np.array([0, 128], np.uint8)).tolist()
    [-1.0, 0.0]
    """
    name = array.dtype.name
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, which `checked_samples` refuses
            return array.astype(np.float32)
    if name == "uint8":
        return (array.astype(np.float32) - 128) / 128
    if name in _FULL_SCALE:
        return (array / _FULL_SCALE[name]).astype(np.float32)
    if not array.size:
        raise AudioError("The array is empty; give at least one sample.", "empty")
    raise AudioError(
        f"Samples of type {name}, whose full scale is not known; accepted are int8, int16, int32, "
        "uint8 and floats. For 16-bit counts use array.astype('int16').",
        "unsupported",
    )


def to_columns(array: np.ndarray) -> np.ndarray:
    """(samples, channels) by the rule that the shorter axis is the channels.

    Examples
    --------
    >>> to_columns(np.zeros((2, 16_000))).shape
    (16000, 2)
    """
    if array.ndim == 1:
        return array[:, None]
    if array.ndim != 2:
        raise AudioError(
            f"An array of shape {array.shape}; accepted are (samples,), (channels, samples) and "
            "(samples, channels). Load the items of a batch one by one."
        )
    rows, columns = array.shape
    if min(rows, columns) > MAX_CHANNELS or (rows == columns > 1):
        raise AudioError(
            f"An array of shape {array.shape}: which axis is the channels? The shorter one is "
            f"taken, up to {MAX_CHANNELS}. Give one channel, array[0], or load a batch one by one."
        )
    return array if columns < rows else array.T


def checked_samples(samples: np.ndarray) -> np.ndarray:
    """The same samples, if there are any, all are finite and none is far out of range.

    Examples
    --------
    >>> checked_samples(np.array([[0.5]])).shape
    (1, 1)
    """
    if not samples.size:
        raise AudioError(NO_SAMPLES, "empty")
    if not np.isfinite(samples).all():
        bad = int(np.sum(~np.isfinite(samples)))
        raise AudioError(
            f"{bad} of {samples.size} samples are NaN or infinite; find out where they come from, "
            "or replace them with numpy.nan_to_num."
        )
    peak = float(np.abs(samples).max())
    if peak > MAX_PEAK:
        raise AudioError(
            f"Float samples up to {peak:.0f}, but full scale is 1; integer counts kept as floats "
            "must be divided by 32768 (16 bits), or use array.astype('int16').",
            "unsupported",
        )
    return samples


def to_mono(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """(samples, channels) -> (samples,): the mean of the channels, or one of them.

    Examples
    --------
    >>> to_mono(np.array([[0.5, 1.0]]), None).tolist(), to_mono(np.array([[0.5, 1.0]]), 1).tolist()
    ([0.75], [1.0])
    """
    count = samples.shape[1]
    if channel is not None:
        if channel not in range(count):
            raise AudioError(f"channel={channel!r}, but there are {count}, counted from 0.")
        return samples[:, channel]
    waveform = mean_of_channels(samples)
    if count > 1 and is_silent(waveform) and not is_silent(samples[:, 0]):
        raise AudioError(CANCELLED, "unsupported")
    return waveform


def mean_of_channels(samples: np.ndarray) -> np.ndarray:
    """(samples, channels) -> (samples,), float32.

    Examples
    --------
    >>> mean_of_channels(np.array([[0.5, 1.0]])).tolist()
    [0.75]
    """
    return samples.mean(axis=1, dtype=np.float32)


def is_silent(waveform: np.ndarray) -> bool:
    """Whether no sample (samples,) is 0.001 (-60 dBFS) or more away from the mean.

    Examples
    --------
    >>> is_silent(np.full(10, 0.5)), is_silent(np.array([0.0, 0.01]))
    (True, False)
    """
    return not waveform.size or float(np.abs(waveform - waveform.mean()).max()) < SILENCE_PEAK


def checked_rate(rate: Any, name: str) -> int:
    """A sampling rate in Hz as an int, if it is one.

    Examples
    --------
    >>> checked_rate(16_000.0, "sampling_rate")
    16000
    """
    low, high = RATE_RANGE
    number = not isinstance(rate, bool) and isinstance(rate, int | float | np.number)
    if not number or rate != rate or not low <= rate <= high or int(rate) != rate:
        by_name = "" if number else " Other arguments go by name, as in model='mini'."
        raise AudioError(
            f"{name}={rate!r}; expected a whole number of Hz from {low} to {high}, often 16000, "
            f"44100 or 48000.{by_name}",
            "unsupported",
        )
    return int(rate)


def frame_count(samples: int, receptive_field: int, hop: int) -> int:
    """Frames that convolutions give for so many samples; 0 below their receptive field.

    Examples
    --------
    >>> [frame_count(n, 400, 320) for n in (399, 400, 719, 720, 16_000)]
    [0, 1, 1, 2, 49]
    """
    return max(0, (samples - receptive_field) // hop + 1)
