"""Measure ``mini`` and write the figures into its model card.

    python data/recipes/measure_mini.py --espeak speech/espeak_test --real stamps

Test split: error rates with 95 % intervals (bootstrap over voices), by accent, and with pink noise;
word confidence; word times against the true ones; sentence times of the story. If asked:

``--espeak``  a folder of ``make_espeak.py --held-out-voices`` (voices kept out of training);
``--real``    an unpacked Debian ``tuxpaint-stamps-default``: real people say Brazilian words. Those
              recordings are GPL and stay out of the repository and out of training.

Writes ``metrics.json`` beside the weights and the tables between the marks of the card.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path

import numpy as np
import scipy.fft
from augment import add_noise
from ship_mini import ASSETS, boundary_errors, right_words, transcribe_all, word_scores

import ptlab
from ptlab import Transcriber, load_corpus, load_story, normalize_text
from ptlab.metrics import bootstrap

SNRS_DB = (20, 10, 5)
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")


def pink_noise(samples: int, seed: int) -> np.ndarray:
    """Noise whose power falls as 1/f."""
    bins = np.arange(1, samples // 2 + 2)
    rng = np.random.default_rng(seed)
    spectrum = (rng.standard_normal(len(bins)) + 1j * rng.standard_normal(len(bins))) / bins**0.5
    return scipy.fft.irfft(spectrum, samples).astype(np.float32)


def percent(value: float, low: float, high: float) -> list[float]:
    """A rate and its interval in per cent."""
    return [round(100 * v, 2) for v in (value, low, high)]


def rates(references: list[str], hypotheses: list[str], voices: list[str] | None) -> dict:
    """WER and CER in per cent with intervals."""
    found: dict = {"clips": len(references)}
    for metric in ("wer", "cer"):
        i = bootstrap(references, hypotheses, metric=metric, groups=voices)
        found[metric] = percent(i.value, i.low, i.high)
    return found


def on_test(transcriber: Transcriber) -> dict:
    """Error rates, confidence and times on the test split."""
    corpus = load_corpus("test")
    frame = corpus.frame.assign(reference=[normalize_text(t) for t in corpus.frame.text])
    start = time.perf_counter()
    results = transcribe_all(transcriber, corpus)
    seconds = time.perf_counter() - start
    frame["hypothesis"] = [r.text for r in results]
    columns = ("reference", "hypothesis", "speaker")
    found = {"test": rates(*(frame[c].tolist() for c in columns))}
    for accent, part in frame.groupby("accent"):
        found[f"test, {accent}"] = rates(*(part[c].tolist() for c in columns))
    for snr_db in SNRS_DB:
        heard = []
        for i in range(len(corpus)):
            wave = corpus.audio(i).waveform
            noisy = add_noise(wave, pink_noise(len(wave), i), snr_db)
            heard.append(transcriber.transcribe(noisy.clip(-1, 1), 16_000).text)
        found[f"test, {snr_db} dB"] = rates(frame.reference.tolist(), heard, frame.speaker.tolist())
    scores, correct = word_scores(results, frame.reference.tolist())
    errors = boundary_errors(results, [corpus.words(i) for i in range(len(corpus))])
    found["confidence"] = {
        "auroc": round(ptlab.auroc(scores, correct), 3),
        "ece": round(ptlab.ece(scores, correct), 3),
        "words": len(scores),
    }
    found["word times"] = times(errors)
    found["real_time_factor"] = round(seconds / corpus.frame.duration_s.sum(), 4)
    return found


def times(errors: np.ndarray) -> dict:
    """Median and 90th percentile of the absolute errors, in milliseconds."""
    size = np.abs(errors) * 1000
    return {
        "count": len(errors),
        "median_ms": np.median(size, axis=0).round(1).tolist(),
        "p90_ms": np.quantile(size, 0.9, axis=0).round(1).tolist(),
        "bias_ms": (np.median(errors, axis=0) * 1000).round(1).tolist(),
    }


def on_story(transcriber: Transcriber) -> dict:
    """Error rates of the story, and times of sentences whose first and last words are right."""
    story = load_story()
    result = transcriber.transcribe(story.audio())
    right, errors = right_words(story.words.text, result), []
    for number, places in story.words.groupby("sentence").groups.items():
        if places[0] in right and places[-1] in right:
            true, first, last = story.sentences.iloc[number], right[places[0]], right[places[-1]]
            errors.append((first.start_s - true.start_s, last.end_s - true.end_s))
    reference = " ".join(story.words.text)
    return {
        "story": rates([reference], [result.text], None),
        "sentence times": times(np.array(errors).reshape(-1, 2)),
    }


def on_espeak(transcriber: Transcriber, folder: Path) -> dict:
    """Error rates on espeak-ng voices that were kept out of training."""
    rows = [json.loads(line) for line in (folder / "part0.jsonl").read_text("utf-8").splitlines()]
    heard = [transcriber.transcribe(folder / row["path"]).text for row in rows]
    references = [normalize_text(row["text"]) for row in rows]
    return {"espeak-ng voices": rates(references, heard, [row["voice"] for row in rows])}


def on_real_words(transcriber: Transcriber, folder: Path) -> dict:
    """Error rates on the words that people say in Tux Paint's Brazilian stamps."""
    references, heard = [], []
    for path in sorted(folder.rglob("*_desc_pt_BR.wav")):
        named = path.with_name(path.name.replace("_desc_pt_BR.wav", ".txt")).read_text("utf-8")
        line = re.search(r"^pt_br\.utf8=(.+)$", named, re.M | re.I)
        if line:
            references.append(normalize_text(line[1]))
            heard.append(transcriber.transcribe(path).text)
            print(f"  {references[-1]} | {heard[-1]}")
    return {"real words": rates(references, heard, None)}


