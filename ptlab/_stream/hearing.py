"""What one stream has heard: at the model's rate, as far back as needed, how loud, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._stream.audio import PacketReader, RunningLevel, SampleWindow
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    from ptlab._stream.setup import StreamSetup

__all__ = ["Hearing"]


class Hearing:
    """The audio side of a stream.

    Examples
    --------
    >>> from ptlab._stream.endpointing import Endpointing
    >>> from ptlab._stream.policies import BufferedCTC
    >>> from ptlab._stream.setup import StreamSetup
    >>> from ptlab.transcribe import Transcriber
    >>> hearing = Hearing(StreamSetup(Transcriber("mini"), BufferedCTC(), Endpointing()))
    >>> hearing.accept(16_000, np.zeros(8_000, "int16"))
    >>> hearing.end, hearing.is_finished
    (8000, False)
    """

    def __init__(self, setup: StreamSetup):
        grid, detector = setup.grid, setup.endpointing.vad
        self._setup, self.is_finished = setup, False
        self._reader, self._sound = PacketReader(grid.sampling_rate), SampleWindow()
        self._level = RunningLevel(grid.hop, grid.sampling_rate)
        self._vad = detector(grid.sampling_rate) if detector else None
        self._listened = 0  # sample up to which level and detector have heard
        self._began: float | None = None  # by the clock, when the first sample was spoken

    @property
    def start(self) -> int:
        """First sample that is still held."""
        return self._sound.start

    @property
    def first_frame(self) -> int:
        """First frame that can still be encoded."""
        return -(-self.start // self._setup.grid.hop)

    @property
    def end(self) -> int:
        """Samples heard so far."""
        return self._sound.end

    @property
    def unvoiced_s(self) -> float:
        """How long the detector has heard nobody; without one it has never heard anybody."""
        return self._vad.silence_s if self._vad is not None else np.inf

    def accept(self, sampling_rate: int, samples: Any) -> None:
        """Hear a packet."""
        if self.is_finished:
            raise PtlabError("The input of this stream is finished; create another stream.")
        self._add(self._reader.read(sampling_rate, samples))

    def finish(self) -> None:
        """Hear the rest that the resampler held back."""
        if not self.is_finished:
            self._add(self._reader.finish())
            self.is_finished = True

    def elapsed_s(self) -> float | None:
        """By the clock, since the first sample was spoken; None without a clock."""
        if self._setup.clock is None or self._began is None:
            return None
        return self._setup.clock() - self._began

    def listen(self, end: int) -> None:
        """Let level and detector hear on up to a sample: by steps, which packets do not change."""
        if end > self._listened:
            new = self._sound.read(self._listened, end)
            self._level.add(new)
            if self._vad is not None:
                self._vad.add(new)
            self._listened = end

    def window(self, begin: int, end: int, *, normalized: bool = False) -> np.ndarray:
        """Samples ``begin`` to ``end``, by the level of all that was listened to if wanted."""
        samples = self._sound.read(min(begin, end), end)
        return self._level.normalize(samples) if normalized else samples

    def forget(self, begin: int, *, unheard: bool = False) -> None:
        """Let go of the samples before ``begin``, even of those that nobody listened to."""
        self._sound.forget(begin)
        if unheard:
            self._listened = max(self._listened, begin)

    def _add(self, samples: np.ndarray) -> None:
        setup = self._setup
        if self._began is None and setup.clock is not None:
            # A packet was spoken before it came; one larger than a chunk is a file, not speech.
            packet_s = len(samples) / setup.grid.sampling_rate
            self._began = setup.clock() - min(packet_s, setup.policy.chunk_s)
        self._sound.add(samples)
