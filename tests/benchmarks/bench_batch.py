"""What a batch costs: speed beside the Transformers pipeline and a plain loop, and memory.

    python tests/benchmarks/bench_batch.py              everything; an idle machine, an hour
    python tests/benchmarks/bench_batch.py --quick      a few clips: whether it works, no figures
    python tests/benchmarks/bench_batch.py --only speed readers

Sections:

speed    200 clips of 1 to 20 s, model mini: contenders take turns, median of the rounds, and
         beside each speed how many texts are not the text of the file alone
full     the same with the architecture of XLSR-53 at full size (random weights; 12 clips, since
         two cores need seconds for each)
linear   seconds against audio seconds: the straight line through them, and its R2
readers  reading and resampling in threads and in processes, alone and while the model works
memory   peak memory for 30 s and for 60 min, each in a process of its own
files    peak memory for 500 to 4,000 files, each in a process of its own

All contenders read with `load_audio`, have the same weights, dtype and threads of torch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sounds import RATE, audio_seconds, make_clips, make_long, make_many

from ptlab.audio import load_audio

SECTIONS = ("speed", "full", "linear", "readers", "memory", "files")


MIXED = {"speed", "linear", "readers"}  # sections that share the mixed clips


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    clips: int = 200
    full_clips: int = 12
    longest_s: float = 20.0
    rounds: int = 5
    full_rounds: int = 3
    fractions: tuple[float, ...] = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
    long_s: float = 3_600.0
    files: tuple[int, ...] = (1_000, 2_000, 4_000)  # from 1,000 s on, the look-ahead is full


QUICK = Sizes(6, 2, 3.0, 1, 1, (0.3, 0.6, 1.0), 100.0, (5, 10))

Contender = Callable[[Sequence[str]], list[str]]


# --- who takes part ------------------------------------------------------------------------------


def sounds_of(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the pipeline takes: sounds that are read when they are asked for."""
    for path in paths:
        yield {"raw": load_audio(path).waveform, "sampling_rate": RATE}


def contenders(model: Any) -> dict[str, Contender]:
    """Ways to bring files to text with one loaded model."""
    from ptlab.batch import transcribe_files
    from ptlab.transcribe import Transcriber, hf_pipeline

    transcriber = Transcriber(model)

    def ours(paths: Sequence[str]) -> list[str]:
        return [result.text for result in transcribe_files(paths, transcriber, progress=False)]

    def pipeline(batch_size: int) -> Contender:
        made = hf_pipeline(model, batch_size=batch_size)
        return lambda paths: [" ".join(out["text"].split()) for out in made(sounds_of(paths))]

    return {
        "ptlab.transcribe_files": ours,
        **{f"pipeline, batch size {n}": pipeline(n) for n in (1, 4, 8)},
        "plain loop": lambda paths: plain_loop(model, paths),
    }


def plain_loop(model: Any, paths: Sequence[str]) -> list[str]:
    """As the model's page on the Hub has it, one file after another."""
    import torch

    texts = []
    for path in paths:
        sound = load_audio(path).waveform
        inputs = model.processor(sound, sampling_rate=RATE, return_tensors="pt")
        with torch.inference_mode():
            logits = model.model(inputs.input_values.to(model.device, model.dtype)).logits
        text = model.processor.batch_decode(logits.argmax(-1))[0]
        texts.append(" ".join(text.split()))
    return texts


