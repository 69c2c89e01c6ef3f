"""The course on Colab: every notebook runs where only Colab's packages and that notebook are.

``make colab`` makes an environment with Colab's versions (tests/colab.txt). Every notebook gets a
fresh one on top of it, where pip sees those packages and what it adds is thrown away, and a folder
of its own. Its first cell then does what it does on Colab, from the last commit here: git sends the
repository's address to this folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from link_notebooks import ROOT, notebooks, repository
from nbclient import NotebookClient
from refresh_notebooks import environment, read

IMAGE = Path(os.environ.get("PTLAB_COLAB", ROOT / "build" / "colab"))
PINS = dict(
    line.replace("_", "-").split("==")
    for line in (ROOT / "tests" / "colab.txt").read_text("utf-8").splitlines()
    if "==" in line
)

pytestmark = [
    pytest.mark.colab,
    pytest.mark.skipif(not (IMAGE / "bin" / "python").exists(), reason="run `make colab`"),
]


@pytest.fixture
def python(tmp_path):
    """A Python that has Colab's packages, and room for more."""
    over = tmp_path / "environment"
    subprocess.run([IMAGE / "bin" / "python", "-m", "venv", "--without-pip", over], check=True)
    mine, image = (next((p / "lib").glob("python3*")) / "site-packages" for p in (over, IMAGE))
    (mine / "image.pth").write_text(f"{image}\n", "utf-8")
    return over / "bin" / "python"


@pytest.fixture
def run(python, tmp_path, monkeypatch):
    """``run(path)``: a notebook after it ran alone in a folder, on a kernel of that Python."""
    spec = tmp_path / "jupyter" / "kernels" / "colab" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    git = {"COUNT": "1", "KEY_0": f"url.{ROOT.as_uri()}.insteadOf", "VALUE_0": repository()}
    variables = environment() | {f"GIT_CONFIG_{k}": v for k, v in git.items()}
    variables["PATH"] = f"{python.parent}{os.pathsep}{variables['PATH']}"
    folder = tmp_path / "content"
    folder.mkdir()

    def run_notebook(path, cells=None):
        notebook = read(shutil.copy(path, folder))
        notebook.cells = notebook.cells[:cells]
        resources = {"metadata": {"path": str(folder)}}
        client = NotebookClient(notebook, timeout=600, kernel_name="colab", resources=resources)
        return client.execute(env=variables)

    return run_notebook


def versions(python):
    """What pip sees, by name."""
    command = [python, "-m", "pip", "list", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {p["name"].lower().replace("_", "-"): p["version"] for p in json.loads(done.stdout)}


def printed(notebook):
    setup = next(cell for cell in notebook.cells if cell.id == "setup")
    return "".join(output.get("text", "") for output in setup.outputs)


def test_first_cell_adds_what_is_missing_and_moves_nothing(python, run):
    before = versions(python)
    assert {name: before[name].split("+")[0] for name in PINS} == PINS
    assert not {"jiwer", "num2words", "onnxruntime", "onnx", "ptlab"} & before.keys()
    said = printed(run(notebooks()[0], cells=3))
    after = versions(python)
    assert {n: v for n, v in after.items() if n in before} == before
    added = sorted(after.keys() - before.keys() - {"ptlab"})
    assert {"jiwer", "num2words", "onnxruntime", "onnx"} <= set(added)
    assert said.count("\n") == 1 and said.endswith("moved: nothing.\n")
    assert all(f"{name} {after[name]}" in said for name in added)
    assert printed(run(notebooks()[0], cells=3)) == ""  # a new kernel finds the course


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_notebook_runs(run, path):
    notebook = run(path)
    assert printed(notebook).endswith("moved: nothing.\n")
