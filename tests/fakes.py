"""A model that can be known, sounds for it, a clock that is set by hand; and a count of memory."""

from __future__ import annotations

import tracemalloc

import numpy as np

from ptlab.text import VOCABULARY

RATE, HOP, FIELD = 16_000, 320, 400


class Speller:
    """The sample in the middle of a frame is its token, divided by 64.

    At the edges of what it is given, where a real model lacks context, ``blind`` frames are wrong:
    they spell *x* with certainty. ``cost_s`` is given to ``clock`` at each run, a second of audio.
    """

    name, vocabulary, blank, word_delimiter = "speller", VOCABULARY, 0, "|"
    sampling_rate, hop, receptive_field = RATE, HOP, FIELD

    def __init__(self, blind=0, clock=None, cost_s=0.0):
        self.blind, self.clock, self.cost_s, self.calls = blind, clock, cost_s, []

    def frames(self, samples):
        return max(0, (samples - FIELD) // HOP + 1)

    def log_probs(self, waveforms, *, batch_size=None):
        self.calls.append([len(w) for w in waveforms])
        if self.clock is not None:
            self.clock.now += self.cost_s * max(map(len, waveforms)) / RATE
        return [self.spell(np.asarray(w)) for w in waveforms]

    def spell(self, waveform):
        frames = self.frames(len(waveform))
        ids = np.rint(waveform[FIELD // 2 :: HOP][:frames] * 64).astype(int)
        ids[: self.blind] = ids[max(0, frames - self.blind) :] = VOCABULARY.index("x")
        probs = np.full((frames, len(VOCABULARY)), 0.1 / 45, np.float32)
        probs[np.arange(frames), ids] = 0.9
        return np.log(probs)


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now=100.0):
        self.now = now

    def __call__(self):
        return self.now


def sound_of(path):
    """Waveform that makes `Speller` see the path, a character a frame; ``_`` is the blank."""
    ids = [0 if c == "_" else VOCABULARY.index("|" if c == " " else c) for c in path]
    return np.append(np.repeat(ids, HOP), np.zeros(FIELD - HOP)).astype(np.float32) / 64


def peak_of(run):
    """What ``run()`` returns, and the most bytes that Python and numpy held meanwhile."""
    tracemalloc.start()
    try:
        return run(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def in_packets(waveform, sizes):
    """The waveform in packets of these sizes, over and over."""
    at, i = 0, 0
    while at < len(waveform):
        yield waveform[at : at + sizes[i % len(sizes)]]
        at, i = at + sizes[i % len(sizes)], i + 1
