"""Recognise speech while it is spoken, with a model that was made for whole files.

>>> import numpy as np
>>> import ptlab
>>> sound = ptlab.load_corpus("test").audio(0)
>>> packets = np.array_split(sound.waveform, 30)  # as they would come from a microphone
>>> recognizer = ptlab.StreamingRecognizer("mini", clock=None)
>>> events = list(recognizer.stream(packets, 16_000))
>>> seen = [event.text for event in events if isinstance(event, ptlab.Partial)]
>>> len(seen) > 2, isinstance(events[-1], ptlab.Final)
(True, True)

A `StreamingRecognizer` holds the model and the choices, a `Stream` the state of one speaker. Every
step encodes a window of the last seconds, of which a policy (`ptlab._stream.policies`) says what is
settled; what is settled never changes, until the utterance is over and is looked at once more.

Real streaming needs a model that was trained for it (XLSR-Transducer, arXiv 2407.04439); this is
the best that can be had from one that was not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ptlab._stream.endpointing import Endpointing, SileroVad
from ptlab._stream.events import Commit, Final, Partial
from ptlab._stream.policies import BufferedCTC, LocalAgreement, NaiveChunks
from ptlab._stream.setup import StreamSetup
from ptlab._stream.speech_stream import Event, Stream, decode_together
from ptlab.transcribe import Transcriber, as_transcriber

if TYPE_CHECKING:
    from ptlab._speech.speech_model import CTCModel

__all__ = [
    "BufferedCTC",
    "Commit",
    "Endpointing",
    "Final",
    "LocalAgreement",
    "NaiveChunks",
    "Partial",
    "SileroVad",
    "Stream",
    "StreamingRecognizer",
]


class StreamingRecognizer:
    """A model and how it listens; `create_stream` makes the state of one speaker.

    Parameters
    ----------
    model
        What `Transcriber` takes, or a `Transcriber`.
    policy : BufferedCTC, LocalAgreement or NaiveChunks
    endpointing : Endpointing
        When an utterance is over.
    refine_s : float
        Of an utterance that is over, the last ``refine_s`` are decoded once more as a whole, and
        that reading is taken if the model is surer of it; 0 leaves that out.
    late : {"coalesce", "drop", "raise"}
        What is done when more than ``max_lag_s`` wait that should have been decoded: take several
        chunks in one step, which is cheaper and less exact; leave them out, which is counted in
        ``Stream.dropped_s`` and logged; or raise `PtlabError`.
    max_lag_s : float
    clock : callable or None
        Gives seconds. Without one, times are positions in the audio and nothing is ever late: for
        files, tests and comparisons.

    Examples
    --------
    >>> import numpy as np
    >>> recognizer = StreamingRecognizer("mini", clock=None)
    >>> for event in recognizer.stream([np.zeros(16_000, "int16")] * 3, 16_000):
    ...     print(event)  # silence gives nothing
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | CTCModel | Transcriber | None = None,
        policy: BufferedCTC | LocalAgreement | NaiveChunks | None = None,
        *,
        endpointing: Endpointing | None = None,
        refine_s: float = 15.0,
        late: str = "coalesce",
        max_lag_s: float = 2.0,
        clock: Callable[[], float] | None = time.monotonic,
        device: str = "auto",
        dtype: str = "auto",
    ):
        self.setup = StreamSetup(
            as_transcriber(model, device=device, dtype=dtype), policy or BufferedCTC(),
            endpointing or Endpointing(), refine_s, late, max_lag_s, clock,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"StreamingRecognizer({self.setup.model!r}, {self.setup.policy!r})"

    def create_stream(self) -> Stream:
        """A stream that has heard nothing yet; any number of them share the model."""
        return Stream(self.setup)

    def decode(self, streams: Sequence[Stream]) -> list[list[Event]]:
        """One step of every stream that is ready, in one batch: the events of each.

        The text of a stream is the same alone and among others.
        """
        return decode_together(streams)

    def stream(self, chunks: Iterable[Any], sampling_rate: int) -> Iterator[Event]:
        """Events of one stream, as its packets come; they may have any size.

        Parameters
        ----------
        chunks : iterable of ndarray (samples,) or (samples, channels)
            Such as a generator that reads a microphone.
        sampling_rate : int
            Of the packets, in Hz.
        """
        stream = self.create_stream()
        for samples in chunks:
            stream.accept_waveform(sampling_rate, samples)
            yield from stream.events()
        stream.input_finished()
        yield from stream.events()