def as_markdown(found: dict) -> str:
    """The tables of the card."""
    lines = ["| set | clips | WER % | CER % |", "|---|---|---|---|"]
    for name, row in found.items():
        if isinstance(row, dict) and "wer" in row:
            cells = [_rate(*row[m]) for m in ("wer", "cer")]
            lines.append(f"| {name} | {row['clips']} | {cells[0]} | {cells[1]} |")
    lines += ["", "| times of what was recognised right | count | median ms | 90 % below ms |"]
    lines += ["|---|---|---|---|"]
    for name in ("word times", "sentence times"):
        row = found[name]
        median, p90 = ("{} start, {} end".format(*row[k]) for k in ("median_ms", "p90_ms"))
        lines.append(f"| {name} | {row['count']} | {median} | {p90} |")
    sure = found["confidence"]
    lines += ["", f"Word confidence on the test split, {sure['words']} words: "]
    lines[-1] += f"AUROC {sure['auroc']}, expected calibration error {sure['ece']}."
    return "\n".join(lines)


def _rate(value: float, low: float, high: float) -> str:
    """A rate with its interval; one voice or one recording, drawn again and again, has none."""
    return f"{value} [{low}, {high}]" if low < high else str(value)


def write_card(card: Path, found: dict) -> None:
    before, _, rest = card.read_text("utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    card.write_text(f"{before}{MARKS[0]}\n{as_markdown(found)}\n{MARKS[1]}{after}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ASSETS)
    parser.add_argument("--espeak", type=Path)
    parser.add_argument("--real", type=Path)
    args = parser.parse_args()
    transcriber = Transcriber(str(args.model), device="cpu")
    found = on_test(transcriber) | on_story(transcriber)
    if args.espeak:
        found |= on_espeak(transcriber, args.espeak)
    if args.real:
        found |= on_real_words(transcriber, args.real)
    (args.model / "metrics.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(as_markdown(found))
    if (args.model / "README.md").is_file():
        write_card(args.model / "README.md", found)


if __name__ == "__main__":
    main()
