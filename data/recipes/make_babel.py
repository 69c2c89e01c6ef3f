"""Unlabelled speech of 53 languages: the small stand-in for XLSR-53's 56,000 hours.

    python data/recipes/make_babel.py --text texts --out speech/babel --hours 8
    python data/recipes/make_babel.py --text texts --out speech/babel_kokoro --hours 2 --kokoro

Which languages, whose texts and why: see ``languages.py``. A language is drawn by XLSR's rule from
the amount of its text, a text once before it is said again, a voice from 61 variants of espeak-ng,
rate and pitch at random. With ``--kokoro`` the neural voices of Kokoro speak in place of espeak-ng,
from espeak-ng's phonemes, the languages whose phonemes they know.
The same arguments give the same clips; a second call goes on where the first stopped. No sentence
of the corpus's dev or test split is said, and no voice of theirs is heard. Nothing is shipped.

Writes ``<out>/part0.jsonl``, one clip a line: ``path``, ``language``, ``voice``,
``words_a_minute``, ``pitch``, ``source``, ``text``, ``duration_s``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import opus
import soxr
from languages import ALPHA, LANGUAGES, fetch, language_shares, letters, texts
from make_espeak import PITCH, VARIANTS, WORDS_A_MINUTE, Espeak
from tqdm.auto import tqdm

from ptlab import load_corpus

LONGEST_S, SHORTEST_S = 15.0, 1.0
KNOWN_PHONES = 0.97  # of a sentence, for Kokoro to speak it
# Kokoro learned these from espeak-ng's phonemes (Japanese and Chinese, which it knows too, not).
KOKORO_LANGUAGES = ("en", "es", "fr", "it", "pt")
MORE_FOR_KOKORO = ("ca", "cs", "de", "el", "eo", "fi", "hu", "id", "nl", "pl", "ro", "ru", "sl",
                   "sv", "sw", "uk")  # fmt: skip


def plan(
    said: Mapping[str, Sequence[tuple[str, str]]],
    voices: Sequence[str],
    seed: int,
    alpha: float = ALPHA,
) -> Iterator[dict]:
    """Endless rows: language, text, voice, rate and pitch of each clip.

    ``said`` holds (sentence, source) of each language.
    """
    amounts = {code: sum(letters(s) for s, _ in rows) for code, rows in said.items()}
    shares = language_shares(amounts, alpha)
    codes, weights = list(shares), np.array(list(shares.values()))
    orders = {
        c: np.random.default_rng([seed, 1, i]).permutation(len(said[c]))
        for i, c in enumerate(codes)
    }
    spoken: Counter[str] = Counter()
    number = 0
    while True:
        rng = np.random.default_rng([seed, 2, number])
        code = codes[rng.choice(len(codes), p=weights)]
        text, source = said[code][orders[code][spoken[code] % len(orders[code])]]
        spoken[code] += 1
        yield {
            "path": f"{number:06d}.ogg",
            "language": code,
            "voice": voices[rng.integers(len(voices))],
            "words_a_minute": int(rng.integers(*WORDS_A_MINUTE)),
            "pitch": int(rng.integers(*PITCH)),
            "source": source,
            "text": text,
        }
        number += 1


def by_espeak() -> Callable[[dict], np.ndarray]:
    """A function from a row to its sound (samples,) at 16 kHz."""
    espeak = Espeak()

    def speak(row: dict) -> np.ndarray:
        voice = LANGUAGES[row["language"]].voice
        voice = f"{voice}+{row['voice']}" if row["voice"] else voice
        samples, _, _ = espeak.speak(row["text"], voice, row["words_a_minute"], row["pitch"])
        return soxr.resample(samples.astype(np.float32) / 32768, espeak.sampling_rate, 16_000)

    return speak


def by_kokoro(kokoro) -> Callable[[dict], np.ndarray]:
    """As `by_espeak`, by Kokoro; no sound where it lacks too many of the phonemes."""
    from kokoro import DURATIONS
    from phonemes import _espeak

    def speak(row: dict) -> np.ndarray:
        symbols = _espeak(row["text"], LANGUAGES[row["language"]].voice)
        known = "".join(s for s in symbols if s in kokoro.vocabulary)
        if len(known) < KNOWN_PHONES * len(symbols) or not 0 < len(known) <= 509:
            return np.zeros(0, np.float32)
        ids = [kokoro.vocabulary[s] for s in known]
        speed = row["words_a_minute"] / 165
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": kokoro.style(row["voice"])[None, len(ids)],
            "speed": np.array([speed], np.float32),
        }
        audio, _ = kokoro.session.run(["audio", DURATIONS], inputs)
        return opus.to_16k(np.ravel(audio))

    return speak


def make(
    rows: Iterator[dict], speak: Callable[[dict], np.ndarray], folder: Path, hours: float
) -> Counter:
    """Speak the planned rows until there are so many hours; seconds of each language.

    Rows of an earlier call, with their sound, are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "part0.jsonl"
    lines = index.read_text("utf-8").splitlines() if index.exists() else []
    done = {row["path"]: row for row in map(json.loads, lines)}
    seconds: Counter[str] = Counter()
    progress = tqdm(total=hours * 3600, unit="s", mininterval=10)
    with index.open("a", encoding="utf-8") as out, progress:
        for row in rows:
            if sum(seconds.values()) >= hours * 3600:
                return seconds
            if not (clip := done.get(row["path"])):
                sound = speak(row)
                duration_s = len(sound) / opus.SAMPLING_RATE
                if not SHORTEST_S <= duration_s <= LONGEST_S or not np.abs(sound).max() > 0.01:
                    continue
                opus.write(folder / row["path"], sound * min(1.0, opus.PEAK / np.abs(sound).max()))
                clip = row | {"duration_s": round(duration_s, 3)}
                out.write(json.dumps(clip, ensure_ascii=False) + "\n")
                out.flush()
            seconds[row["language"]] += clip["duration_s"]
            progress.update(clip["duration_s"])
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="folder for the downloaded texts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=8)
    parser.add_argument("--alpha", type=float, default=ALPHA, help="1: by amount, 0: all alike")
    parser.add_argument("--languages", nargs="*", choices=LANGUAGES, help="default: all 53")
    parser.add_argument("--kokoro", action="store_true", help="neural voices, fewer languages")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    kept_free = [t for split in ("dev", "test") for t in load_corpus(split).frame.text]
    possible = KOKORO_LANGUAGES + MORE_FOR_KOKORO if args.kokoro else tuple(LANGUAGES)
    codes = [c for c in args.languages or possible if c in possible]
    folder = fetch(args.text)
    said = {c: texts(c, folder, kept_free) for c in codes}
    voices, speak = _kokoro() if args.kokoro else (VARIANTS, by_espeak())
    seconds = make(plan(said, voices, args.seed, args.alpha), speak, args.out, args.hours)
    for code, value in seconds.most_common():
        print(f"{LANGUAGES[code].name:16} {value / 60:6.1f} min")


def _kokoro() -> tuple[tuple[str, ...], Callable[[dict], np.ndarray]]:
    from fast_kokoro import FastKokoro
    from voices import training_voices

    kokoro = FastKokoro()
    return training_voices(kokoro.voices), by_kokoro(kokoro)


if __name__ == "__main__":
    main()
