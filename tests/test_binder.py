"""Binder's files: conda's torch stays, all else is what the course was tested with."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
BINDER = ROOT / ".binder"
PYTHON = """#!/bin/sh
if [ "$3" = "list" ]; then
    echo "numpy==1.0"; echo "torch==2.7.1"; echo "torch-else==3"
else
    echo "$@"; cat "$6"
fi
"""
CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
MANY_LENGTHS = """
import resource, numpy as np, ptlab

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

model = ptlab.load_model("mini", device="cpu")
model.log_probs([np.ones(60_000, np.float32)])
before = peak_mb()
for length in range(20_000, 60_000, 1_000):
    model.log_probs([np.ones(length, np.float32)])
print(peak_mb() - before)
"""


def test_environment_meets_the_floors():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = yaml.safe_load((BINDER / "environment.yml").read_text("utf-8"))["dependencies"]
    found = dict(line.replace(">=", "=").split("=") for line in lines if "=" in line)
    assert Requirement(f"x{project['requires-python']}").specifier.contains(found["python"])
    assert f"torch>={found['pytorch-cpu']}" in project["dependencies"]
    assert "pip" in lines


@pytest.mark.skipif(os.name == "nt", reason="shell scripts of Linux")
def test_build_holds_the_torch_that_is_there(tmp_path):
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [BINDER / "postBuild"],
        cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, *held = done.stdout.splitlines()
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert held == [line for line in pins if not line.startswith("torch==")] + ["torch==2.7.1"]
    assert said.startswith("-m pip install --no-cache-dir --constraint ")
    assert said.endswith(" --editable .[course]")


@pytest.mark.skipif(os.name == "nt", reason="shell scripts of Linux")
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", *CACHES])
def test_start_sets_limits_that_may_be_given_and_passes_on_what_to_start(name):
    plain = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", *CACHES)}
    limit = "2" if name == "OMP_NUM_THREADS" else "16"
    for given, expected in (({}, limit), ({name: "4"}, "4")):
        command = [BINDER / "start", "sh", "-c", f'echo "${name} $0 $1"', "one", "two"]
        done = subprocess.run(
            command, env=plain | given, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{expected} one two\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process")
def test_memory_does_not_grow_with_every_length_of_a_clip():
    """The names of these limits are told nowhere but in sources: a torch that has others says so
    here. Without them it takes some 100 MB more."""
    command = [BINDER / "start", sys.executable, "-c", MANY_LENGTHS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30
