"""Captions in a terminal: of a file, or of raw sound that is piped in while it is spoken.

>>> import ptlab, sys
>>> recognizer = ptlab.StreamingRecognizer("mini", clock=None)
>>> sound = ptlab.load_corpus("test").audio(0)
>>> events = recognizer.stream([sound.waveform], 16_000)
>>> ptlab.show_captions(events, sys.stdout)  # doctest: +ELLIPSIS
na minha ...
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from typing import BinaryIO, TextIO

import numpy as np

from ptlab._stream.events import Final, Partial
from ptlab._stream.speech_stream import Event

__all__ = ["caption", "pcm_packets", "show_captions"]

PACKET_S = 0.1  # read at once
CLEAR = "\r\x1b[K"  # to the beginning of the line, and empty it


def pcm_packets(file: BinaryIO, sampling_rate: int) -> Iterator[np.ndarray]:
    """Packets (samples,) int16 of raw mono PCM, little-endian; half a sample waits for its rest.

    Parameters
    ----------
    file : binary file
        Such as ``sys.stdin.buffer``.
    sampling_rate : int
        In Hz.

    Examples
    --------
    >>> import io
    >>> [packet.tolist() for packet in pcm_packets(io.BytesIO(bytes([1, 0, 2, 0, 3])), 16_000)]
    [[1, 2]]
    """
    size, half = 2 * max(1, round(PACKET_S * sampling_rate)), b""
    read = getattr(file, "read1", file.read)  # what has come, without waiting for more
    while content := read(size):
        content = half + content
        whole = len(content) // 2 * 2
        half = content[whole:]
        yield np.frombuffer(content[:whole], "<i2")


def caption(partial: Partial, width: int = 80) -> str:
    """One line: what is committed, then what may change in brackets; its end if it is long.

    Parameters
    ----------
    partial : Partial
    width : int
        Characters of a line.

    Examples
    --------
    >>> from ptlab.transcription import Word
    >>> words = (Word("bom", 0.1, 0.4, 0.9), Word("di", 0.5, 0.6, 0.3))
    >>> caption(Partial(words, 1, 0, audio_s=1.0, emitted_s=1.0))
    'bom [di]'
    """
    tentative = f"[{partial.tentative}]" if partial.tentative else ""
    line = f"{partial.committed} {tentative}".strip()
    return line if len(line) < width else "…" + line[2 - width :]


def show_captions(events: Iterable[Event], output: TextIO) -> None:
    """Write a line for each utterance; on a terminal it grows and changes while one speaks.

    Parameters
    ----------
    events : iterable of Partial, Commit and Final
        Such as `ptlab.StreamingRecognizer.stream` yields.
    output : text file
        Such as ``sys.stdout``.
    """
    live = output.isatty()
    for event in events:
        if isinstance(event, Final):
            print(f"{CLEAR if live else ''}{event.text}", file=output, flush=True)
        elif live and isinstance(event, Partial):
            line = caption(event, shutil.get_terminal_size().columns)
            print(f"{CLEAR}{line}", end="", file=output, flush=True)
