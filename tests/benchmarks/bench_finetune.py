"""What an update costs: peak memory and seconds, each way of training in a process of its own.

    python tests/benchmarks/bench_finetune.py             XLSR-53 at full size: an idle machine,
                                                          15 GB of memory, 6 minutes on two cores
                                                          with bfloat16, an hour on older ones
    python tests/benchmarks/bench_finetune.py --quick     a small network: whether it works
    python tests/benchmarks/bench_finetune.py --only 0 5  some of the ways, by number

Every way makes the same update, from as many clips of the same length, on the road of
`ptlab.finetune` with a frozen feature encoder. Weights are random, which changes no cost. Seconds
are the median of the updates after the first. Memory is the highest that the process ever had (on
CUDA, that the allocator gave out), and in brackets how much of it training added to a process that
has loaded the model.

Results go to data/results/finetune.json, which notebook 03 shows, if all ways were measured at full
size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from results import FOLDER, about_here, write_results

RESULTS = FOLDER / "finetune.json"
RATE = 16_000
XLSR_53 = {  # as in tests/test_full_size.py: 315 M parameters
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 4096, "conv_dim": [512] * 7, "conv_bias": True,
    "feat_extract_norm": "layer", "do_stable_layer_norm": True,
}  # fmt: skip
SMALL = {
    **XLSR_53, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 128, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (  # accumulation: True is one clip at a time
    ("fp32", {}),
    ("bf16", {"precision": "bf16"}),
    ("fp32, accumulation", {"accumulation": True}),
    ("fp32, checkpointing", {"checkpointing": True}),
    ("bf16, accumulation", {"precision": "bf16", "accumulation": True}),
    ("bf16, accumulation, checkpointing",
     {"precision": "bf16", "accumulation": True, "checkpointing": True}),
    ("fp32, LoRA 8", {"lora": 8}),
    ("bf16, accumulation, checkpointing, LoRA 8",
     {"precision": "bf16", "accumulation": True, "checkpointing": True, "lora": 8}),
)  # fmt: skip


def measure(way: int, quick: bool, clips: int, seconds: float, updates: int) -> dict[str, Any]:
    """Train for some updates, in this process, and say what it cost."""
    import torch
    from transformers import TrainerCallback, Wav2Vec2Config

    from ptlab._finetune.arguments import find_precision, training_arguments
    from ptlab._finetune.model import trainable_model
    from ptlab._finetune.settings import FinetuneSettings
    from ptlab._finetune.trainer import CTCTrainer
    from ptlab._finetune.weights import prepared
    from ptlab._speech.devices import find_device
    from ptlab.collate import CTCCollator

    options = {"precision": "fp32", "device": find_device("auto"), **WAYS[way][1]}
    one_by_one = options.pop("accumulation", False)
    settings = FinetuneSettings(
        steps=updates, batch_size=1 if one_by_one else clips,
        accumulation=clips if one_by_one else 1, **options,
    )  # fmt: skip
    find_precision(settings.precision, settings.device)  # says so if this machine cannot
    model = trainable_model(Wav2Vec2Config(**(SMALL if quick else XLSR_53)))
    module = prepared(model.model, settings)
    loaded = peak_bytes(settings.device)

    class Clock(TrainerCallback):
        ends: list[float] = [time.perf_counter()]  # noqa: RUF012

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.ends.append(time.perf_counter())

    sounds = Sounds(clips * updates, seconds, settings.spec_augment)
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(settings, Path(folder), len(sounds))
        arguments.set_evaluate("no")
        arguments.set_save("no")
        arguments.load_best_model_at_end = False
        trainer = CTCTrainer(
            vocabulary=model.vocabulary, blank=model.blank, model=module,
            args=arguments, train_dataset=sounds, callbacks=[Clock()],
            data_collator=CTCCollator(model.feature_extractor),
        )  # fmt: skip
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    steps = np.diff(Clock.ends)
    peak = peak_bytes(settings.device)
    return {
        "way": WAYS[way][0], "parameters": model.num_parameters, "device": settings.device,
        "learning": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "peak_gb": peak / 1e9, "training_gb": (peak - loaded) / 1e9,
        "seconds": median(steps[1:]), "losses": losses, "torch_threads": torch.get_num_threads(),
        "clips": clips, "clip_s": seconds,
    }  # fmt: skip


class Sounds:
    """Noise with labels, as ``finetune_data.Clips`` gives clips."""

    def __init__(self, count: int, seconds: float, spec_augment: float):
        self.samples, self.spec_augment = int(seconds * RATE), spec_augment
        self.lengths, self.seed = [seconds] * count, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        pass

    def __getitem__(self, number: int) -> dict[str, Any]:
        from ptlab._finetune.augment import time_mask

        rng = np.random.default_rng(number)
        letters = max(1, int(14 * self.samples / RATE))  # a second of speech has about 14
        return {
            "waveform": rng.standard_normal(self.samples).astype(np.float32),
            "labels": rng.integers(7, 33, letters),
            "mask": time_mask((self.samples - 400) // 320 + 1, self.spec_augment, rng),
        }


def peak_bytes(device: str) -> int:
    """The most memory so far."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def in_a_process(arguments: argparse.Namespace, way: int) -> dict[str, Any] | None:
    """Measure one way in a fresh process; None, with its last line, if that fails."""
    command = [sys.executable, __file__, "--way", str(way)]
    for name in ("clips", "seconds", "updates"):
        command += [f"--{name}", str(getattr(arguments, name))]
    command += ["--quick"] if arguments.quick else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
        print(f"| {WAYS[way][0]} | {said} | | |", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small network, short clips")
    parser.add_argument("--only", nargs="+", type=int, default=range(len(WAYS)))
    parser.add_argument("--clips", type=int, default=4, help="clips of an update")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip")
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--way", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds = min(arguments.seconds, 1.0)
    if arguments.way is not None:
        found = measure(
            arguments.way, arguments.quick, arguments.clips, arguments.seconds, arguments.updates
        )
        print(json.dumps(found))
        return
    print("| way | peak GB (of training) | seconds an update | learning |\n|---|---|---|---|")
    rows = []
    for way in arguments.only:
        row = in_a_process(arguments, way)
        if row:
            rows.append(row)
            print(
                f"| {row['way']} | {row['peak_gb']:.2f} ({row['training_gb']:.2f}) | "
                f"{row['seconds']:.2f} | {row['learning'] / row['parameters']:.2%} |",
                flush=True,
            )
    if len(rows) == len(WAYS) and not arguments.quick:
        write_results(arguments.out, about_here() | {"ways": rows})


if __name__ == "__main__":
    main()
