"""Training speech by espeak-ng: robotic, but hundreds of times faster than it is spoken.

    python data/recipes/make_espeak.py --text sentences.txt --out speech/espeak --clips 3000

Writes the same ``part0.jsonl`` as ``make_speech.py``. espeak-ng's library reports when each
phone starts; ``frames`` are those times in units of 25 ms, here not whole numbers. The two
languages, dozens of voice variants, rates and pitches give variety; a few variants are kept out
of training, to measure on. Needs Debian's espeak-ng (GPL; a tool, nothing of it is shipped).
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import opus
import soxr
from make_speech import sentences, spoken
from phonemes import to_kokoro
from speech import FRAME_S, PHONES, to_labels
from tqdm.auto import tqdm

HELD_OUT = ("f4", "m7", "Alicia", "Marco", "klatt3")  # only for measuring
VARIANTS = (
    "", "f1", "f2", "f3", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m8", "klatt", "klatt2",
    "klatt4", "Alex", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Hugo",
    "Jacky", "Lee", "Mario", "Michael", "Mike", "adam", "anika", "antonio", "aunty", "belinda",
    "benjamin", "boris", "caleb", "david", "ed", "edward", "gustave", "iven", "john", "linda",
    "marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob",
    "robert", "sandro", "shelby", "steph", "travis", "victor", "zac",
)  # fmt: skip
WORDS_A_MINUTE, PITCH, EUROPEAN_SHARE = (120, 220), (25, 75), 0.15
# From speak_lib.h
RETRIEVAL, PHONEME_EVENTS, PHONEME_IPA = 2, 1, 2
UTF8, CHARACTER = 1, 1
RATE, PITCH_PARAMETER = 1, 3
LIST_END, WORD, PHONEME = 0, 1, 7


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass
class _Heard:
    """What the library has sent of the sentence that it is speaking."""

    samples: list[np.ndarray] = field(default_factory=list)
    phones: list[tuple[float, str]] = field(default_factory=list)  # start in seconds, IPA
    words: list[tuple[float, int]] = field(default_factory=list)  # start in seconds, position


class Espeak:
    """libespeak-ng, with the times of its phones.

    Examples
    --------
    >>> espeak = Espeak()  # doctest: +SKIP
    >>> waveform, phones, words = espeak.speak("Bom dia.", "pt-br+f2")  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self.library = ctypes.CDLL(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
        options = PHONEME_EVENTS | PHONEME_IPA
        self.sampling_rate = self.library.espeak_Initialize(RETRIEVAL, 0, None, options)
        if self.sampling_rate <= 0:
            raise SystemExit("espeak-ng does not start; install Debian's package espeak-ng.")
        self._heard = _Heard()
        self._callback: Callable = _CALLBACK(self._hear)  # kept: C holds only a pointer
        self.library.espeak_SetSynthCallback(self._callback)

    def _hear(self, samples, count: int, events) -> int:
        if samples and count:
            self._heard.samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in iter_events(events):
            start = event.audio_position / 1000
            if event.type == PHONEME:
                name = event.id.string.decode("utf-8", "ignore")
                self._heard.phones.append((start, name))
            elif event.type == WORD:
                self._heard.words.append((start, event.text_position))
        return 0

    def speak(
        self, text: str, voice: str, words_a_minute: int = 160, pitch: int = 50
    ) -> tuple[np.ndarray, list[tuple[float, str]], list[tuple[float, int]]]:
        """int16 samples, (start_s, IPA) of every phone, (start_s, character, from 1) of words."""
        self._heard = _Heard()
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self.library.espeak_SetParameter(RATE, words_a_minute, 0)
        self.library.espeak_SetParameter(PITCH_PARAMETER, pitch, 0)
        data = text.encode("utf-8")
        self.library.espeak_Synth(data, len(data) + 1, 0, CHARACTER, 0, UTF8, None, None)
        self.library.espeak_Synchronize()
        heard = self._heard
        return np.concatenate([*heard.samples, np.zeros(1, np.int16)]), heard.phones, heard.words


def iter_events(events):
    """The events of an array that ends with `LIST_END`."""
    index = 0
    while events[index].type != LIST_END:
        yield events[index]
        index += 1


def tokens(phones: list[tuple[float, str]], end_s: float) -> tuple[str, list[float]]:
    """Kokoro's symbols and their durations in 25 ms, with the silence at both ends.

    Examples
    --------
    >>> tokens([(0.0, "o"), (0.1, "j"), (0.2, "")], 0.3)
    ('oj ', [0.0, 4.0, 4.0, 4.0, 0.0])
    """
    symbols, frames = "", [phones[0][0] / FRAME_S if phones else end_s / FRAME_S]
    ends = [start for start, _ in phones[1:]] + [end_s]
    for (start, ipa), end in zip(phones, ends, strict=True):
        heard = [c for c in to_kokoro(ipa) if c in PHONES] or [" "]
        symbols += "".join(heard)
        frames += [round((end - start) / FRAME_S / len(heard), 4)] * len(heard)
    return symbols, [*frames, 0.0]


def word_times(
    text: str, starts: list[tuple[float, int]], end_s: float
) -> list[tuple[str, float, float]] | None:
    """(word, start_s, end_s) if espeak-ng read the same words as the model's labels hold."""
    words = to_labels(text)[1]
    places, at = [], 0
    for word in words:
        at = text.lower().find(word, at)
        places.append(at + 1)
        at += len(word)
    by_place: dict[int, float] = {}
    for start, place in starts:
        by_place.setdefault(place, start)
    if any(place not in by_place for place in places):
        return None
    begins = [by_place[place] for place in places]
    if begins != sorted(begins):
        return None
    return list(zip(words, begins, [*begins[1:], end_s], strict=True))


def make_clip(espeak: Espeak, row: dict, folder: Path) -> dict | None:
    """Speak one planned row and write its sound; the row with its times."""
    samples, phones, starts = espeak.speak(
        row["text"], row["voice"], row["words_a_minute"], row["pitch"]
    )
    if len(samples) < espeak.sampling_rate // 2 or not phones:
        return None
    sound = soxr.resample(samples.astype(np.float32) / 32768, espeak.sampling_rate, 16_000)
    opus.write(folder / row["path"], sound)
    duration_s = len(samples) / espeak.sampling_rate
    symbols, frames = tokens(phones, duration_s)
    frames[-1] += 2.0  # the codec may add a few samples at the end
    clip = row | {"duration_s": round(duration_s, 3), "symbols": symbols, "frames": frames}
    clip["lead_frames"] = 0
    words = word_times(row["text"], starts, duration_s)
    return clip | {"words": words} if words else clip


def plan(texts: list[str], count: int, seed: int, variants: tuple[str, ...]) -> list[dict]:
    """Text, voice, rate and pitch of each clip."""
    order = np.random.default_rng(seed).permutation(len(texts))
    rows = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        variety = "pt" if rng.random() < EUROPEAN_SHARE else "br"
        variant = variants[rng.integers(len(variants))]
        language = {"br": "pt-br", "pt": "pt"}[variety]
        rows.append(
            {
                "path": f"{number:05d}.ogg",
                "voice": f"{language}+{variant}" if variant else language,
                "variety": variety,
                "words_a_minute": int(rng.integers(*WORDS_A_MINUTE)),
                "pitch": int(rng.integers(*PITCH)),
                "text": texts[order[number % len(texts)]],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="one sentence a line")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out-voices", action="store_true", help="to measure on")
    parser.add_argument("--skip-sentences-in", type=Path, nargs="*", default=[], help="jsonl files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    espeak = Espeak()
    texts = sentences(args.text, spoken(args.skip_sentences_in))
    rows = plan(texts, args.clips, args.seed, HELD_OUT if args.held_out_voices else VARIANTS)
    made = 0.0
    with (args.out / "part0.jsonl").open("w", encoding="utf-8") as out:
        for row in tqdm(rows, mininterval=10):
            if clip := make_clip(espeak, row, args.out):
                out.write(json.dumps(clip, ensure_ascii=False) + "\n")
                made += clip["duration_s"]
    print(f"{math.floor(made / 36) / 100} h in {args.out}")


if __name__ == "__main__":
    main()
