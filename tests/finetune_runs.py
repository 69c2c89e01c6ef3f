"""What the tests of fine-tuning share: a small corpus of tones, and runs that take a second.

Run as a program, it starts a run that is killed while it writes its third checkpoint.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ptlab.data import Corpus

TEXTS = ("olá", "boa noite", "a avó riu", "um dois", "sim", "não sei", "até já", "o pão")
STILL = {  # a tiny model in which nothing is left to chance
    "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0, "final_dropout": 0.0, "layerdrop": 0.0,
}  # fmt: skip
QUICK = {"device": "cpu", "precision": "fp32", "progress": False}


def tones(count=7, seed=0, shortest_s=0.4):
    """Clips of unlike length, each of a few tones, with texts that fit in them."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        time = np.arange(int(16_000 * (shortest_s + 0.13 * number))) / 16_000
        sound = np.sin(2 * np.pi * rng.uniform(100, 900) * time) + 0.1 * rng.standard_normal(
            len(time)
        )
        audio = {"array": (0.2 * sound).astype(np.float32), "sampling_rate": 16_000}
        rows.append((f"{seed}-{number}", TEXTS[number % len(TEXTS)], f"s{seed}", audio))
    return Corpus("tones", pd.DataFrame(rows, columns=["id", "text", "speaker", "audio"]))


def run(model, output, **settings):
    """A run over the tones."""
    import ptlab

    chosen = {"steps": 7, "batch_size": 2, "evaluate_every": 2, **QUICK, **settings}
    return ptlab.finetune(model, tones(5), tones(3, seed=1), output=output, **chosen)


def main(model, output):
    """Kill the run, as the system would, in the middle of a checkpoint."""
    from ptlab._finetune.trainer import CTCTrainer

    def killed(trainer, folder):
        if trainer.state.global_step == 6:
            assert (Path(folder) / "model.safetensors").is_file()
            os.kill(os.getpid(), signal.SIGKILL)
        return written(trainer, folder)

    written, CTCTrainer._save_rng_state = CTCTrainer._save_rng_state, killed
    run(model, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
