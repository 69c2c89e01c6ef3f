"""Live captions: the text appears while somebody speaks.

    arecord -t raw -f S16_LE -r 16000 -c 1 | python captions.py -

Without arecord let ffmpeg read the microphone and write `-f s16le -ac 1 -ar 16000 -`.
What may still change is in brackets. Without the minus, the captions are those of a
recording of the course.
"""

import sys

import numpy as np

import ptlab


def packets(samples=1600):
    """A tenth of a second at a time, from the microphone or from a recording."""
    if sys.argv[1:] == ["-"]:
        while len(packet := sys.stdin.buffer.read(2 * samples)) == 2 * samples:
            yield np.frombuffer(packet, "<i2")
    else:
        sound = ptlab.load_corpus("test").audio(0).waveform
        yield from np.split(sound, range(samples, len(sound), samples))


over = "\r\x1b[K"  # write over the line that stands there
for event in ptlab.StreamingRecognizer().stream(packets(), 16_000):
    if isinstance(event, ptlab.Partial):
        print(f"{over}{event.committed} [{event.tentative}]"[-79:], end="", flush=True)
    elif isinstance(event, ptlab.Final):
        print(f"{over}{event.text}")
