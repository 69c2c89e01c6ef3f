"""What the layers of a model know of the course's probe sets, with every control: whole sets.

    python tests/benchmarks/bench_probes.py                 mini: about ten minutes on two cores
    python tests/benchmarks/bench_probes.py --quick         three layers, few shuffled labels
    python tests/benchmarks/bench_probes.py --model xlsr-53-pt --cache embeddings --out probes.json

Prints the probe of each set (layer chosen in training, groups apart, intervals over groups), the
verification of voices in other sessions, and whether the bars hold: the probe of the voice beats
MFCC and random weights with intervals that do not overlap, and the leak of sessions is found. As it
does not beat MFCC, the voice is asked once more of a layer, one of mini-xlsr-53 and MFCC together,
by a discriminant analysis ("lda"), which does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import ptlab


def study(name: str, args: argparse.Namespace) -> tuple[dict[str, Any], ptlab.Embeddings, Any]:
    """Probe one set, the layer chosen in training."""
    corpus = ptlab.load_probe_set(name)
    model = ptlab.load_model(args.model)
    layers = [0, model.num_layers // 2, model.num_layers] if args.quick else "all"
    vectors = ptlab.embed(corpus, model, layers, pool="mean", cache=args.cache, progress=True)
    controls = ptlab.sound_controls(vectors)
    result = ptlab.probe(
        vectors, corpus.frame.label, corpus.frame.group, controls=controls, folds=args.folds,
        n_permutations=3 if args.quick else 20, n_jobs=args.jobs,
    )  # fmt: skip
    print(f"\n== {name}\n{result}", flush=True)
    found = intervals({"probe": result.scores, **result.controls})
    return {"macro_f1": found, "p": result.p_value, "layers": result.layers}, vectors, corpus.frame


def intervals(scores: dict[str, Any]) -> dict[str, list[float]]:
    """Macro-F1, its lower and its upper end, by what it is of."""
    return {k: [s.macro_f1.value, s.macro_f1.low, s.macro_f1.high] for k, s in scores.items()}


def apart(found: dict[str, list[float]], control: str) -> bool:
    """Does the interval of the probe lie wholly above that of the control?"""
    return found["probe"][1] > found[control][2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--sets", nargs="*", default=ptlab.PROBE_SETS, choices=ptlab.PROBE_SETS)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, help="processes for the shuffled labels")
    parser.add_argument("--cache", help="folder that keeps the embeddings")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    figures = {}
    for name in args.sets:
        figures[name], vectors, frame = study(name, args)
        if name == "speakers":
            figures[name] |= voices(figures[name]["macro_f1"], vectors, frame)
            figures[name] |= {"together": together(args.model)}
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1, default=str) + "\n", "utf-8")


def voices(found: dict, vectors: ptlab.Embeddings, frame: Any) -> dict[str, Any]:
    """Verification, the leak of sessions, and the bars."""
    trials = ptlab.make_trials(frame.speaker, frame.group, frame.text)
    rates = {}
    for layer in vectors.layers:
        result = ptlab.verify(vectors.matrix(layer), frame.speaker, trials)
        rates[str(layer)] = [result.eer.value, result.eer.low, result.eer.high]
        print(f"layer {layer}: {result}")
    leaks = ptlab.find_leaks(
        vectors.matrix(vectors.layers[0]), frame.label, range(len(frame)), {"session": frame.group}
    )
    print(leaks)
    bars = {f"above {c}": apart(found, c) for c in ("MFCC", "random weights")}
    bars["leak found"] = leaks["session"].verdict == "leak"
    print(bars, flush=True)
    return {"eer": rates, "bars": bars}


def together(model: str) -> dict[str, list[float]]:
    """Macro-F1 of MFCC, of a low layer, and of both with one of mini-xlsr-53, all by "lda"."""
    corpus = ptlab.load_probe_set("speakers")
    frame = corpus.frame
    low = ptlab.embed(corpus, model, [1], pool="mean_std").matrix(1)
    listener = ptlab.embed(corpus, "mini-xlsr-53", [5], pool="mean_std").matrix(5)
    mfcc = ptlab.sound_controls(frame.file.tolist())["MFCC"]
    result = ptlab.probe(
        np.hstack([low, listener, mfcc]), frame.label, frame.group, classifier="lda",
        controls={"MFCC": mfcc, "layer 1": low}, n_permutations=20,
        without=dict.fromkeys(("duration", "loudness", "random weights"), "see above"),
    )  # fmt: skip
    print(f"\n== speakers, layers and MFCC together\n{result}", flush=True)
    found = intervals({"probe": result.scores, **result.controls})
    print({"above MFCC, together": apart(found, "MFCC")}, flush=True)
    return found


if __name__ == "__main__":
    main()
