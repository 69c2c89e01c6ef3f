"""What streaming costs: in errors, in time and in memory.

    python tests/benchmarks/bench_streaming.py              everything; an idle machine, an hour
    python tests/benchmarks/bench_streaming.py --quick      little sound: whether it works
    python tests/benchmarks/bench_streaming.py --only wer hour

Sections:

wer    the test split joined to streams of two minutes, mini: every policy against the offline text
       of the same streams and of each clip alone, with paired intervals over the clips
curve  the same for other chunks and contexts, to see what each of them is worth
hour   one hour of speech through one stream, mini, in a process of its own: memory, cost of a step
full   the architecture of XLSR-53 at full size (random weights), in float32, bfloat16 and as ONNX
       int8: which chunk and contexts keep up in real time, and what it would cost to decode all
       that was heard so far at every step
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_batch import about_machine, save_xlsr_53
from sounds import RATE, tape

from ptlab.data import Corpus, load_corpus
from ptlab.metrics import error_rates, paired_comparison
from ptlab.models import load_model
from ptlab.stream_log import StreamLog, simulate
from ptlab.streaming import BufferedCTC, Commit, LocalAgreement, NaiveChunks
from ptlab.streaming_metrics import Spread, normalized_erasure
from ptlab.text import normalize_text
from ptlab.transcribe import Transcriber
from ptlab.transcription import Word

SECTIONS = ("wer", "curve", "hour", "full")
BAR = BufferedCTC(chunk_s=0.5, left_s=3.0, right_s=0.5)
BAR_NAME = "buffered 0.5 s, 3 s left, 0.5 s right"
POLICIES = {
    BAR_NAME: BAR,
    "LocalAgreement 0.5 s, 3 s left": LocalAgreement(),
    "naive 1 s": NaiveChunks(1.0),
}
CURVE = {
    "chunk 0.25 s": BufferedCTC(0.25, 3.0, 0.5),
    "chunk 1 s": BufferedCTC(1.0, 3.0, 0.5),
    "left 0": BufferedCTC(0.5, 0.0, 0.5),
    "left 1 s": BufferedCTC(0.5, 1.0, 0.5),
    "left 6 s": BufferedCTC(0.5, 6.0, 0.5),
    "right 0": BufferedCTC(0.5, 3.0, 0.0),
    "right 0.25 s": BufferedCTC(0.5, 3.0, 0.25),
    "right 1 s": BufferedCTC(0.5, 3.0, 1.0),
    "naive 3 s": NaiveChunks(3.0),
}
FULL = {
    "0.5 s, 3 s left, 0.5 s right": BAR,
    "1 s, 1.5 s left, 0.5 s right": BufferedCTC(1.0, 1.5, 0.5),
    "1 s, 3 s left, 0.5 s right": BufferedCTC(1.0, 3.0, 0.5),
    "2 s, 3 s left, 1 s right": BufferedCTC(2.0, 3.0, 1.0),
    "4 s, 3 s left, 1 s right": BufferedCTC(4.0, 3.0, 1.0),
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    clips: int | None = None  # of the split; None is all of them
    take_s: float = 120.0
    hour_s: float = 3_600.0
    steps: int = 6  # of every choice in the section full
    again_s: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0)


QUICK = Sizes(6, 12.0, 20.0, 2, (1.0, 2.0))


# --- errors --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Take:
    """Clips one after another: the sound, and where each clip begins and what it says."""

    waveform: np.ndarray
    starts_s: tuple[float, ...]
    texts: tuple[str, ...]

    def by_clip(self, words: Sequence[Word]) -> list[str]:
        """The words that lie in each clip: those whose middle does."""
        middles = [(w.start_s + w.end_s) / 2 for w in words]
        clips = np.maximum(np.searchsorted(self.starts_s, middles, side="right") - 1, 0)
        return [
            " ".join(w.text for w, clip in zip(words, clips, strict=True) if clip == n)
            for n in range(len(self.texts))
        ]


def make_takes(corpus: Corpus, numbers: Sequence[int], take_s: float) -> list[Take]:
    """Clips one after another, half a second between them; a new take when one is long enough."""
    takes, pieces, starts, texts = [], [], [], []
    for number in numbers:
        pieces.append(np.zeros(RATE // 2, np.float32))
        starts.append(sum(map(len, pieces)) / RATE - 0.25)
        pieces.append(corpus.audio(number).waveform)
        texts.append(normalize_text(corpus.row(number)["text"]))
        if number == numbers[-1] or sum(map(len, pieces)) >= take_s * RATE:
            takes.append(Take(np.concatenate(pieces), tuple(starts), tuple(texts)))
            pieces, starts, texts = [], [], []
    return takes


def committed_words(log: StreamLog) -> list[Word]:
    return [word for event in log.events if isinstance(event, Commit) for word in event.words]


def erased_commits(log: StreamLog) -> float:
    """Normalised erasure of what was committed, utterance by utterance: it must be 0."""
    shown: dict[int, list[str]] = {}
    for event in log.events:
        if hasattr(event, "stable"):
            shown.setdefault(event.utterance, []).append(event.committed)
    return sum(map(normalized_erasure, shown.values()))


def measure_wer(policies: dict[str, Any], sizes: Sizes, *, voices_alternate: bool = False) -> Any:
    """Error rates of streams against two offline texts: of the same stream, and of each clip alone.

    A model that has learned from single sentences may read a clip alone better than a long stream:
    the second text is the harder one to come near, above all where voices alternate.
    """
    transcriber, corpus = Transcriber(load_model("mini", device="cpu")), load_corpus("test")
    order = _order(corpus, sizes.clips, voices_alternate)
    takes = [take for numbers in order for take in make_takes(corpus, numbers, sizes.take_s)]
    references = [text for take in takes for text in take.texts]
    offline = {
        "offline, whole streams": [
            text
            for take in takes
            for text in take.by_clip(transcriber.transcribe(take.waveform, RATE).words)
        ],
        "offline, clip by clip": [
            transcriber.transcribe(corpus.audio(n)).text for numbers in order for n in numbers
        ],
    }
    audio_s = sum(len(t.waveform) for t in takes) / RATE
    print(f"{len(takes)} streams, {audio_s / 60:.1f} min, {len(references)} clips; "
          f"{'voices alternate' if voices_alternate else 'one voice a stream'}")  # fmt: skip
    found: dict[str, Any] = {}
    for name, texts in offline.items():
        found[name] = error_rates(references, texts).wer
        print(f"{name:40}{error_rates(references, texts)}")
    for name, policy in policies.items():
        found[name] = _one_policy(policy, transcriber, takes, references, offline)
        print(f"{name:40}{found[name].pop('line')}", flush=True)
    print()
    return found


def _order(corpus: Corpus, count: int | None, voices_alternate: bool) -> list[list[int]]:
    """Numbers of the clips of each voice; or all as they come, in which voices alternate."""
    speakers = list(corpus.frame.speaker)[:count]
    if voices_alternate:
        return [list(range(len(speakers)))]
    return [[n for n, s in enumerate(speakers) if s == voice] for voice in dict.fromkeys(speakers)]


def _one_policy(
    policy: Any,
    transcriber: Transcriber,
    takes: Sequence[Take],
    references: list[str],
    offline: dict[str, list[str]],
) -> dict[str, Any]:
    logs = [
        simulate(t.waveform, policy, model=transcriber, sampling_rate=RATE, refine_s=0.0)
        for t in takes
    ]
    pairs = zip(takes, logs, strict=True)
    texts = [text for take, log in pairs for text in take.by_clip(committed_words(log))]
    rates = error_rates(references, texts)
    against = {name: paired_comparison(references, other, texts) for name, other in offline.items()}
    rtf = sum(s.compute_s for log in logs for s in log.steps) / sum(log.duration_s for log in logs)
    erased = sum(map(erased_commits, logs))
    said = "".join(f"\n    minus {name}: {difference}" for name, difference in against.items())
    return {
        "wer": rates.wer, "cer": rates.cer, "rtf": rtf, "erased_commits": erased,
        "against": {name: vars(difference) for name, difference in against.items()},
        "line": f"WER {rates.wer:.1%}, CER {rates.cer:.1%}; erased commits {erased:.0f}; "
        f"RTF {rtf:.3f}{said}",
    }  # fmt: skip


# --- an hour -------------------------------------------------------------------------------------


def measure_hour(seconds: float) -> dict[str, Any]:
    """Memory and cost of a step over an hour, in a fresh process."""
    command = [sys.executable, __file__, "--child", str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    minutes = json.loads(done.stdout)
    memory = np.array([m["memory_mb"] for m in minutes])
    steps = np.array([m["step_s"] for m in minutes])
    tenth = max(1, len(minutes) // 10)
    print(f"{len(minutes)} minutes; memory after the first {memory[0]:.0f} MB, at most "
          f"{memory.max():.0f} MB ({memory.max() / memory[0] - 1:+.1%})")  # fmt: skip
    print(f"median step: first tenth {1000 * np.median(steps[:tenth]):.1f} ms, last tenth "
          f"{1000 * np.median(steps[-tenth:]):.1f} ms\n")  # fmt: skip
    return {"minutes": minutes}


def child(seconds: float) -> None:
    """Let one stream hear speech; print memory and the median step of each minute as JSON."""
    minute_s = min(60.0, seconds / 5)
    print(json.dumps(list(_minutes(seconds, minute_s))))


def _minutes(seconds: float, minute_s: float) -> Iterator[dict[str, float]]:
    from ptlab.streaming import StreamingRecognizer

    sound = tape(min(seconds, 600.0), seed=1)
    stream = StreamingRecognizer("mini", BAR, clock=None, device="cpu").create_stream()
    packet, steps, position = RATE // 10, [], 0
    while position < seconds * RATE:
        stream.accept_waveform(
            RATE, np.take(sound, range(position, position + packet), mode="wrap")
        )
        position += packet
        while stream.is_ready:
            start = time.perf_counter()
            stream.decode()
            steps.append(time.perf_counter() - start)
            if stream.is_endpoint:
                stream.reset()
        if position % round(minute_s * RATE) < packet:
            yield {"memory_mb": memory_mb(), "step_s": float(np.median(steps))}
            steps = []


def memory_mb() -> float:
    """What the process holds now, not at its peak."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise SystemExit("Section hour reads /proc, which this system has not.")
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# --- full size -----------------------------------------------------------------------------------


