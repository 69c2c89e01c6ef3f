"""The long recording: a story in paragraphs, two voices, pauses, and all times known."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import opus
from kokoro import Kokoro, Speech
from tqdm.auto import tqdm

VOICES = {"narrator": "pf_dora", "character": "pm_alex"}
SPEED = 0.95
SENTENCE_PAUSE_S, PARAGRAPH_PAUSE_S = (0.3, 0.7), (1.0, 1.5)
BEFORE_S, AFTER_S = 0.05, 0.12  # sound kept around a sentence: breath and release
LEAD_IN_S = 0.5
SEED = 7


def make_story(kokoro: Kokoro, data: Path) -> None:
    """``data/story/story.tsv`` (paragraph, voice, text) -> ``story.ogg`` and ``story.json``."""
    folder = data / "story"
    with (folder / "story.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    spoken = [
        kokoro.synthesize(row["text"], VOICES[row["voice"]], SPEED)
        for row in tqdm(rows, desc="story")
    ]
    sound, times = assemble(rows, spoken)
    opus.write(folder / "story.ogg", sound)
    checksum = hashlib.sha256((folder / "story.ogg").read_bytes()).hexdigest()
    about = {
        "path": "story/story.ogg",
        "sampling_rate": opus.SAMPLING_RATE,
        "duration_s": len(sound) / opus.SAMPLING_RATE,
        "sha256": checksum,
        "voices": VOICES,
    }
    text = json.dumps(about | times, ensure_ascii=False, indent=0)
    (folder / "story.json").write_text(text + "\n", encoding="utf-8")


def assemble(rows: list[dict], spoken: list[Speech]) -> tuple[np.ndarray, dict[str, list]]:
    """Put the sentences one after the other; the sound at 16 kHz and every true time in it."""
    rng, rate = np.random.default_rng(SEED), opus.SAMPLING_RATE
    pieces = [np.zeros(round((LEAD_IN_S - BEFORE_S) * rate), np.float32)]
    times: dict[str, list] = {"sentences": [], "words": [], "phones": []}
    for number, (row, speech) in enumerate(zip(rows, spoken, strict=True)):
        if number:
            same = row["paragraph"] == rows[number - 1]["paragraph"]
            pause_s = rng.uniform(*(SENTENCE_PAUSE_S if same else PARAGRAPH_PAUSE_S))
            pieces.append(np.zeros(round((pause_s - BEFORE_S - AFTER_S) * rate), np.float32))
        piece, cut_s = cut_out(speech)
        shift = sum(map(len, pieces)) / rate - cut_s
        pieces.append(piece)
        add_times(times, number, row, speech, shift)
    pieces.append(np.zeros(round(LEAD_IN_S * rate), np.float32))
    return np.concatenate(pieces), times


def cut_out(speech: Speech) -> tuple[np.ndarray, float]:
    """The sentence at 16 kHz without the silence around it, faded at both ends; the cut's time."""
    rate, fade = opus.SAMPLING_RATE, np.linspace(0, 1, 160, dtype=np.float32)
    sound = opus.to_16k(speech.waveform)
    start = max(round((speech.words[0][1] - BEFORE_S) * rate), 0)
    piece = sound[start : round((speech.words[-1][2] + AFTER_S) * rate)].copy()
    piece[:160] *= fade
    piece[-160:] *= fade[::-1]
    return piece, start / rate


def add_times(times: dict, number: int, row: dict, speech: Speech, shift: float) -> None:
    words = [[w.lower(), *_moved(time, shift), number] for w, *time in speech.words]
    times["words"] += words
    times["phones"] += [[p, *_moved(time, shift)] for p, *time in speech.phones]
    times["sentences"].append(
        {
            "text": row["text"],
            "start_s": words[0][1],
            "end_s": words[-1][2],
            "paragraph": int(row["paragraph"]),
            "role": row["voice"],
            "speaker": VOICES[row["voice"]],
        }
    )


def _moved(time: list[float], shift: float) -> list[float]:
    return [round(float(t) + shift, 4) for t in time]
