"""Play a recording to a stream and note what happens when: by the audio's clock, or a real one.

>>> import ptlab
>>> log = ptlab.simulate(ptlab.load_corpus("test").audio(0), model="mini")
>>> log.duration_s, log.clock
(3.45, 'audio')
>>> log.to_frame().kind.iloc[-1]
'Final'
>>> all(event.emitted_s <= log.duration_s for event in log.events)
True
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptlab._stream.events import Commit, Final, joined
from ptlab._stream.speech_stream import Event, Stream
from ptlab.audio import load_audio
from ptlab.errors import PtlabError
from ptlab.streaming import StreamingRecognizer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ptlab._stream.policies import BufferedCTC, LocalAgreement, NaiveChunks

__all__ = ["Step", "StreamLog", "simulate"]

CLOCKS = ("audio", "compute")
PACKET_S = 0.1  # what a sound card gives at once, about


@dataclass(frozen=True)
class Step:
    """One step: where in the audio it ended, how much was new, how long it computed; seconds.

    Examples
    --------
    >>> Step(audio_s=1.5, new_s=0.5, compute_s=0.2).is_late
    False
    """

    audio_s: float
    new_s: float
    compute_s: float

    @property
    def is_late(self) -> bool:
        """Whether it computed longer than the audio lasts that it took in."""
        return self.compute_s > self.new_s


@dataclass(frozen=True, repr=False)
class StreamLog:
    """All that a stream told about a recording.

    Attributes
    ----------
    events : tuple of Partial, Commit and Final
    steps : tuple of Step
    duration_s : float
    clock : {"audio", "compute"}

    Examples
    --------
    >>> StreamLog((), (Step(0.5, 0.5, 0.1), Step(1.0, 0.5, 0.1)), 1.0, "audio")
    StreamLog('', 2 steps, 1.00 s, RTF 0.20)
    """

    events: tuple[Event, ...]
    steps: tuple[Step, ...]
    duration_s: float
    clock: str

    def __repr__(self) -> str:
        facts = f"{len(self.steps)} steps, {self.duration_s:.2f} s, RTF {self.rtf:.2f}"
        return f"StreamLog({self.text!r}, {facts})"

    @property
    def committed(self) -> str:
        """The text as it was settled word by word."""
        return " ".join(e.text for e in self.events if isinstance(e, Commit))

    @property
    def text(self) -> str:
        """The text after the refinement of each utterance."""
        return joined([w for e in self.events if isinstance(e, Final) for w in e.words])

    @property
    def rtf(self) -> float:
        """Real-time factor: computing over the duration; above 1 the machine cannot keep up."""
        return sum(s.compute_s for s in self.steps) / self.duration_s if self.duration_s else 0.0

    def to_frame(self) -> pd.DataFrame:
        """A row an event: kind, utterance, text, audio_s, emitted_s."""
        import pandas as pd

        columns = ["kind", "utterance", "text", "audio_s", "emitted_s"]
        rows = [[type(e).__name__, *(getattr(e, c) for c in columns[1:])] for e in self.events]
        return pd.DataFrame(rows, columns=columns)


def simulate(
    waveform: Any,
    policy: BufferedCTC | LocalAgreement | NaiveChunks | None = None,
    *,
    model: Any = None,
    sampling_rate: int | None = None,
    clock: str = "audio",
    **options: Any,
) -> StreamLog:
    """Play a recording to a stream, as fast as the machine can.

    Parameters
    ----------
    waveform
        Whatever `ptlab.load_audio` reads.
    policy, model
        As in `StreamingRecognizer`.
    sampling_rate : int, optional
        For arrays.
    clock : {"audio", "compute"}
        ``"audio"``: as if computing took no time, so that the log is the same on every machine.
        ``"compute"``: packets come when they would from a microphone and computing takes the time
        that it takes, waiting left out; a slow machine falls behind as it would live.
    **options
        Of `StreamingRecognizer`.

    Examples
    --------
    >>> import numpy as np
    >>> simulate(np.zeros(16_000, "int16"), model="mini", sampling_rate=16_000).events
    ()
    """
    if clock not in CLOCKS:
        raise PtlabError(f"clock={clock!r}; choose one of {', '.join(CLOCKS)}.")
    seconds = _Hurried() if clock == "compute" else None
    recognizer = StreamingRecognizer(model, policy, clock=seconds, **options)
    rate = recognizer.setup.grid.sampling_rate
    sound = load_audio(waveform, sampling_rate, target_rate=rate).waveform
    events: list[Event] = []
    steps = list(_play(recognizer.create_stream(), sound, rate, seconds, events))
    return StreamLog(tuple(events), tuple(steps), len(sound) / rate, clock)


class _Hurried:
    """A real clock that can leap over the time in which one would wait."""

    def __init__(self) -> None:
        self._leapt = 0.0

    def __call__(self) -> float:
        return time.perf_counter() + self._leapt

    def wait_until(self, moment: float) -> None:
        self._leapt += max(0.0, moment - self())


def _play(
    stream: Stream, sound: np.ndarray, rate: int, clock: _Hurried | None, events: list[Event]
) -> Iterator[Step]:
    """Steps; every packet is given when its time has come and before a step that is later."""
    packet, start = max(1, round(PACKET_S * rate)), clock() if clock else 0.0
    for begin in range(0, len(sound), packet):
        end = min(begin + packet, len(sound))
        while clock and stream.is_ready and clock() < start + end / rate:
            yield _step(stream, events)
        if clock:
            clock.wait_until(start + end / rate)
        stream.accept_waveform(rate, sound[begin:end])
        while not clock and stream.is_ready:
            yield _step(stream, events)
    stream.input_finished()
    while stream.is_ready:
        yield _step(stream, events)


def _step(stream: Stream, events: list[Event]) -> Step:
    before_s, began = stream.position_s, time.perf_counter()
    events += stream.decode()
    if stream.is_endpoint:
        events += filter(None, [stream.reset()])
    return Step(stream.position_s, stream.position_s - before_s, time.perf_counter() - began)
