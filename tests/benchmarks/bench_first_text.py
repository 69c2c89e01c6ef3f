"""How long somebody waits for the first text after Python has started, and for what.

    python tests/benchmarks/bench_first_text.py              mini, five fresh processes a way
    python tests/benchmarks/bench_first_text.py --rounds 1   only whether it works

Every way is run in fresh processes, by turns; the figures are medians, in seconds. Files that were
read before are in the system's memory: the first start after a boot waits for the disk as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

BAR_S = 3.0  # for the way that everybody goes first: ptlab.transcribe(file)
STEPS = {  # what is waited for -> how it is brought about, in a fresh process
    "torch": {
        "import ptlab": "import ptlab",
        "load mini, import all": "model = ptlab.load_model('mini', device='cpu')",
        "first text": "text = ptlab.transcribe(clip, model=model).text",
    },
    "torch, imports apart": {
        "import ptlab": "import ptlab",
        "import torch": "import torch",
        "import transformers": "from transformers import AutoModelForCTC, AutoTokenizer\n"
        "from transformers import AutoConfig, AutoFeatureExtractor",
        "load the weights": "model = ptlab.load_model('mini', device='cpu')",
        "first text": "text = ptlab.transcribe(clip, model=model).text",
    },
    "ONNX int8": {
        "import ptlab": "import ptlab",
        "import onnxruntime": "import onnxruntime",
        "load the graph": "model = ptlab.load_model(folder)",
        "first text": "text = ptlab.transcribe(clip, model=model).text",
    },
}
CHILD = """
import json, sys, time
began = time.time()
steps, clip, folder = json.loads(sys.stdin.read())
names, taken = globals(), {}
for step, code in steps.items():
    start = time.perf_counter()
    exec(code, names)
    taken[step] = time.perf_counter() - start
start = time.perf_counter()
again = ptlab.transcribe(clip, model=model).text
again_s = time.perf_counter() - start
print(json.dumps([began, taken, again_s, text == again != ""]))
"""


def measure(way: str, clip: str, folder: str) -> dict[str, float]:
    """Seconds of each step in a fresh process."""
    job = json.dumps([STEPS[way], clip, folder])
    start = time.time()  # of the same clock as the other process's
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=job, capture_output=True, text=True, check=True
    )
    began, taken, again, right = json.loads(done.stdout)
    if not right:
        raise SystemExit(f"{way}: no text, or another one the second time")
    steps = {"start Python": began - start, **taken}
    return {**steps, "in all": sum(steps.values()), "(a second text)": again}


def main() -> None:
    from ptlab.data import load_corpus
    from ptlab.export import export_onnx
    from ptlab.machine import this_machine
    from ptlab.quantize import quantize

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    clip = str(load_corpus("test").frame.file[0])
    with tempfile.TemporaryDirectory() as parent:
        folder = str(quantize(export_onnx("mini", Path(parent, "a")), Path(parent, "b")).folder)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in STEPS}
        for _ in range(rounds):
            for way, times in found.items():
                times.append(measure(way, clip, folder))
    for way, times in found.items():
        print(f"{way}, median of {rounds}")
        for step in times[0]:
            taken = [t[step] for t in times]
            print(f"  {step:24}{median(taken):7.2f} ({min(taken):.2f}, {max(taken):.2f})")
    wait = median(t["in all"] for t in found["torch"])
    met = "met" if wait < BAR_S else "NOT met"
    print(f"first text after {wait:.2f} s; under {BAR_S:g} was asked for: {met}\n{this_machine()}")


if __name__ == "__main__":
    main()
