"""Put the course on a USB stick, for a classroom without a network: what ``make usb`` does.

    python tests/make_usb.py [--output build/usb] [--wheels FOLDER]

Writes ``course`` (the repository without the solutions), ``assignments`` (as handed out),
``wheels`` (every package, for machines with the system and the Python of this one) and
``LEIA-ME.txt``. With ``--wheels``, packages are taken from such a folder, without any network.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import release_assignments

ROOT = Path(__file__).resolve().parents[1]
SOLUTIONS = "notebooks/assignments/"
BUILD = "setuptools>=77"  # as pyproject.toml asks for; an editable install builds without a network
SCRIPT = """\
CURSO ptlab: RECONHECIMENTO DE FALA, SEM INTERNET

Precisa de: Python {version} ({system}), 4 GB de espaço no disco.
Copie as pastas "course" e "wheels" deste pendrive para o seu computador, lado a lado.
Abra um terminal na pasta "course" e escreva, uma linha de cada vez:

Linux e macOS
    python3 -m venv .venv
    .venv/bin/pip install {install}
    .venv/bin/jupyter lab notebooks/00_start_here.ipynb

Windows
    py -m venv .venv
    .venv\\Scripts\\pip install {install}
    .venv\\Scripts\\jupyter lab notebooks/00_start_here.ipynb

Nas próximas vezes basta a última linha. As tarefas estão na pasta "assignments": copie a sua para
"course/notebooks".
"""
INSTALL = '--no-index --find-links ../wheels --constraint constraints.txt --editable ".[course]"'


def tracked(root: Path = ROOT) -> list[str]:
    """Files of the repository, without the solutions of the assignments."""
    command = ["git", "-C", str(root), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [f for f in listed.split("\0") if f and not f.startswith(SOLUTIONS)]


def copy_course(folder: Path) -> None:
    for name in tracked():
        if (ROOT / name).is_file():  # one that is deleted and not committed is gone
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)


def fill_wheels(course: Path, wheels: Path, known: Path | None) -> None:
    """`pip wheel`, not `pip download`: what comes as source could not be built in the classroom."""
    offline = ["--no-index", "--find-links", str(known)] if known else []
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels)]
    subprocess.run(
        [*command, *offline, "--constraint", "constraints.txt", ".[course]", BUILD],
        cwd=course,
        check=True,
    )
    for left in ("build", "ptlab.egg-info"):  # of building ptlab's own wheel
        shutil.rmtree(course / left, ignore_errors=True)


def make(output: Path, known: Path | None = None) -> None:
    """Fill the folder, whose earlier content goes once the new one is there."""
    new = output.with_name(output.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    copy_course(new / "course")
    release_assignments.main(["--output", str(new / "released")])
    shutil.move(new / "released" / "students", new / "assignments")
    shutil.rmtree(new / "released")
    fill_wheels(new / "course", new / "wheels", known)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = SCRIPT.format(version=version, system=sys.platform, install=INSTALL)
    (new / "LEIA-ME.txt").write_text(text, "utf-8")
    shutil.rmtree(output, ignore_errors=True)
    new.rename(output)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "usb")
    parser.add_argument("--wheels", type=Path, help="packages of an earlier time; no network")
    chosen = parser.parse_args(arguments)
    make(chosen.output.resolve(), chosen.wheels and chosen.wheels.resolve())
    size = sum(f.stat().st_size for f in chosen.output.rglob("*") if f.is_file())
    print(f"{chosen.output}: {size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
