"""Turn training runs into the model that ptlab ships, and fit its confidence and times on dev.

    python data/recipes/ship_mini.py RUN/model...

Of several runs that began from one start, the weights are averaged: such a mean makes fewer errors
than any of them (model soups, Wortsman et al. 2022, arXiv 2203.05482). With ``--out`` it may be
the start of the next runs.

Writes the folder ``ptlab/assets/mini``: weights as fp16 safetensors, config, vocabulary, feature
extractor, and ``calibration.json``: how a word's score is made (chosen by AUROC on the dev split),
the curve from score to probability, and the shift of all times that makes the median error of
word boundaries zero on dev. The test split is not touched: ``measure_mini.py`` does that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from transformers import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from ptlab import Calibrator, Transcriber, auroc, load_corpus, normalize_text, word_correctness
from ptlab.data import Corpus
from ptlab.metrics import align_words
from ptlab.text import VOCABULARY
from ptlab.transcription import Transcription, Word

ASSETS = Path(__file__).resolve().parents[2] / "ptlab" / "assets" / "mini"
METHODS = (("max_prob", 1 / 3), ("tsallis", 1 / 2), ("tsallis", 1 / 3))
AGGREGATES = ("min", "mean", "prod")
PATHS = (0.0, 0.5, 1.0)


def averaged(sources: Sequence[Path]) -> Wav2Vec2ForCTC:
    """The mean of the weights in these folders; one that is named twice counts twice."""
    models = [Wav2Vec2ForCTC.from_pretrained(s, dtype=torch.float32) for s in sources]
    states = [model.state_dict() for model in models]
    mean = {name: torch.stack([s[name] for s in states]).mean(0) for name in states[0]}
    models[0].load_state_dict(mean)
    return models[0]


def write_model(sources: Sequence[Path], folder: Path) -> None:
    """Weights in half precision, and the files that make a folder loadable anywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    averaged(sources).half().save_pretrained(folder)
    vocabulary = folder / "vocab.json"
    ids = {token: i for i, token in enumerate(VOCABULARY)}
    vocabulary.write_text(json.dumps(ids, ensure_ascii=False, indent=0) + "\n", "utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), word_delimiter_token="|")
    features = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    Wav2Vec2Processor(features, tokenizer).save_pretrained(folder)
    features.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def transcribe_all(transcriber: Transcriber, corpus: Corpus) -> list[Transcription]:
    return [transcriber.transcribe(corpus.audio(i)) for i in range(len(corpus))]


def word_scores(
    results: list[Transcription], references: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of every recognised word, and whether it is right."""
    scores = [w.confidence for r in results for w in r.words]
    pairs = zip(references, results, strict=True)
    correct = [c for text, r in pairs for c in word_correctness(text, r.text)]
    return np.array(scores), np.array(correct)


def right_words(truth: Sequence[str], result: Transcription) -> dict[int, Word]:
    """Place in ``truth`` -> recognised word, for the words that are right."""
    right, place, found = {}, 0, iter(result.words)
    for edit in align_words(" ".join(truth), result.text):
        word = next(found) if edit.op != "D" else None
        if edit.op == "=":
            right[place] = word
        place += edit.op != "I"
    return right


def boundary_errors(results: list[Transcription], truths: list) -> np.ndarray:
    """Seconds, found minus true: (words, 2) starts and ends of the words that are right.

    ``truths`` are frames with ``text, start_s, end_s`` whose words were spoken in that order.
    """
    errors = []
    for result, truth in zip(results, truths, strict=True):
        for place, word in right_words(truth.text, result).items():
            true = truth.iloc[place]
            errors.append((word.start_s - true.start_s, word.end_s - true.end_s))
    return np.array(errors)


def calibrate(folder: Path) -> dict:
    """Contents of ``calibration.json``, fitted on the dev split."""
    corpus = load_corpus("dev")
    references = [normalize_text(text) for text in corpus.frame.text]
    transcriber, tried = Transcriber(str(folder), device="cpu"), []
    transcriber.offset_s = 0.0
    sounds = [corpus.audio(i) for i in range(len(corpus))]
    heard = [(transcriber.log_probs(s.waveform)[0], s.duration_s) for s in sounds]
    for (method, alpha), aggregate, path in product(METHODS, AGGREGATES, PATHS):
        how = {"method": method, "alpha": alpha, "aggregate": aggregate, "path": path}
        transcriber.calibrator = Calibrator((0.0, 1.0), (0.0, 1.0), **how)
        results = [transcriber.from_log_probs(*one) for one in heard]
        scores, correct = word_scores(results, references)
        tried.append((auroc(scores, correct), how, scores, correct))
        print(f"{how}: AUROC {tried[-1][0]:.3f} on dev", flush=True)
    _, how, scores, correct = max(tried, key=lambda row: row[0])
    errors = boundary_errors(results, [corpus.words(i) for i in range(len(corpus))])
    offset_s = -float(np.median(errors))
    words = Calibrator.fit(scores, correct, knots=12, **how).to_dict()
    return {"fitted_on": "dev", "words": words, "offset_s": round(offset_s, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="folders with config and weights")
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args()
    write_model(args.models, args.out)
    target = args.out / "calibration.json"
    target.unlink(missing_ok=True)
    fitted = json.dumps(calibrate(args.out), indent=1)
    target.write_text(fitted + "\n", "utf-8")


if __name__ == "__main__":
    main()
