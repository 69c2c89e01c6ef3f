"""Captions of a microphone: packets in, captions out, computed in a thread of their own.

Whoever brings the packets only puts them into a queue. If they waited for the model elsewhere, in
the notebook's own queue of messages, the stream would not see that it is late.
"""

from __future__ import annotations

import base64
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ptlab._speech.samples import SILENCE_PEAK
from ptlab._stream.events import Final, Partial
from ptlab._stream.speech_stream import Event, Stream

if TYPE_CHECKING:
    from ptlab.streaming import StreamingRecognizer

__all__ = ["Captions", "LiveTake", "pcm_samples", "updated"]

MUTED_S = 3.0  # of nothing but silence, before the reader is asked about the microphone
FULL_SCALE = 32_768  # of 16-bit samples


@dataclass(frozen=True)
class Captions:
    """What is on the screen: utterances that are over, and the one under way in its two parts.

    Examples
    --------
    >>> Captions(("bom dia",), "tudo", "be").text
    'bom dia\\ntudo be'
    """

    lines: tuple[str, ...] = ()
    committed: str = ""
    tentative: str = ""

    @property
    def text(self) -> str:
        """All of it, an utterance a line."""
        last = f"{self.committed} {self.tentative}".strip()
        return "\n".join((*self.lines, last) if last else self.lines)


def updated(captions: Captions, event: Event) -> Captions:
    """Captions after an event.

    Examples
    --------
    >>> from ptlab.transcription import Word
    >>> words = (Word("bom", 0.1, 0.4, 0.9), Word("di", 0.5, 0.6, 0.3))
    >>> updated(Captions(), Partial(words, 1, 0, audio_s=1.0, emitted_s=1.0))
    Captions(lines=(), committed='bom', tentative='di')
    """
    if isinstance(event, Final):
        return Captions((*captions.lines, event.text) if event.text else captions.lines)
    if isinstance(event, Partial):
        return replace(captions, committed=event.committed, tentative=event.tentative)
    return captions


def pcm_samples(text: str) -> np.ndarray:
    """Samples (samples,) int16 of mono little-endian PCM that came as base64.

    Examples
    --------
    >>> pcm_samples("AQD//w==").tolist()
    [1, -1]
    """
    return np.frombuffer(base64.b64decode(text), "<i2")


class LiveTake:
    """One recording, from start to stop.

    `accept` and `finish` may be called from any thread, and return at once; `run` computes until
    the take is over.

    Parameters
    ----------
    recognizer : StreamingRecognizer
    sampling_rate : int
        Of the packets, in Hz.
    show : callable
        Called, in the thread of `run`, with the take whenever something is new.

    Attributes
    ----------
    captions : Captions
    status : str
        What the speaker should know: silence, lateness, audio that was left out or lost.
    heard_s : float
        Audio that the stream has taken.

    Examples
    --------
    >>> from ptlab.streaming import StreamingRecognizer
    >>> take = LiveTake(StreamingRecognizer("mini"), 48_000, show=lambda take: None)
    >>> take.accept(0, np.zeros(48_000, "int16"))
    >>> take.finish()
    >>> take.run()
    >>> take.heard_s, take.captions.text
    (1.0, '')
    """

    def __init__(
        self,
        recognizer: StreamingRecognizer,
        sampling_rate: int,
        show: Callable[[LiveTake], None],
    ):
        self.captions, self.status, self.heard_s = Captions(), "", 0.0
        self._recognizer, self._rate, self._show = recognizer, sampling_rate, show
        self._packets: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._next = self._lost = 0  # samples
        self._peak = 0

    def accept(self, begin: int, samples: np.ndarray) -> None:
        """Take a packet (samples,) int16 that begins at this sample of the recording."""
        self._lost += begin - self._next
        self._next = begin + len(samples)
        self._packets.put(samples)

    def finish(self) -> None:
        """No more packets will come."""
        self._packets.put(None)

    def run(self) -> None:
        """Recognise until `finish`; what the stream raises is raised here."""
        stream = self._recognizer.create_stream()
        for samples in self._rounds():
            stream.accept_waveform(self._rate, samples)
            self.heard_s += len(samples) / self._rate
            self._peak = max(self._peak, int(np.abs(samples.astype(np.int32)).max(initial=0)))
            self._step(stream)
        stream.input_finished()
        self._step(stream)
        self._tell(" ".join(["Done.", *self._notes(stream)]))

    def _rounds(self) -> Iterator[np.ndarray]:
        """All packets that wait, as one, again and again: the stream must see how late it is."""
        while True:
            packets = [self._packets.get()]
            while packets[-1] is not None and not self._packets.empty():
                packets.append(self._packets.get())
            whole = [packet for packet in packets if packet is not None]
            if whole:
                yield np.concatenate(whole)
            if packets[-1] is None:
                return

    def _step(self, stream: Stream) -> None:
        self._tell(" ".join(self._notes(stream)))
        for event in stream.events():
            self.captions = updated(self.captions, event)
            self._show(self)

    def _tell(self, status: str) -> None:
        self.status = status
        self._show(self)

    def _notes(self, stream: Stream) -> list[str]:
        notes = []
        if self.heard_s >= MUTED_S and self._peak < SILENCE_PEAK * FULL_SCALE:
            notes.append("Only silence so far: is the microphone muted?")
        if stream.lag_s > stream.setup.max_lag_s:
            notes.append(f"This computer is {stream.lag_s:.0f} s behind.")
        if stream.dropped_s:
            notes.append(f"It is too slow and left out {stream.dropped_s:.1f} s.")
        if self._lost:
            notes.append(f"{self._lost / self._rate:.1f} s were lost on the way from the browser.")
        return notes