def save_xlsr_53(folder: Path, *, tiny: bool = False) -> Path:
    """The architecture of XLSR-53 at full size with random weights; a tiny one to try this file."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from conftest import save_tiny
    from test_full_size import XLSR_53

    return save_tiny(folder, **({} if tiny else XLSR_53))


# --- sections ------------------------------------------------------------------------------------


def compare(model: Any, paths: Sequence[str], rounds: int) -> dict[str, Any]:
    """Contenders take turns; the order moves on every round, so that none is always first."""
    from ptlab.transcribe import Transcriber

    audio_s, single = audio_seconds(paths), Transcriber(model)
    alone = [single.transcribe(path).text for path in paths]
    ways = contenders(model)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    differ: dict[str, int] = {}
    for way in ways.values():  # what is made at first use is made
        way(paths[:2])
    for turn in range(rounds):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            texts = ways[name](paths)
            seconds[name].append(time.perf_counter() - start)
            wrong = sum(a != b for a, b in zip(alone, texts, strict=True))
            differ[name] = max(wrong, differ.get(name, 0))
    return _table(len(paths), audio_s, seconds, differ)


def _table(
    count: int, audio_s: float, seconds: dict[str, list[float]], differ: dict[str, int]
) -> dict[str, Any]:
    ours, *others = (median(s) for s in seconds.values())
    print(f"{count} clips, {audio_s:.0f} s of audio; median of {len(seconds['plain loop'])} rounds")
    print(f"{'':26}{'seconds':>9}{'(min, max)':>18}{'x real time':>13}{'texts that differ':>19}")
    for name, taken in seconds.items():
        spread = f"({min(taken):.1f}, {max(taken):.1f})"
        speed = audio_s / median(taken)
        print(f"{name:26}{median(taken):9.1f}{spread:>18}{speed:13.1f}{differ[name]:19d}")
    print(f"ours is {min(others) / ours:.2f} times as fast as the best of the others\n")
    return {
        "clips": count,
        "audio_s": audio_s,
        "seconds": seconds,
        "differ": differ,
        "gain": min(others) / ours,
    }


def measure_linear(
    model: Any, paths: Sequence[str], sizes: Sizes, plot: str | None
) -> dict[str, Any]:
    """Seconds against audio seconds, from a tenth of the clips to all."""
    ours = contenders(model)["ptlab.transcribe_files"]
    parts = [paths[: max(1, round(f * len(paths)))] for f in sizes.fractions]
    ours(paths[:2])
    rounds = []
    for turn in range(sizes.rounds):  # up and down, so that a slow hour hits all sizes
        order = range(len(parts))[:: -1 if turn % 2 else 1]
        taken = {k: _timed(ours, parts[k]) for k in order}
        rounds.append([taken[k] for k in range(len(parts))])
    audio, seconds = [audio_seconds(p) for p in parts], np.median(rounds, axis=0)
    slope, offset = np.polyfit(audio, seconds, 1)
    rest = seconds - (slope * np.array(audio) + offset)
    r2 = 1 - float((rest**2).sum() / ((seconds - seconds.mean()) ** 2).sum())
    for a, s in zip(audio, seconds, strict=True):
        print(f"{a:9.0f} s of audio in {s:7.1f} s")
    print(f"line: {offset:.2f} s + {slope:.4f} s for a second of audio; R2 = {r2:.4f}\n")
    if plot:
        _plot_line(audio, seconds, slope, offset, r2, plot)
    return {"audio_s": audio, "seconds": seconds.tolist(), "slope": float(slope), "r2": r2}


def _timed(way: Contender, paths: Sequence[str]) -> float:
    start = time.perf_counter()
    way(paths)
    return time.perf_counter() - start


def _plot_line(
    audio: Sequence[float], seconds: np.ndarray, slope: float, offset: float, r2: float, path: str
) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(layout="constrained")
    axes.plot(audio, seconds, "o", label="measured")
    ends = np.array([0, max(audio)])
    axes.plot(ends, slope * ends + offset, "-", label=f"straight line, R² = {r2:.4f}")
    axes.set(xlabel="audio (s)", ylabel="time (s)", title="What a batch costs")
    axes.legend()
    figure.savefig(path)


def measure_readers(model: Any, paths: Sequence[str], rounds: int) -> dict[str, Any]:
    """Reading and resampling by threads and by processes, which must send back what they read."""
    ways: dict[str, Executor | None] = {"no overlap": None}
    ways |= {f"{n} threads": ThreadPoolExecutor(n) for n in (1, 2, 4)}
    start_s = {}
    for n in (1, 2):
        start = time.perf_counter()
        pool = ProcessPoolExecutor(n, mp_context=get_context("spawn"))
        list(pool.map(read, paths[:n]))
        start_s[n] = time.perf_counter() - start
        ways[f"{n} processes"] = pool
    alone: dict[str, list[float]] = {name: [] for name in ways}
    beside: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, pool in ways.items():
            alone[name].append(_read_all(pool, paths, lambda waveform: None))
            beside[name].append(
                _read_all(pool, paths, lambda waveform: model.log_probs([waveform]))
            )
    for pool in filter(None, ways.values()):
        pool.shutdown()
    print(
        f"{len(paths)} clips; processes start in {start_s[1]:.1f} s (1) and {start_s[2]:.1f} s (2)"
    )
    print(f"{'':14}{'reading alone (s)':>20}{'while the model works (s)':>28}")
    for name in ways:
        print(f"{name:14}{median(alone[name]):20.2f}{median(beside[name]):28.2f}")
    print()
    return {"alone": alone, "beside_the_model": beside, "start_s": start_s}


def read(path: str) -> np.ndarray:
    return load_audio(path).waveform


def _read_all(
    pool: Executor | None, paths: Sequence[str], use: Callable[[np.ndarray], Any]
) -> float:
    start = time.perf_counter()
    for waveform in map(read, paths) if pool is None else _ahead(pool, paths):
        use(waveform)
    return time.perf_counter() - start


def _ahead(pool: Executor, paths: Sequence[str], most: int = 8) -> Iterator[np.ndarray]:
    """Results in order, few of them held at once: ``map`` would hold them all."""
    waiting: list[Future] = []
    for path in paths:
        waiting.append(pool.submit(read, path))
        if len(waiting) == most:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()


def measure_memory(folder: Path, long_s: float) -> dict[str, float]:
    """Peak of a process that does one file of 30 s, and of one that does a long one."""
    short_mb, long_mb = (peak_mb([make_long(folder, s)]) for s in (30.0, long_s))
    print(f"30 s: {short_mb:.0f} MB; {long_s / 60:.1f} min: {long_mb:.0f} MB, "
          f"{long_mb / short_mb:.2f} times as much\n")  # fmt: skip
    return {"short_mb": short_mb, "long_mb": long_mb, "long_s": long_s}


def measure_files(folder: Path, counts: Sequence[int]) -> dict[int, float]:
    """Peak of a process for more and more files of a second."""
    paths, peaks = make_many(folder, max(counts)), {}
    for count in counts:
        peaks[count] = peak_mb(paths[:count], folder / f"{count}.jsonl")
        print(f"{count:6d} files: {peaks[count]:.0f} MB")
    grown = (peaks[counts[-1]] - peaks[counts[0]]) / (counts[-1] - counts[0])
    print(f"{1000 * grown:.1f} MB for 1,000 files more\n")
    return peaks


def peak_mb(paths: Sequence[str], journal: Path | None = None) -> float:
    """Peak memory of a fresh process that transcribes files with mini."""
    job = {"paths": list(paths), "journal": str(journal) if journal else None}
    return told_by_child(__file__, job)


def told_by_child(script: str, job: Any) -> float:
    """The number that ``script --child`` prints, a fresh process with the job on its stdin."""
    command, told = [sys.executable, script, "--child"], json.dumps(job)
    done = subprocess.run(command, input=told, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def child() -> None:
    """Do the job on stdin; print the peak in MB."""
    from ptlab._export import runtime_worker
    from ptlab.batch import transcribe_files

    job = json.load(sys.stdin)
    report = transcribe_files(
        job["paths"], "mini", journal=job["journal"], progress=False, device="cpu"
    )
    assert len(report) == len(job["paths"])
    print(runtime_worker.peak_mb())


# --- the command ---------------------------------------------------------------------------------


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few clips: only whether it works")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--rounds", type=int, help="of every comparison")
    parser.add_argument("--threads", type=int, help="of torch; its default if not given")
    parser.add_argument("--plot", metavar="FILE", help="draw the line of section linear")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = options()
    if given.child:
        child()
        return
    if given.threads:  # for the processes of the memory sections too
        os.environ["OMP_NUM_THREADS"] = str(given.threads)
    sizes = QUICK if given.quick else Sizes()
    if given.rounds:
        sizes = Sizes(**{**vars(sizes), "rounds": given.rounds, "full_rounds": given.rounds})
    about_machine()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), sizes, given)
    if given.json:
        Path(given.json).write_text(json.dumps(figures, indent=2), "utf-8")


def measure(folder: Path, sizes: Sizes, given: argparse.Namespace) -> dict[str, Any]:
    """The sections that are wanted, in order."""
    from ptlab.models import load_model

    wanted, figures = set(given.only), {}
    mini = load_model("mini", device="cpu")
    clips = (
        make_clips(folder, sizes.clips, sizes.longest_s)
        if wanted & {"speed", "linear", "readers"}
        else []
    )
    if "speed" in wanted:
        print("== speed, mini")
        figures["speed"] = compare(mini, clips, sizes.rounds)
    if "full" in wanted:
        print("== speed, XLSR-53 at full size, random weights")
        (folder / "full").mkdir()
        paths = make_clips(folder / "full", sizes.full_clips, sizes.longest_s, seed=1)
        figures["full"] = compare(
            load_model(save_xlsr_53(folder / "xlsr-53"), device="cpu"), paths, sizes.full_rounds
        )
    if "linear" in wanted:
        print("== cost against audio, mini")
        figures["linear"] = measure_linear(mini, clips, sizes, given.plot)
    if "readers" in wanted:
        print("== readers")
        figures["readers"] = measure_readers(mini, clips, sizes.rounds)
    if "memory" in wanted:
        print("== memory for one file, mini")
        figures["memory"] = measure_memory(folder, sizes.long_s)
    if "files" in wanted:
        print("== memory for many files, mini")
        (folder / "many").mkdir()
        figures["files"] = measure_files(folder / "many", sizes.files)
    return figures


def about_machine() -> None:
    import torch
    import transformers

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"Python {platform.python_version()}"
    )
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5:
        print(f"load {os.getloadavg()[0]:.1f}: the machine is busy, these figures are not fair")
    print()


if __name__ == "__main__":
    main()
