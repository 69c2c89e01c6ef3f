"""How true are the true times? Compare phone boundaries with what can be heard.

    python data/recipes/check_times.py [--splits dev test]

Where a vowel meets a sibilant, the share of high frequencies jumps; where it meets p, t or k, the
energy falls or rises. The steepest place within 100 ms of each written boundary is compared with
it. This tests the corpus against its own sound, without any model. Prints the lines of the table in
data/README.md: split, boundary, count, and in ms median, median and 90 % quantile of the distance.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd
import soundfile
from phonemes import MARKS
from scipy.signal import stft

from ptlab.data import load_corpus

VOWELS, SIBILANTS, STOPS = set("aɐeɛioɔuʊæyɨAIWOY"), set("sʃ"), set("ptk")
HOP, REACH = 80, 20  # samples; hops to either side


def features(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log energy, and log ratio of high (> 3.5 kHz) to low frequencies, every 5 ms."""
    _, _, spectrum = stft(waveform, 16_000, nperseg=240, noverlap=240 - HOP)
    power = np.abs(spectrum) ** 2
    energy = np.log(power[3:50].sum(0) + 1e-6)
    ratio = np.log(power[53:].sum(0) + 1e-6) - np.log(power[2:40].sum(0) + 1e-6)
    window = np.hanning(9) / np.hanning(9).sum()
    return np.convolve(energy, window, "same"), np.convolve(ratio, window, "same")


def steepest_ms(track: np.ndarray, time_s: float, sign: int) -> float:
    """Where ``track`` changes most around ``time_s``, in ms from there; NaN at the edges."""
    start = int(time_s * 16_000 / HOP) - REACH
    if start < 1 or start + 2 * REACH >= len(track):
        return float("nan")
    change = sign * np.diff(track[start : start + 2 * REACH])
    return (int(np.argmax(change)) + 0.5 - REACH) * HOP / 16


def boundaries(phones: pd.DataFrame, waveform: np.ndarray) -> Iterator[tuple[str, float]]:
    energy, ratio = features(waveform)
    letters = phones.text.str.strip(MARKS)
    for k in range(1, len(phones)):
        a, b, time_s = letters[k - 1], letters[k], float(phones.start_s[k])
        if phones.end_s[k - 1] != time_s:  # a pause: those times come from the sound anyway
            continue
        if a in VOWELS and b in SIBILANTS:
            yield "vowel > sibilant", steepest_ms(ratio, time_s, 1)
        elif a in SIBILANTS and b in VOWELS:
            yield "sibilant > vowel", steepest_ms(ratio, time_s, -1)
        elif a in VOWELS and b in STOPS:
            yield "vowel > stop", steepest_ms(energy, time_s, -1)
        elif a in STOPS and b in VOWELS:
            yield "stop > vowel", steepest_ms(energy, time_s, 1)


def measure(split: str) -> pd.DataFrame:
    """One row a boundary of a split: its kind, and where it is heard (ms from where it is said)."""
    corpus, found = load_corpus(split), []
    for row in corpus:
        found += boundaries(corpus.phones(row["id"]), soundfile.read(row["file"])[0])
    return pd.DataFrame(found, columns=["boundary", "ms"]).dropna()


def line(split: str, boundary: str, ms: pd.Series) -> str:
    numbers = f"{ms.median():+.1f} | {ms.abs().median():.1f} | {ms.abs().quantile(0.9):.1f}"
    return f"| {split} | {boundary} | {len(ms):,} | {numbers} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", nargs="+", default=["dev", "test"])
    for split in parser.parse_args().splits:
        frame = measure(split)
        for boundary, rows in frame.groupby("boundary"):
            print(line(split, boundary, rows.ms))
        print(line(split, "all", frame.ms))


if __name__ == "__main__":
    main()
