"""Does speech of 53 languages, heard without text, help where there is little Portuguese?

    python data/recipes/transfer.py --multilingual RUN/model --portuguese RUN_PT/model --out RUNS

Fine-tunes one architecture on 1, 3, 10 and 30 minutes of the corpus's train split, from three
starts: pre-trained on 53 languages, pre-trained on Portuguese alone for as many steps, and random
weights; each with three seeds, which draw the clips, their order and the head. A fourth start tells
how much of it is the front end's: the convolutions of the first under a random Transformer. Same
steps, batches and schedule for all. The convolutions stay as they are where they were fitted, as is
usual; random ones are trained. Matrices learn by Muon: in 300 steps on 10 minutes it brought an
early pre-trained start to 1.8 nats a letter, AdamW alone (1e-3) to 2.6. Greedy decoding of the test
split, whose voices and sentences no start and no run has met.

A run writes ``RUNS/<start>_<minutes>_<seed>.json`` with its hypotheses; one that is there is not
made again, so that a kill costs one run at most. ``--starts`` makes some of them only, for two
calls side by side. After each run ``data/results/transfer.json`` is written anew from all of them:
``runs``; ``cells``, the three seeds together with 95 % intervals (bootstrap over voices); and
``differences`` from random weights, on the same clips. ``ptlab.plots.plot_transfer`` draws it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fast_wav2vec2 import FastForward, mixed_precision
from measure_mini import percent
from speech import frames_of
from torch import Tensor
from train_mini import (
    Muon,
    full_share,
    keep_memory,
    new_model,
    split_parameters,
    texts_of,
    time_mask,
)
from transformers import AutoModel, Wav2Vec2ForCTC

from ptlab import load_corpus, normalize, normalize_text
from ptlab.data import Corpus
from ptlab.metrics import bootstrap, paired_comparison
from ptlab.text import encode

RESULTS = Path(__file__).resolve().parents[1] / "results" / "transfer.json"
CONVOLUTIONS = "convolutions"
STARTS = ("53 languages", "Portuguese", CONVOLUTIONS, "random")
KEYS = ("start", "minutes", "seed")
MINUTES, SEEDS = (1, 3, 10, 30), (0, 1, 2)
WARM_UP, FALL = 0.1, 0.5  # shares of the steps
HIDDEN, DROPOUT = 0.3, 0.1  # share of frames and of channels


def subset(durations_s: list[float], minutes: float, seed: int) -> list[int]:
    """Clips of about so many minutes; those of fewer minutes are among those of more.

    Examples
    --------
    >>> small, large = (subset([30.0] * 10, minutes, 0) for minutes in (1, 3))
    >>> len(small), len(large), large[:2] == small
    (2, 6, True)
    """
    order = np.random.default_rng(seed).permutation(len(durations_s))
    total = np.cumsum(np.array(durations_s)[order])
    count = int(np.argmin(np.abs(total - 60 * minutes))) + 1
    return order[:count].tolist()


def start_model(source: Path | None, seed: int, convolutions_only: bool = False) -> Wav2Vec2ForCTC:
    """`mini`'s architecture with a head of random numbers, on a pre-trained encoder if given."""
    torch.manual_seed(seed)
    model = new_model().float()
    if source is not None:
        encoder = AutoModel.from_pretrained(source).float()
        ours = model.wav2vec2
        if convolutions_only:
            ours, encoder = ours.feature_extractor, encoder.feature_extractor
        ours.load_state_dict(encoder.state_dict())
    return model


