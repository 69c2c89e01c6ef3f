"""Three small sets for probes: who speaks, which language, in what style.

    python data/recipes/make_probe_sets.py --fast

Writes ``data/probes/``; a second call goes on where the first stopped. All clips have the same
loudness, as that alone told five voices apart in 59 % of clips before.

* ``speakers``: 20 voices, 30 sentences each, five in each of six sessions. A session is made here:
  it has a microphone and a line of its own, each with a smooth frequency response and noise, so
  that a probe which learns these fails in the next session.
* ``languages``: 12 voices, each of which speaks all seven languages, three sentences in each.
* ``styles``: seven voices, eight sentences each, each sentence in four styles (see styles.py).

No sentence is spoken by two voices, and none is in two sets. Needs what make_corpus.py
needs, and pyworld for the styles.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import opus
import soundfile
import styles
from augment import add_noise, coloured_noise
from kokoro import Kokoro, cache_dir
from make_corpus import checksum, whole
from tqdm.auto import tqdm
from voices import DEV, TEST, describe

RECIPES = Path(__file__).resolve().parent
OUT = RECIPES.parent / "probes"
SEED, SAVE_EVERY = 53, 20
SETS = ("speakers", "languages", "styles")
# The 16 voices that mini has not heard, and four that it was trained on.
SPEAKERS = (*TEST, *DEV, "pf_dora", "ff_siwis", "im_nicola", "jf_alpha")
POLYGLOTS = (
    "pm_alex", "pm_santa", "af_bella", "am_michael", "bf_emma", "bm_george",
    "em_alex", "ef_dora", "if_sara", "hf_alpha", "jm_kumo", "zf_xiaoyi",
)  # fmt: skip
ACTORS = ("pm_alex", "pm_santa", "af_bella", "am_michael", "bf_emma", "bm_george", "em_alex")
LANGUAGES = ("pt", "es", "it", "fr", "en", "hi", "ja")
SESSIONS, A_SESSION, A_LANGUAGE, AN_ACTOR = 6, 5, 3, 8
WORDS, SPEEDS = (4, 7), (0.9, 1.1)
SILENCE_DB, MARGIN_S = 40.0, 0.1  # under the loudest 10 ms; what is kept of a silence
LEVEL_DB = -26.0  # root mean square of a clip, of full scale
# Of a session, its microphone and the line behind it: swing of the response, speech above noise.
STAGES = ((6.0, (25.0, 40.0)), (14.0, (10.0, 25.0)))
# Particles of Japanese that are spoken otherwise than they are written.
SPOKEN = {"ja": {"は ": "わ ", "へ ": "え "}}
KNOTS_HZ = (0, 250, 500, 1000, 2000, 4000, 8000)
COLUMNS = (
    "id", "path", "set", "label", "group", "speaker", "sex", "voice_language", "voice_split",
    "session", "language", "style", "text", "speed", "duration_s", "sampling_rate", "sha256",
)  # fmt: skip


def portuguese() -> list[str]:
    """Short everyday sentences in a shuffled order."""
    lines = (RECIPES / "everyday_br.txt").read_text("utf-8").splitlines()
    short = [line for line in lines if WORDS[0] <= len(line.split()) <= WORDS[1]]
    return [short[i] for i in np.random.default_rng(SEED).permutation(len(short))]


def foreign() -> dict[str, list[str]]:
    """Sentences of the other languages."""
    with (RECIPES / "probe_sentences.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    return {code: [row["text"] for row in rows if row["language"] == code] for code in LANGUAGES}


def plan() -> list[dict]:
    """One row a clip, without what only the sound can tell."""
    texts = iter(portuguese())
    rows = [
        row(voice, voice, f"{voice}-{session}", next(texts), session=session)
        for voice in SPEAKERS
        for session in range(1, SESSIONS + 1)
        for _ in range(A_SESSION)
    ]
    planned = {"speakers": rows, "languages": [], "styles": []}
    sentences = foreign() | {"pt": list(islice(texts, len(POLYGLOTS) * A_LANGUAGE))}
    for number, voice in enumerate(POLYGLOTS):
        for code in LANGUAGES:
            of_voice = sentences[code][number * A_LANGUAGE : (number + 1) * A_LANGUAGE]
            planned["languages"] += [row(voice, code, voice, t, language=code) for t in of_voice]
    for voice in ACTORS:
        for text in islice(texts, AN_ACTOR):
            planned["styles"] += [row(voice, s, voice, text, style=s) for s in styles.STYLES]
    return [
        numbered(name, number, row)
        for name, rows in planned.items()
        for number, row in enumerate(rows, 1)
    ]


def row(voice: str, label: str, group: str, text: str, **more: object) -> dict:
    """What is known of a clip: ``label`` is what a probe guesses, ``group`` what folds keep."""
    split = "test" if voice in TEST else "dev" if voice in DEV else "train"
    about = {key: describe(voice)[key] for key in ("speaker", "sex", "voice_language")}
    common = {"label": label, "group": group, "text": text, **about, "voice_split": split}
    return common | {"session": "", "language": "pt", "style": ""} | more


def numbered(name: str, number: int, row: dict) -> dict:
    # A sentence has one speed in all its styles, which then change it.
    draw = (number - 1) // len(styles.STYLES) if name == "styles" else number
    speed = np.random.default_rng([SEED, SETS.index(name), draw]).uniform(*SPEEDS)
    path = f"{name}/{name}_{number:04d}.ogg"
    return {"id": Path(path).stem, "path": path, "set": name, **row, "speed": round(speed, 2)}


def recorded(waveform: np.ndarray, speaker: str, session: int) -> np.ndarray:
    """What is left of a waveform at 16 kHz behind the microphone and the line of a session."""
    for number, stage in enumerate(STAGES):
        place = [SPEAKERS.index(speaker), session]
        waveform = coloured(waveform, np.random.default_rng([SEED, 8 + number, *place]), *stage)
    return waveform


def coloured(
    waveform: np.ndarray, rng: np.random.Generator, swing_db: float, noise_db: tuple[float, float]
) -> np.ndarray:
    """One smooth frequency response and one noise, which the generator draws."""
    gains_db, snr_db = rng.uniform(-swing_db, swing_db, len(KNOTS_HZ)), rng.uniform(*noise_db)
    hz = np.fft.rfftfreq(len(waveform), 1 / opus.SAMPLING_RATE)
    spectrum = np.fft.rfft(waveform) * 10 ** (np.interp(hz, KNOTS_HZ, gains_db) / 20)
    heard = np.fft.irfft(spectrum, len(waveform)).astype(np.float32)
    return add_noise(heard, coloured_noise(len(heard), rng), snr_db)


def trimmed(waveform: np.ndarray) -> np.ndarray:
    """The waveform (16 kHz) without what lies more than `MARGIN_S` before and behind the speech.

    >>> sound = np.concatenate([np.zeros(8000), np.ones(1600), np.zeros(8000)])
    >>> len(trimmed(sound)) == 1600 + 2 * 1600
    True
    """
    step = opus.SAMPLING_RATE // 100
    power = np.square(waveform[: len(waveform) // step * step]).reshape(-1, step).mean(axis=1)
    heard = np.flatnonzero(power > power.max() / 10 ** (SILENCE_DB / 10))
    margin = round(MARGIN_S * opus.SAMPLING_RATE)
    return waveform[max(0, heard[0] * step - margin) : (heard[-1] + 1) * step + margin]


def write_levelled(path: Path, waveform: np.ndarray) -> None:
    """Write a clip that has `LEVEL_DB` when it is read.

    The codec takes up to 1.3 dB away, and more from one style than from another (measured).
    """
    opus.write(path, levelled(waveform))
    coded = soundfile.read(path, dtype="float32")[0]
    gain = 10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(np.square(coded, dtype=np.float64)))
    opus.write(path, levelled(waveform) * np.float32(gain))


def levelled(waveform: np.ndarray) -> np.ndarray:
    """The waveform at `LEVEL_DB`.

    >>> round(20 * float(np.log10(np.sqrt(np.mean(levelled(np.ones(9)) ** 2)))), 3)
    -26.0
    """
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    return (waveform * (10 ** (LEVEL_DB / 20) / rms)).astype(np.float32)


def make_clip(row: dict, speak: Callable, out: Path) -> dict:
    """Speak one row, write its sound; the row with duration and checksum."""
    variety = "br" if row["language"] == "pt" else row["language"]
    text = row["text"]
    for written, said in SPOKEN.get(row["language"], {}).items():
        text = text.replace(written, said)
    waveform = speak(text, row["speaker"], row["speed"], variety)
    number = int(row["id"].rpartition("_")[2])
    if row["style"]:
        rng = np.random.default_rng([SEED, 7, number])
        waveform = styles.restyle(waveform, 24_000, styles.drawn(row["style"], rng))
    sound = trimmed(opus.to_16k(waveform))
    if row["session"]:
        sound = recorded(sound, row["speaker"], int(row["session"]))
    write_levelled(out / row["path"], sound)
    return row | {
        "duration_s": round(len(sound) / opus.SAMPLING_RATE, 4),
        "sampling_rate": opus.SAMPLING_RATE,
        "sha256": checksum(out / row["path"]),
    }


def spoken(kokoro: Kokoro, folder: Path, *given: object) -> np.ndarray:
    """What Kokoro says, kept in ``folder``: styles and sessions can be changed without it."""
    path = folder / f"{hashlib.sha1(repr(given).encode()).hexdigest()}.flac"
    if not path.exists():
        part = path.with_suffix(".part")
        soundfile.write(part, kokoro.synthesize(*given).waveform, 24_000, format="FLAC")
        part.replace(path)
    return soundfile.read(path, dtype="float32")[0]


def read_done(planned: list[dict], out: Path) -> dict[str, dict]:
    """Rows of the table that are as planned and whose sound is there, untouched; by id."""
    if not (out / "metadata.csv").exists():
        return {}
    with (out / "metadata.csv").open(encoding="utf-8", newline="") as table:
        rows = {row["id"]: row for row in csv.DictReader(table)}
    return {r["id"]: rows[r["id"]] for r in planned if _is_done(r, rows.get(r["id"], {}), out)}


def _is_done(row: dict, found: dict, out: Path) -> bool:
    same = all(str(found.get(key)) == str(row[key]) for key in row)
    return same and (out / row["path"]).exists() and checksum(out / row["path"]) == found["sha256"]


def write_table(planned: list[dict], done: dict[str, dict], out: Path) -> None:
    with whole(out / "metadata.csv") as table:
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(done[row["id"]] for row in planned if row["id"] in done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--cache", help="where model, voices and what they said lie (default: $PTLAB_CACHE)"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fast", action="store_true", help="see fast_kokoro.py")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    planned = plan()
    done = read_done(planned, args.out)
    missing = [row for row in planned if row["set"] in args.sets and row["id"] not in done]
    kokoro = _synthesiser(args)
    folder = cache_dir(args.cache) / "spoken"
    folder.mkdir(exist_ok=True)
    speak = partial(spoken, kokoro, folder)
    try:
        for number, row in enumerate(tqdm(missing, mininterval=10), 1):
            done[row["id"]] = make_clip(row, speak, args.out)
            if number % SAVE_EVERY == 0:
                write_table(planned, done, args.out)
    finally:
        write_table(planned, done, args.out)


def _synthesiser(args: argparse.Namespace) -> Kokoro:
    if not args.fast:
        return Kokoro(args.cache, args.threads)
    from fast_kokoro import FastKokoro

    return FastKokoro(args.cache, args.threads)


if __name__ == "__main__":
    main()