def measure_full(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Which chunks and contexts keep up, by dtype; and decoding all that was heard so far."""
    save_xlsr_53(folder / "xlsr-53")
    found: dict[str, Any] = {}
    for name in ("float32", "bfloat16", "ONNX int8"):
        model = _full_size(folder, name)
        found[name] = {"policies": _keeping_up(model, sizes), "again": _again(model, sizes)}
        print(f"{name}: cost of a step (real time is below the chunk)")
        for policy, step in found[name]["policies"].items():
            print(f"  {policy:32}{step['p50']:7.2f} s (p95 {step['p95']:.2f}): "
                  f"{'keeps up' if step['keeps_up'] else 'too slow'}")  # fmt: skip
        print("  all that was heard so far, every 0.5 s:")
        for heard_s, step_s in found[name]["again"].items():
            print(f"    after {heard_s:4.0f} s: {step_s:6.2f} s a step, RTF {step_s / 0.5:.2f}")
        del model
        gc.collect()
    print()
    return found


def _full_size(folder: Path, name: str) -> Any:
    if name != "ONNX int8":
        return load_model(folder / "xlsr-53", device="cpu", dtype=name)
    from ptlab.export import export_onnx
    from ptlab.onnx_model import load_onnx
    from ptlab.quantize import quantize

    whole = export_onnx(load_model(folder / "xlsr-53", device="cpu"), folder / "onnx")
    return load_onnx(quantize(whole, folder / "int8"))


def _keeping_up(model: Any, sizes: Sizes) -> dict[str, Any]:
    found = {}
    for name, policy in FULL.items():
        lead_s = math.ceil((policy.left_s + policy.right_s) / policy.chunk_s) * policy.chunk_s
        sound = tape(lead_s + sizes.steps * policy.chunk_s + 0.1, seed=3)
        log = simulate(sound, policy, model=model, sampling_rate=RATE, refine_s=0.0)
        whole = [s.compute_s for s in log.steps if s.audio_s > lead_s and s.new_s > 0]
        spread = Spread.of(whole)
        found[name] = {**vars(spread), "keeps_up": bool(spread.p95 < policy.chunk_s)}
    return found


def _again(model: Any, sizes: Sizes) -> dict[float, float]:
    sound, seconds = tape(max(sizes.again_s), seed=3), {}
    for heard_s in sizes.again_s:
        start = time.perf_counter()
        model.log_probs([sound[: round(heard_s * RATE)]])
        seconds[heard_s] = time.perf_counter() - start
    return seconds


# --- the command ---------------------------------------------------------------------------------


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="little sound: only whether it works")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = options()
    if given.child:
        child(given.child)
        return
    sizes = QUICK if given.quick else Sizes()
    about_machine()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), sizes, set(given.only))
    if given.json:
        Path(given.json).write_text(json.dumps(figures, indent=2), "utf-8")


def measure(folder: Path, sizes: Sizes, wanted: set[str]) -> dict[str, Any]:
    """The sections that are wanted, in order."""
    figures: dict[str, Any] = {}
    if "wer" in wanted:
        print("== errors, mini")
        figures["wer"] = measure_wer(POLICIES, sizes)
        figures["wer, voices alternate"] = measure_wer(
            {BAR_NAME: BAR}, sizes, voices_alternate=True
        )
    if "curve" in wanted:
        print("== other chunks and contexts, mini")
        figures["curve"] = measure_wer(CURVE, sizes)
    if "hour" in wanted:
        print("== an hour in one stream, mini")
        figures["hour"] = measure_hour(sizes.hour_s)
    if "full" in wanted:
        print("== XLSR-53 at full size, random weights")
        figures["full"] = measure_full(folder, sizes)
    return figures


if __name__ == "__main__":
    main()