class Clips:
    """Training clips as waveforms, or as the features of convolutions that are not trained."""

    def __init__(self, corpus: Corpus, chosen: list[int], forward: FastForward | None):
        self.inputs, self.labels = [], []
        for i in chosen:
            wave = torch.from_numpy(normalize(corpus.audio(i).waveform))
            if forward is not None:
                with torch.no_grad(), mixed_precision():
                    wave = forward.features(wave[None])[0].float()
            self.inputs.append(wave)
            self.labels.append(encode(normalize_text(corpus.row(i)["text"])).tolist())
        self.of_features = forward is not None

    def batches(self, rng: np.random.Generator, budget: int) -> Iterator[tuple]:
        """Endless padded batches of at most ``budget`` frames: inputs, frames, labels."""
        sizes = [self.frames(x) for x in self.inputs]
        while True:
            order = sorted(rng.permutation(len(sizes)), key=lambda i: sizes[i] // 25)
            groups: list[list[int]] = [[]]
            for i in order:
                if groups[-1] and (len(groups[-1]) + 1) * sizes[i] > budget:
                    groups.append([])
                groups[-1].append(i)
            for g in rng.permutation(len(groups)):
                yield self._padded(groups[g], [sizes[i] for i in groups[g]])

    def frames(self, x: Tensor) -> int:
        return len(x) if self.of_features else frames_of(len(x))

    def _padded(self, chosen: list[int], sizes: list[int]) -> tuple[Tensor, Tensor, list]:
        step = 25 if self.of_features else 8_000  # half a second: few shapes
        inputs = torch.nn.utils.rnn.pad_sequence([self.inputs[i] for i in chosen], True)
        missing = -inputs.shape[1] % step
        inputs = F.pad(inputs, (0, 0, 0, missing) if self.of_features else (0, missing))
        return inputs, torch.tensor(sizes), [self.labels[i] for i in chosen]


def finetune(
    model: Wav2Vec2ForCTC, clips: Clips, args: argparse.Namespace, seed: int
) -> list[float]:
    """Train with CTC alone; the mean loss a character of every tenth of the steps."""
    model.train()
    model.wav2vec2.feature_extractor.requires_grad_(not clips.of_features)
    matrices, others = split_parameters(model)
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01)
    forward, rng = FastForward(model, 0, DROPOUT), np.random.default_rng([seed, 1])
    found = []
    batches = clips.batches(rng, int(args.batch_s * 50))
    for step in range(args.steps):
        loss = ctc_loss(forward, *next(batches), clips.of_features, rng)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in others if p.grad is not None], 1.0)
        share = full_share(step, args.steps, WARM_UP, FALL)
        muon.step(args.muon_lr * share)
        adam.param_groups[0]["lr"] = args.adam_lr * share
        adam.step()
        found.append(loss.item())
    model.eval()
    return [round(float(part.mean()), 3) for part in np.array_split(found, min(10, args.steps))]


def ctc_loss(
    forward: FastForward,
    inputs: Tensor,
    lengths: Tensor,
    labels: list,
    of_features: bool,
    rng: np.random.Generator,
) -> Tensor:
    """CTC loss a character of a batch, behind a SpecAugment mask."""
    with mixed_precision():
        features = inputs if of_features else forward.features(inputs)
        mask = time_mask(lengths, features.shape[1], rng, HIDDEN)
        last, _ = forward.encode(features, lengths, mask)
        log_probs = forward.model.lm_head(last).float().log_softmax(-1).transpose(0, 1)
    counts = torch.tensor([len(x) for x in labels])
    targets = torch.tensor([i for x in labels for i in x])
    loss = F.ctc_loss(log_probs, targets, lengths, counts, reduction="sum", zero_infinity=True)
    return loss / counts.sum()


def one_run(args: argparse.Namespace, test: Corpus, start: str, minutes: int, seed: int) -> dict:
    """Fine-tune and transcribe; what is kept of it."""
    source, began, train = args.sources[start], time.time(), load_corpus("train")
    model = start_model(source, seed, start == CONVOLUTIONS)
    chosen = subset(train.frame.duration_s.tolist(), minutes, seed)
    clips = Clips(train, chosen, FastForward(model, 0) if source else None)
    losses = finetune(model, clips, args, seed)
    return {
        "start": start,
        "minutes": minutes,
        "seed": seed,
        "steps": args.steps,
        "clips": len(chosen),
        "losses": losses,
        "seconds": round(time.time() - began),
        "hypotheses": texts_of(model, (test.audio(i).waveform for i in range(len(test)))),
    }


def summarise(folder: Path, test: Corpus) -> dict:
    """Contents of the results file, from the run files of a folder."""
    paths = sorted(folder.glob("*_*_*.json"))
    runs = [json.loads(path.read_text("utf-8")) for path in paths]
    references = [normalize_text(text) for text in test.frame.text]
    voices = test.frame.speaker.tolist()
    cells: dict[tuple, list] = {}
    for run in runs:
        cells.setdefault((run["minutes"], run["start"]), []).append(run)
    found = {"runs": [], "cells": [], "differences": []}
    for run in runs:
        kept = {k: v for k, v in run.items() if k != "hypotheses"}
        found["runs"].append(kept | rates(references, run["hypotheses"], voices))
    for (minutes, start), group in sorted(cells.items()):
        pooled = [h for run in group for h in run["hypotheses"]]
        named = {"start": start, "minutes": minutes, "seeds": [run["seed"] for run in group]}
        count = len(group)
        found["cells"].append(named | rates(references * count, pooled, voices * count))
        if start != "random" and (minutes, "random") in cells:
            both = paired(group, cells[minutes, "random"])
            found["differences"].append(named | differences(references, both, voices))
    return found


