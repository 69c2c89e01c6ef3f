"""Binder's files: conda's torch stays, all else is what the course was tested with."""

from __future__ import annotations

import os
import subprocess
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
@pytest.mark.parametrize(("given", "threads"), [({}, "2"), ({"OMP_NUM_THREADS": "4"}, "4")])
def test_start_limits_threads_and_passes_on_what_to_start(given, threads):
    plain = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | given
    command = [BINDER / "start", "sh", "-c", 'echo "$OMP_NUM_THREADS $0 $1"', "one", "two"]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert done.stdout == f"{threads} one two\n"
