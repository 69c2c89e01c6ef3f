"""Training speech from any text, one sentence a line: hours of it, with exact phone times.

The same arguments give the same texts, voices and speeds; a second call goes on where the first
stopped. Nothing that this writes is shipped. ::

    python data/recipes/make_speech.py --text data/recipes/everyday_br.txt --out speech --hours 5

``everyday_br.txt`` and ``everyday_pt.txt`` (for ``--european-share 1``) are 11,474 sentences
written for this, in the manner of the corpus and near none of its sentences.
``vocabulary_br.txt.xz`` has 12,597 more, around 16,600 frequent words that those and UD have twice
at most; no model that ships has learned from them yet.

Writes ``<out>/part0.jsonl``, one clip a line: ``path``, ``voice`` (a name, a blend
``a*0.60+b*0.40``, or with ``--crossed`` a blend's timbre with another voice's prosody,
``a*0.60+b*0.40/c``), ``speed``, ``variety``, ``duration_s``, ``text``, ``words`` (text, start_s,
end_s), ``symbols`` (Kokoro's tokens, one character each; punctuation is a pause) and ``frames``
(durations in 25 ms frames, one more entry at each end; they add up to ``duration_s``).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import opus
from kokoro import Kokoro
from sentences import lines_of
from tqdm.auto import tqdm
from voices import DEV, TEST, training_voices

NATIVE, NATIVE_SHARE = "pf_dora", 0.15  # the one Brazilian voice that is free for training
BLEND_SHARE, EUROPEAN_SHARE = 0.40, 0.12
SPEEDS = (0.75, 1.30)


def sentences(path: Path, skip: set[str]) -> list[str]:
    """Lines with 2 to 30 words, no digits, not in ``skip``."""
    lines = dict.fromkeys(line.strip() for line in lines_of(path))
    good = (s for s in lines if 2 <= len(s.split()) <= 30 and not re.search(r"\d", s))
    return [s for s in good if s not in skip]


def spoken(paths: list[Path]) -> set[str]:
    """Texts of the given jsonl files."""
    rows = (line for path in paths for line in path.read_text("utf-8").splitlines())
    return {json.loads(row)["text"] for row in rows}


def draw_voice(rng: np.random.Generator, voices: tuple[str, ...]) -> str:
    """The native voice, a blend of two voices, or any voice."""
    kind = rng.random()
    if kind < NATIVE_SHARE:
        return NATIVE
    first, second = (str(voice) for voice in rng.choice(voices, 2, replace=False))
    if kind >= NATIVE_SHARE + BLEND_SHARE:
        return first
    if rng.random() < NATIVE_SHARE:
        first, second = NATIVE, first if first != NATIVE else second
    share = round(float(rng.uniform(0.3, 0.7)), 2)
    return f"{first}*{share:.2f}+{second}*{1 - share:.2f}"


def draw_crossed(rng: np.random.Generator, voices: tuple[str, ...]) -> str:
    """A voice that nobody has: a timbre between or a little beyond two, another's prosody."""
    first, second, third = (str(voice) for voice in rng.choice(voices, 3, replace=False))
    share = round(float(rng.uniform(0.5, 1.25)), 2)
    prosody = NATIVE if rng.random() < 2 * NATIVE_SHARE else third
    return f"{first}*{share:.2f}+{second}*{1 - share:.2f}/{prosody}"


def plan(
    texts: list[str],
    voices: tuple[str, ...],
    seed: int,
    european: float = EUROPEAN_SHARE,
    draw: Callable[[np.random.Generator, tuple[str, ...]], str] = draw_voice,
) -> Iterator[dict[str, object]]:
    """Endless rows: text, voice, speed, variety; every text once before any is repeated."""
    number = 0
    while texts:
        order = np.random.default_rng([seed, number]).permutation(len(texts))
        for index in order:
            rng = np.random.default_rng([seed, 1, number])
            yield {
                "path": f"{number:05d}.ogg",
                "voice": draw(rng, voices),
                "speed": round(float(rng.uniform(*SPEEDS)), 2),
                "variety": "pt" if rng.random() < european else "br",
                "text": texts[index],
            }
            number += 1


def make_clip(kokoro: Kokoro, row: dict, folder: Path) -> dict:
    """Speak one planned row and write its sound; the row with its times."""
    speech = kokoro.synthesize(row["text"], row["voice"], row["speed"], row["variety"])
    opus.write(folder / row["path"], opus.to_16k(speech.waveform))
    words = [[text, round(start, 3), round(end, 3)] for text, start, end in speech.words]
    times = {"words": words, "symbols": speech.symbols, "frames": speech.frames}
    return row | {"duration_s": round(speech.duration_s, 3)} | times


def main() -> None:
    args = _arguments()
    kokoro = _synthesiser(args)
    excluded = set(args.exclude_voices)
    voices = tuple(v for v in training_voices(kokoro.voices) if v not in excluded)
    args.out.mkdir(parents=True, exist_ok=True)
    index = args.out / "part0.jsonl"
    done = [json.loads(line) for line in index.open(encoding="utf-8")] if index.exists() else []
    seconds, paths = sum(row["duration_s"] for row in done), {row["path"] for row in done}
    texts = sentences(args.text, spoken(args.skip_sentences_in))
    progress = tqdm(total=args.hours * 3600, initial=seconds, unit="s", mininterval=10)
    with index.open("a", encoding="utf-8") as out, progress:
        draw = draw_crossed if args.crossed else draw_voice
        for row in plan(texts, voices, args.seed, args.european_share, draw):
            if seconds >= args.hours * 3600:
                break
            if row["path"] in paths:
                continue
            try:
                clip = make_clip(kokoro, row, args.out)
            except ValueError as error:  # too long for Kokoro: the next sentence will do
                tqdm.write(str(error))
                continue
            out.write(json.dumps(clip, ensure_ascii=False) + "\n")
            out.flush()
            seconds += clip["duration_s"]
            progress.update(clip["duration_s"])


def _synthesiser(args: argparse.Namespace) -> Kokoro:
    if not args.fast:
        return Kokoro(args.cache, args.threads)
    from fast_kokoro import FastKokoro

    return FastKokoro(args.cache, args.threads)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="one sentence a line")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--european-share", type=float, default=EUROPEAN_SHARE, help="of the pronunciation"
    )
    parser.add_argument("--crossed", action="store_true", help="a new voice for every clip")
    parser.add_argument("--exclude-voices", nargs="*", default=[*TEST, *DEV])
    parser.add_argument("--skip-sentences-in", type=Path, nargs="*", default=[], help="jsonl files")
    parser.add_argument("--cache", help="where model and voices lie (default: $PTLAB_CACHE)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fast", action="store_true", help="see fast_kokoro.py")
    return parser.parse_args()


if __name__ == "__main__":
    main()
