"""The exact architecture of XLSR-53 learns on this machine, in the way that needs least memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parent / "benchmarks" / "bench_finetune.py"
CHECKPOINTING, WITH_ADAPTERS = 3, 6  # ways of the benchmark that any CPU can go


@pytest.mark.slow
@pytest.mark.parametrize("way", [CHECKPOINTING, WITH_ADAPTERS])
def test_the_full_size_takes_updates(way, tmp_path):
    out = tmp_path / "costs.json"
    command = [sys.executable, BENCHMARK, "--only", str(way), "--clips", "1", "--seconds", "4"]
    subprocess.run([*command, "--out", out], check=True)
    (row,) = json.loads(out.read_text("utf-8"))
    assert 315.4e6 < row["parameters"] < 317e6
    assert np.isfinite(row["losses"]).all()
    assert row["losses"][0] != row["losses"][-1]
