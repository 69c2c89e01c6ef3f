"""When an utterance is over: Kaldi's rules on the decoded text, and silero-vad as a second voice.

References
----------
Kaldi, ``online2/online-endpoint.h``: the rules. Silero Team, "Silero VAD" (MIT): the detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptlab.errors import PtlabError

__all__ = ["Endpointing", "SileroVad"]

VAD_RATE, VAD_BLOCK = 16_000, 512  # what silero-vad takes


@dataclass(frozen=True)
class Endpointing:
    """When an utterance is over.

    Silence is time without a letter in what is settled, and, with a detector, without a voice
    as well: both must be silent. One blank frame or a short stop in a word ends nothing.

    Attributes
    ----------
    silence_s : float
        Silence after something was said. Kaldi's 1.2 s is patient; dictation takes 0.8 s.
    empty_s : float
        Silence in which nothing was said; the next utterance then begins anew.
    longest_s : float
        An utterance of this length is over after its last whole word.
    vad : callable, optional
        Makes a detector for a stream from the sampling rate, such as ``SileroVad``.

    Examples
    --------
    >>> rules = Endpointing()
    >>> rules.is_over(silence_s=1.3, length_s=4.0, said=True)
    True
    >>> rules.is_over(silence_s=1.3, length_s=4.0, said=False)
    False
    """

    silence_s: float = 1.2
    empty_s: float = 2.4
    longest_s: float = 20.0
    vad: Callable[[int], Any] | None = None

    def __post_init__(self) -> None:
        for name in ("silence_s", "empty_s", "longest_s"):
            if not getattr(self, name) > 0:
                raise PtlabError(f"{name}={getattr(self, name)}; it must be above 0 seconds.")

    def is_over(self, *, silence_s: float, length_s: float, said: bool) -> bool:
        """Whether one of the rules holds; ``said`` is whether a letter was decoded."""
        return silence_s >= (self.silence_s if said else self.empty_s) or length_s >= self.longest_s


class SileroVad:
    """How long nobody has spoken, by the neural detector of the package silero-vad.

    Its weights are in its wheel, so that nothing is fetched; it hears 16 kHz only.

    Parameters
    ----------
    sampling_rate : int
        Of the model, in Hz.
    threshold : float
        Probability from which a block of 32 ms is speech.

    Raises
    ------
    PtlabError
        If silero-vad is not installed, or the rate is another.

    Examples
    --------
    >>> endpoint = Endpointing(silence_s=0.8, vad=SileroVad)  # a detector for every stream
    """

    def __init__(self, sampling_rate: int = VAD_RATE, threshold: float = 0.5):
        if sampling_rate != VAD_RATE:
            raise PtlabError(f"SileroVad hears 16000 Hz, not {sampling_rate}.")
        try:
            from silero_vad import load_silero_vad
        except ImportError as error:
            raise PtlabError(
                'SileroVad needs the package silero-vad: pip install "ptlab[vad]". Endpointing '
                "works without it, by what is decoded."
            ) from error
        self.threshold, self.silence_s = threshold, 0.0
        self._model, self._rest = load_silero_vad(), np.zeros(0, np.float32)

    def add(self, samples: np.ndarray) -> None:
        """Hear the next samples (samples,); ``silence_s`` then says how long nobody spoke."""
        import torch

        samples = np.concatenate([self._rest, samples.astype(np.float32)])
        whole = len(samples) // VAD_BLOCK * VAD_BLOCK
        self._rest = samples[whole:]
        for block in samples[:whole].reshape(-1, VAD_BLOCK):
            with torch.inference_mode():
                speech = float(self._model(torch.from_numpy(block.copy()), VAD_RATE))
            said = speech >= self.threshold
            self.silence_s = 0.0 if said else self.silence_s + VAD_BLOCK / VAD_RATE
