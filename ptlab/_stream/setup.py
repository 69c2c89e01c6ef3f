"""What all streams of a recogniser share: the model and the choices, checked once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ptlab._stream.endpointing import Endpointing
from ptlab._stream.grid import Grid
from ptlab._stream.policies import BufferedCTC, LocalAgreement, NaiveChunks
from ptlab.errors import ModelError, PtlabError

if TYPE_CHECKING:
    from ptlab._speech.speech_model import CTCModel
    from ptlab.transcribe import Transcriber

__all__ = ["StreamSetup"]

LATE = ("coalesce", "drop", "raise")


@dataclass(frozen=True)
class StreamSetup:
    """The arguments of `ptlab.streaming.StreamingRecognizer`, which explains them.

    Examples
    --------
    >>> from ptlab.transcribe import Transcriber
    >>> setup = StreamSetup(Transcriber("mini"), BufferedCTC(), Endpointing())
    >>> setup.grid
    Grid(hop=320, receptive_field=400, sampling_rate=16000)
    """

    transcriber: Transcriber
    policy: BufferedCTC | LocalAgreement | NaiveChunks
    endpointing: Endpointing
    refine_s: float = 15.0
    late: str = "coalesce"
    max_lag_s: float = 2.0
    clock: Callable[[], float] | None = None

    def __post_init__(self) -> None:
        if self.late not in LATE:
            raise PtlabError(f"late={self.late!r}; choose one of {', '.join(LATE)}.")
        if not self.refine_s >= 0:
            raise PtlabError(f"refine_s={self.refine_s}; expected 0 or more seconds.")
        if not self.max_lag_s > 0:
            raise PtlabError(f"max_lag_s={self.max_lag_s}; expected more than 0 seconds.")
        model, grid = self.model, self.grid
        if any(model.frames(grid.samples(n)) != n for n in (1, 2, 3, 50)):
            raise ModelError(
                f"{model.name!r} does not give one frame for each hop of {model.hop} samples, so "
                "that its windows cannot be joined frame by frame. Transcribe files with it, or "
                "stream with a wav2vec2, HuBERT or WavLM model without an adapter."
            )

    @property
    def model(self) -> CTCModel:
        """The model of the transcriber."""
        return self.transcriber.model

    @cached_property
    def grid(self) -> Grid:
        """Frames and samples of the model."""
        return Grid(self.model.hop, self.model.receptive_field, self.model.sampling_rate)

    @property
    def pre_normalizes(self) -> bool:
        """Whether a stream normalises by all that it has heard, in the place of the model."""
        return not self.policy.alone and getattr(self.model, "normalizes", False)

    def log_probs(
        self, windows: Sequence[np.ndarray], *, normalized: bool = False
    ) -> list[np.ndarray]:
        """Log-probs of windows, run together; as `SpeechModel.log_probs`."""
        return self.model.log_probs(windows, **({"normalized": True} if normalized else {}))
