"""What memory each notebook needs: does the course fit into Binder's 2 GB?

    python tests/benchmarks/bench_notebooks.py [NAME ...]      all, or 00 04 ...; ten minutes

Each notebook runs on a clean kernel, as ``.binder/start`` starts it. Every 50 ms the memory of the
kernel and of all processes that it starts is added up (what processes share is counted once, as
Linux's PSS does); the largest sum is its peak. The server that Binder runs beside the kernel comes
on top: an idle JupyterLab is measured last. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from refresh_notebooks import client, environment, notebooks, read

START = Path(__file__).resolve().parents[2] / ".binder" / "start"
PERIOD_S, LIMIT_GB = 0.05, 2.0


def memory(process: psutil.Process) -> int:
    """Bytes of a process and all below it."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_full_info().pss
        except psutil.NoSuchProcess:  # it ended between the two lines
            continue
    return total


def highest(process: psutil.Process, done: threading.Event) -> int:
    """Largest memory until it is done."""
    peak = 0
    while not done.wait(PERIOD_S):
        try:
            peak = max(peak, memory(process))
        except psutil.NoSuchProcess:
            break
    return peak


def measure(path: Path) -> tuple[float, float, str]:
    """Peak in GB, seconds, and the cell that reached the peak."""
    notebook, peaks, start = read(path), {}, time.perf_counter()
    runner = client(notebook)
    said = subprocess.run([START, "env", "-0"], capture_output=True, text=True, check=True).stdout
    variables = environment() | dict(line.split("=", 1) for line in said.split("\0") if line)
    with runner.setup_kernel(env=variables), ThreadPoolExecutor() as pool:
        kernel = psutil.Process(runner.km.provisioner.pid)
        for position, cell in enumerate(notebook.cells):
            done = threading.Event()
            peak = pool.submit(highest, kernel, done)
            runner.execute_cell(cell, position)
            done.set()
            peaks[cell.id] = peak.result()
    cell = max(peaks, key=peaks.__getitem__)
    return peaks[cell] / 1e9, time.perf_counter() - start, cell


def server() -> float:
    """GB of an idle JupyterLab."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
        running = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(10)
        used = memory(psutil.Process(running.pid)) / 1e9
        running.terminate()
        running.wait()
    return used


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", help="01, 01_transcription or a path; default: all")
    print("| notebook | peak GB | in cell | s |\n|---|---|---|---|")
    peaks = []
    for path in notebooks(parser.parse_args().names):
        peak, seconds, cell = measure(path)
        peaks.append(peak)
        print(f"| {path.stem} | {peak:.2f} | {cell} | {seconds:.0f} |", flush=True)
    beside = server()
    total = max(peaks) + beside
    fits = "fits into" if total < LIMIT_GB else "does not fit into"
    print(
        f"\nJupyterLab {beside:.2f} GB; with the largest {total:.2f} GB: {fits} {LIMIT_GB:.0f} GB"
    )
    return total >= LIMIT_GB


if __name__ == "__main__":
    sys.exit(main())
