"""The state of one speaker's stream: audio by packets in, steps of fixed places, events out.

Steps depend on positions in the audio and never on the packets: each encodes a window that ends a
chunk further. Windows begin and end on multiples of the hop, and the rest of the receptive field is
heard with them, so that no frame is lost or heard twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._stream.events import Commit, Final, Partial, joined
from ptlab._stream.hearing import Hearing
from ptlab._stream.policies import Memory
from ptlab._stream.refinement import STEP_S, changes, refined
from ptlab._stream.setup import StreamSetup
from ptlab._stream.text import StreamText
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    from ptlab.transcription import Word

__all__ = ["Event", "Stream", "Window", "decode_together"]

logger = logging.getLogger("ptlab")

COALESCED_S = 10.0  # most new audio in one step, however late it is
PAUSE_S = 0.3  # without a letter: the word before it is over if the utterance is

Event = Partial | Commit | Final


@dataclass(frozen=True)
class Window:
    """Samples to encode, the frame of the stream at which they begin, whether they are the last.

    Examples
    --------
    >>> Window(np.zeros(16_080), begin=50, last=False).begin
    50
    """

    samples: np.ndarray
    begin: int
    last: bool


class Stream:
    """One speaker; made by `ptlab.streaming.StreamingRecognizer.create_stream`.

    Use it from one thread at a time: a microphone's thread puts its packets into a queue.

    Attributes
    ----------
    utterance : int
        Number of the utterance under way, from 0.
    dropped_s : float
        Audio that was left out because the machine was too slow, with ``late="drop"``.

    Examples
    --------
    >>> from ptlab._stream.endpointing import Endpointing
    >>> from ptlab._stream.policies import BufferedCTC
    >>> from ptlab.transcribe import Transcriber
    >>> stream = Stream(StreamSetup(Transcriber("mini"), BufferedCTC(), Endpointing()))
    >>> stream.accept_waveform(8_000, np.zeros(8_000, "int16"))
    >>> stream.input_finished()
    >>> while stream.is_ready:
    ...     events = stream.decode()
    >>> stream.result.text, stream.is_endpoint, stream.reset()
    ('', True, None)
    """

    def __init__(self, setup: StreamSetup):
        self.setup, self._grid = setup, setup.grid
        policy = setup.policy
        self.utterance, self.dropped_s = 0, 0.0
        self._chunk = max(1, int(self._grid.frames_in(policy.chunk_s)))
        self._left = self._grid.frames_in(policy.left_s)
        self._hearing = Hearing(setup)
        self._text = StreamText(setup.transcriber, self._grid)
        self._memory: Memory = []
        self._owed: tuple[Word, ...] = ()  # settled, but not told yet
        self._closed = False  # whether the last step was made
        self._shown: tuple[str, int] = ("", 0)

    def accept_waveform(self, sampling_rate: int, samples: Any) -> None:
        """Take a packet of any size; it is only kept until `decode`.

        Parameters
        ----------
        sampling_rate : int
            In Hz; the same for all packets of a stream.
        samples : array (samples,) or (samples, channels)
            Integers or floats; a torch tensor is fine.

        Raises
        ------
        AudioError
            If the samples are no sound or the rate changes.
        PtlabError
            After `input_finished`.
        """
        self._hearing.accept(sampling_rate, samples)

    def input_finished(self) -> None:
        """Say that no more audio comes; the rest is then decoded. Twice is harmless."""
        self._hearing.finish()

    @property
    def is_ready(self) -> bool:
        """Whether there is enough audio for a step."""
        return not self._closed and (self._hearing.is_finished or self._waiting >= self._chunk)

    @property
    def is_endpoint(self) -> bool:
        """Whether the utterance is over, so that `reset` is due."""
        text, rules = self._text, self.setup.endpointing
        if self._closed:
            return text.done > text.first
        silence_s, said = text.silence()
        silence_s = min(silence_s, self._hearing.unvoiced_s)
        return rules.is_over(silence_s=silence_s, length_s=text.length_s, said=said)

    @property
    def result(self) -> Partial:
        """The utterance under way: what is committed and what may change."""
        committed = tuple(self._text.words)
        words = (*committed, *self._text.tentative())
        return Partial(words, len(committed), self.utterance, self.position_s, self._now())

    @property
    def position_s(self) -> float:
        """Up to where in the audio the last step has heard."""
        return self._grid.seconds(self._text.seen)

    @property
    def lag_s(self) -> float:
        """How late the step is that is due, by the clock, if audio waits for it."""
        elapsed_s = self._hearing.elapsed_s()
        if elapsed_s is None:
            return 0.0
        waits_s = min(elapsed_s - self.position_s, self._grid.seconds(self._waiting))
        return max(0.0, waits_s - self._grid.seconds(self._chunk))

    def decode(self) -> list[Event]:
        """Make a step; a `Commit` if words were settled, a `Partial` if the text is another."""
        return decode_together([self])[0]

    def events(self) -> Iterator[Event]:
        """Make all steps that can be made, and end utterances that are over."""
        while self.is_ready:
            yield from self.decode()
            if self.is_endpoint:
                final = self.reset()
                if final is not None:
                    yield final

    def reset(self) -> Final | None:
        """End the utterance and begin the next; None if nothing was said.

        A word under way goes into the next utterance.
        """
        text = self._text
        first, committed = text.first, tuple(text.words)
        text.next_utterance()
        if not committed:
            return None
        stop = self._hearing.end if self._closed else self._grid.samples(self._text.seen)
        words = refined(self.setup, self._hearing, committed, (first, text.first), stop)
        final = Final(
            words, joined(committed), changes(committed, words), self.utterance,
            self._grid.seconds(first), self._grid.seconds(text.first), self.position_s, self._now(),
        )  # fmt: skip
        self.utterance, self._shown = self.utterance + 1, ("", 0)
        return final

    @property
    def _rest(self) -> int:
        """Samples beyond its hops that a window needs for its last frame."""
        return 0 if self.setup.policy.alone else self._grid.samples(0)

    @property
    def _waiting(self) -> int:
        """Whole frames that were heard and not yet encoded."""
        return (self._hearing.end - self._rest) // self._grid.hop - self._text.seen

    def _now(self) -> float:
        elapsed_s = self._hearing.elapsed_s()
        return self.position_s if elapsed_s is None else elapsed_s

    def next_window(self) -> Window:
        """What the next step encodes; for `decode_together`."""
        chunks = self._chunks_due()
        target = self._text.seen + chunks * self._chunk
        last = self._waiting < self._chunk
        whole = self._hearing.end if last else target * self._grid.hop
        self._hearing.listen(whole)
        begin = int(max(self._hearing.first_frame, self._text.done - self._left))
        samples = self._hearing.window(
            begin * self._grid.hop,
            whole if last else whole + self._rest,
            normalized=self.setup.pre_normalizes,
        )
        return Window(samples, begin, last)

    def take(self, window: Window, log_probs: np.ndarray) -> list[Event]:
        """What the next step found; for `decode_together`."""
        policy, text = self.setup.policy, self._text
        rows = log_probs[text.done - window.begin :]
        if policy.alone and not window.last:  # the frames that a cut loses part the words
            missing = len(window.samples) // self._grid.hop - len(rows)
            rows = np.concatenate([rows, text.spelling.delimiters(missing, rows.shape[1])])
        settled = len(rows)
        if not window.last:
            settled = policy.settle(rows, text.spelling, self._grid, self._memory)
        self._closed = window.last
        words, self._owed = self._owed + text.add(rows[:settled], rows[settled:]), ()
        if self._closed or (self.is_endpoint and text.silence()[0] >= PAUSE_S):
            words += self._settle()
        self._forget()
        return self._told(words)

    def _settle(self) -> tuple[Word, ...]:
        self._memory.clear()
        return self._text.settle()

    def _told(self, words: tuple[Word, ...]) -> list[Event]:
        at = (self.position_s, self._now())
        events: list[Event] = []
        if words:
            events.append(Commit(words, self.utterance, *at))
        partial = self.result
        if (partial.text, partial.stable) != self._shown:
            self._shown = (partial.text, partial.stable)
            events.append(partial)
        return events

    def _chunks_due(self) -> int:
        """Chunks in the next step: one, or more if the machine is late and that is the choice."""
        setup = self.setup
        if self.lag_s <= setup.max_lag_s:
            return 1
        if setup.late == "raise":
            raise PtlabError(
                f"The stream is {self.lag_s:.1f} s behind, more than max_lag_s="
                f"{setup.max_lag_s}: this machine is too slow for {setup.policy}. Take "
                "a longer chunk or shorter contexts, or late='coalesce'."
            )
        if setup.late == "drop":
            self._drop()
            return 1
        most = max(self._chunk, int(self._grid.frames_in(COALESCED_S)))
        return min(self._waiting, most) // self._chunk

    def _drop(self) -> None:
        """Leave out what waits but for one chunk; what was heard before it is settled."""
        text, frames = self._text, self._waiting - self._chunk
        self._owed += self._settle()
        text.skip(frames)
        self._hearing.forget(text.done * self._grid.hop, unheard=True)
        seconds = self._grid.seconds(frames)
        self.dropped_s += seconds
        logger.warning(
            "A stream was late and left out %.1f s of audio, %.1f s so far.",
            seconds,
            self.dropped_s,
        )

    def _forget(self) -> None:
        """Let go of audio that is needed neither as context nor for the refinement."""
        grid, text = self._grid, self._text
        oldest = max(text.first, text.done - grid.frames_in(self.setup.refine_s))
        keep = min(oldest, text.done) - self._left - grid.frames_in(STEP_S)
        if keep > self._hearing.first_frame:
            self._hearing.forget(int(keep) * grid.hop)


def decode_together(streams: Sequence[Stream]) -> list[list[Event]]:
    """One step of every stream that is ready, in one batch; the events of each stream.

    Examples
    --------
    >>> decode_together([])
    []
    """
    ready = [i for i, stream in enumerate(streams) if stream.is_ready]
    events: list[list[Event]] = [[] for _ in streams]
    if ready:
        setup = streams[ready[0]].setup
        if any(streams[i].setup is not setup for i in ready):
            raise PtlabError("Streams of two recognisers; decode those of each by itself.")
        windows = [streams[i].next_window() for i in ready]
        found = setup.log_probs([w.samples for w in windows], normalized=setup.pre_normalizes)
        for i, window, log_probs in zip(ready, windows, found, strict=True):
            events[i] = streams[i].take(window, log_probs)
    return events