def rates(references: list[str], hypotheses: list[str], voices: list[str]) -> dict:
    """WER and CER in per cent: value, low and high end of the interval."""
    found = {}
    for metric in ("wer", "cer"):
        i = bootstrap(references, hypotheses, metric=metric, groups=voices)
        found[metric] = percent(i.value, i.low, i.high)
    return found


def paired(group: list[dict], others: list[dict]) -> list[tuple[list[str], list[str]]]:
    """(random's, its own) hypotheses of the seeds that both have."""
    other = {run["seed"]: run["hypotheses"] for run in others}
    return [(other[r["seed"]], r["hypotheses"]) for r in group if r["seed"] in other]


def differences(references: list[str], both: list[tuple], voices: list[str]) -> dict:
    """Rates less those from random weights, in per cent, with intervals."""
    first, second = ([text for pair in both for text in pair[k]] for k in (0, 1))
    found = {}
    for metric in ("wer", "cer"):
        d = paired_comparison(
            references * len(both), first, second, metric=metric, groups=voices * len(both)
        )
        found[metric] = percent(d.difference, d.low, d.high)
    return found


def write(path: Path, found: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")  # of another call: another name
    part.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", "utf-8")
    part.replace(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--multilingual", type=Path, help="folder of the model of 53 languages")
    parser.add_argument("--portuguese", type=Path, help="folder of the model of Portuguese alone")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--starts", nargs="*", choices=STARTS, default=STARTS)
    parser.add_argument("--minutes", nargs="*", type=int, default=MINUTES)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-s", type=float, default=20)
    parser.add_argument("--muon-lr", type=float, default=2e-3, help="of the matrices")
    parser.add_argument("--adam-lr", type=float, default=1e-3, help="of all else")
    parser.add_argument("--quick", action="store_true", help="one seed, 60 steps, some test clips")
    args = parser.parse_args(arguments)
    folders = (args.multilingual, args.portuguese, args.multilingual, None)
    args.sources = dict(zip(STARTS, folders, strict=True))
    for start in args.starts:
        if start != "random" and args.sources[start] is None:
            raise SystemExit(f"Where is the model of {start!r}? Give its folder, or leave it out.")
    torch.set_num_threads(1)
    keep_memory()
    run_all(args)


def run_all(args: argparse.Namespace) -> None:
    """Every run that is not there yet, seed by seed, and the results after each."""
    test = load_corpus("test")
    if args.quick:
        args.seeds, args.steps, args.results = (0,), 60, args.out / "transfer.json"
        test = replace(test, frame=test.frame.iloc[::13].reset_index(drop=True))
    for seed, minutes, start in product(args.seeds, args.minutes, args.starts):
        path = args.out / f"{start.replace(' ', '-')}_{minutes}_{seed}.json"
        if not path.exists():
            write(path, one_run(args, test, start, minutes, seed))
        run = json.loads(path.read_text("utf-8"))
        if run["steps"] != args.steps:
            raise SystemExit(f"{path.name} was made with {run['steps']} steps: take another --out.")
        facts = {name: getattr(args, name) for name in ("steps", "batch_s", "muon_lr", "adam_lr")}
        found = facts | {"pretraining": pretraining(args.sources)} | summarise(args.out, test)
        write(args.results, found)
        last = next(r for r in found["runs"] if all(r[k] == run[k] for k in KEYS))
        print(f"{path.stem}: WER {last['wer']}, CER {last['cer']}", flush=True)


def pretraining(sources: dict[str, Path | None]) -> dict[str, dict]:
    """The last line of the log of each start that was pre-trained."""
    logs = {s: folder.parent / "log.jsonl" for s, folder in sources.items() if folder is not None}
    found = {s: log.read_text("utf-8").splitlines() for s, log in logs.items() if log.exists()}
    return {start: json.loads(lines[-1]) for start, lines in found.items()}


if __name__ == "__main__":
    main()
