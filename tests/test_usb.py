"""The course from a USB stick, and the wheel alone, in empty environments without a network.

``make usb`` makes the stick in ``build/usb`` and runs this; ``PTLAB_WHEELS`` names another folder
of wheels to make it from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import make_usb
import pytest

ROOT = Path(__file__).resolve().parents[1]
WHEELS = Path(os.environ.get("PTLAB_WHEELS", ROOT / "build" / "usb" / "wheels"))
BIN = "Scripts" if os.name == "nt" else "bin"
# A network namespace of its own has no way out; its loopback is for Jupyter's kernel.
CUT_OFF = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
TRANSCRIBE = """
import socket, sys, numpy as np, ptlab
sound = np.sin(np.arange(32_000) / 7).astype("float32")
print(ptlab.transcribe(sound, 16_000).duration_s, ptlab.__file__)
"""


def test_the_stick_has_the_course_without_its_solutions(tmp_path: Path) -> None:
    make_usb.copy_course(tmp_path)
    there = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert {"notebooks/00_start_here.ipynb", "ptlab/assets/mini/model.safetensors", "LICENSE",
            "data/metadata.csv", "constraints.txt", "pyproject.toml"} <= there  # fmt: skip
    assert not [name for name in there if name.startswith(make_usb.SOLUTIONS)]


def test_the_page_for_teachers_and_the_stick_give_the_same_command() -> None:
    page = (ROOT / make_usb.SOLUTIONS / "README.md").read_text("utf-8")
    assert make_usb.INSTALL in page and "make usb" in page


def cut_off() -> list[str]:
    """What runs a command without a network, where the system can."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return []
    done = subprocess.run([*CUT_OFF, "true"], capture_output=True, check=False)
    return [] if done.returncode else CUT_OFF


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    """Run a command cut off, as somebody with an empty home and pip's own settings would."""
    home = tmp_path_factory.mktemp("home")
    prefix = cut_off()
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "HF_", "PTLAB_"))}
    mine |= {"HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "PYTHONNOUSERSITE": "1"}
    if not prefix:  # then at least nothing of the usual ways out works
        mine |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")

    def run(folder: Path, *command: str) -> str:
        done = subprocess.run(
            [*prefix, *command], cwd=folder, env=mine, capture_output=True, text=True, timeout=900,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run


def environment(run, folder: Path) -> Path:
    run(folder, sys.executable, "-m", "venv", ".venv")
    return folder / ".venv" / BIN


needs_wheels = pytest.mark.skipif(not WHEELS.is_dir(), reason="no folder of wheels: run `make usb`")


@needs_wheels
@pytest.mark.slow
def test_a_classroom_without_a_network(run, tmp_path: Path) -> None:
    """What LEIA-ME.txt tells students to do; then the first notebook runs from top to bottom."""
    stick = tmp_path / "stick"
    make_usb.make(stick, WHEELS)
    assert len(list((stick / "assignments").rglob("*.ipynb"))) >= 6
    course = stick / "course"
    bin = environment(run, course)
    told = (stick / "LEIA-ME.txt").read_text("utf-8")
    assert make_usb.INSTALL in told
    arguments = [word.strip('"') for word in make_usb.INSTALL.split()]
    run(course, str(bin / "pip"), "install", "--quiet", *arguments)
    assert "2.0" in run(course, str(bin / "python"), "-c", TRANSCRIBE)
    run(
        course, str(bin / "jupyter"), "nbconvert", "--to", "notebook", "--execute", "--output",
        "done.ipynb", "notebooks/00_start_here.ipynb",
    )  # fmt: skip


@needs_wheels
@pytest.mark.slow
def test_the_wheel_alone_transcribes_in_an_empty_environment(run, tmp_path: Path) -> None:
    """No repository beside it: what a wheel lacks shows itself here."""
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    make_usb.copy_course(source)
    run(source, sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps",
        "--find-links", str(WHEELS), "--wheel-dir", str(wheels), ".")  # fmt: skip
    (wheel,) = wheels.glob("ptlab-*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert {"ptlab/py.typed", "ptlab/assets/mini/model.safetensors"} <= set(inside)
    shutil.rmtree(source)
    bin = environment(run, tmp_path)
    run(tmp_path, str(bin / "pip"), "install", "--quiet", "--no-index", "--find-links",
        str(WHEELS), str(wheel))  # fmt: skip
    said = run(tmp_path, str(bin / "python"), "-c", TRANSCRIBE)
    assert said.startswith("2.0") and str(tmp_path / ".venv") in said
    assert "mini" in run(tmp_path, str(bin / "ptlab"), "info")
