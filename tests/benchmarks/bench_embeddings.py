"""What all layers of XLSR-53 at full size cost: against a plain loop, and the memory of long sound.

    python tests/benchmarks/bench_embeddings.py            both sections; ten minutes, 6 GB
    python tests/benchmarks/bench_embeddings.py --quick    a tiny network: whether it works
    python tests/benchmarks/bench_embeddings.py --only speed --rounds 5

speed    mean vectors of all layers of 12 clips of 1 to 15 s: `ptlab.embed` beside the loop that a
         reader of the documentation of transformers writes (one clip after another,
         ``output_hidden_states``), by turns in one process. Bar: 1.3 times, with equal vectors
memory   peak of a fresh process that embeds one recording of 1 or of 20 minutes: mean vectors of
         all layers, and the frames of one layer into a cache

Weights are random, which changes no cost.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench_batch import about_machine, save_xlsr_53, told_by_child
from sounds import RATE, make_long, tape

SECTIONS = ("speed", "memory")
BAR = 1.3
JOBS: dict[str, dict[str, Any]] = {
    "all layers, mean": {"layers": "all", "pool": "mean"},
    "frames of layer 1": {"layers": [1]},
}


def by_loop(clips: list[np.ndarray], model: Any) -> np.ndarray:
    """Mean vectors (clips, layers, hidden) by transformers alone."""
    import torch

    vectors = []
    for clip in clips:
        inputs = model.feature_extractor(clip, sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            out = model.model.base_model(inputs.input_values, output_hidden_states=True)
        vectors.append(torch.stack(out.hidden_states)[:, 0].mean(1).numpy())
    return np.stack(vectors)


def by_ptlab(clips: list[np.ndarray], model: Any) -> np.ndarray:
    import ptlab

    return np.stack(list(ptlab.embed(clips, model, pool="mean", sampling_rate=RATE)))


def measure_speed(model: Any, count: int, longest_s: float, rounds: int) -> None:
    """Seconds of both ways by turns, and how far their vectors are apart."""
    lengths = np.random.default_rng(1).uniform(1, longest_s, count)
    cuts = np.cumsum(np.round(lengths * RATE).astype(int))
    clips = np.split(tape(float(lengths.sum()) + 1, seed=1)[: cuts[-1]], cuts[:-1])
    ways = {"loop": by_loop, "ptlab": by_ptlab}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for number in range(rounds + 1):  # the first round warms up
        for name, way in ways.items():
            start = time.perf_counter()
            found[name] = way(clips, model)
            if number:
                taken[name].append(time.perf_counter() - start)
    apart = np.abs(found["loop"] - found["ptlab"]).max() / np.abs(found["loop"]).max()
    for name, seconds in taken.items():
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(f"{name:8}{median(seconds):8.2f} s ({spread}) for {lengths.sum():.0f} s of sound")
    ratio = median(taken["loop"]) / median(taken["ptlab"])
    print(
        f"ptlab is {ratio:.2f} times as fast (bar {BAR}); vectors differ by at most {apart:.1e} of "
        f"the largest number\n"
    )
    assert apart < 1e-4, "not the same vectors"


def measure_memory(folder: Path, weights: Path, long_s: float) -> None:
    """Peaks of fresh processes, a short recording beside a long one."""
    for job in JOBS:
        cache = str(folder / "cache")
        told = ([make_long(folder, s), str(weights), cache, job] for s in (60.0, long_s))
        peaks = [told_by_child(__file__, one) for one in told]
        print(
            f"{job}: 1 min {peaks[0]:.0f} MB, {long_s / 60:.0f} min {peaks[1]:.0f} MB, "
            f"{peaks[1] / peaks[0]:.2f} times as much",
            flush=True,
        )


def child() -> None:
    """Do the job on stdin; print the peak in MB."""
    import ptlab
    from ptlab._export import runtime_worker

    path, weights, cache, job = json.load(sys.stdin)
    found = ptlab.embed(path, ptlab.load_model(weights, device="cpu"), cache=cache, **JOBS[job])
    assert np.isfinite(found[0]).all()
    print(runtime_worker.peak_mb())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few clips: only whether it works")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child()
        return
    about_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = save_xlsr_53(folder / "xlsr-53", tiny=given.quick)
        if "speed" in given.only:
            from ptlab import load_model

            count, longest_s = (4, 3.0) if given.quick else (12, 15.0)
            measure_speed(load_model(weights, device="cpu"), count, longest_s, given.rounds)
        if "memory" in given.only:
            measure_memory(folder, weights, 120.0 if given.quick else 1200.0)


if __name__ == "__main__":
    main()
