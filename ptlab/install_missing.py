"""Install what the course lacks in this environment; move nothing that is there.

    runpy.run_path("ptlab-course/ptlab/install_missing.py", run_name="__main__")

The first cell of every notebook runs this file where there is no ptlab: on Colab, or in a folder
that holds only the notebook. So it uses nothing but Python and packaging, which every Jupyter
kernel brings.

pip leaves an installed package alone as long as nothing that it installs asks for another version.
A kernel that has loaded numpy or torch must never see it replaced, so pip gets all that is there as
a constraint, and takes an older newcomer or refuses. Names with versions, not ``pip freeze``: the
addresses in that would be fetched again. pip is asked for what is missing only, never for all that
ptlab needs: packages of Colab that disagree with one another would make it refuse everything.
"""

from __future__ import annotations

import importlib
import site
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

__all__ = ["install"]

COURSE = Path(__file__).resolve().parents[1]


def installed() -> dict[str, str]:
    """Versions of what is installed, by name; of the same name twice, the one that imports get."""
    found: dict[str, str] = {}
    for each in distributions():
        if "Name" in each.metadata:  # not in what was half deleted
            found.setdefault(canonicalize_name(each.metadata["Name"]), each.version)
    return found


def needed(course: Path) -> list[Requirement]:
    """What the notebooks import: ptlab's dependencies, and those of writing ONNX files."""
    project = tomllib.loads((course / "pyproject.toml").read_text("utf-8"))["project"]
    return [
        Requirement(line)
        for line in (*project["dependencies"], *project["optional-dependencies"]["export"])
    ]


def constraints(here: dict[str, str]) -> str:
    """Lines that hold every package where it is; pip would choke on Debian's own versions."""
    return "".join(f"{name}=={version}\n" for name, version in here.items() if _valid(version))


def _valid(version: str) -> bool:
    try:
        return bool(Version(version))
    except InvalidVersion:
        return False


def install(course: Path = COURSE) -> str:
    """Install what is missing, then ptlab from its folder.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    RuntimeError
        If a package that is there is too old, or pip fails; nothing is moved then.
    """
    before, needs = installed(), needed(course)
    there = {need: before.get(canonicalize_name(need.name)) for need in needs}
    old = [f"{need} (here is {v})" for need, v in there.items() if v and not _fits(need, v)]
    if old:
        raise RuntimeError(
            f"The course needs {', '.join(old)}. Moving them could break what else uses this "
            "environment: do it yourself with pip and restart the kernel, or make a new "
            "environment with `make lab`."
        )
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "constraints.txt"
        held.write_text(constraints(before), "utf-8")
        missing = [str(need) for need, version in there.items() if version is None]
        if missing:
            _pip("--constraint", str(held), *missing)
    _pip("--no-deps", "--editable", str(course))
    _make_importable(course)
    return _report(before, installed(), course)


def _fits(need: Requirement, version: str) -> bool:
    return not _valid(version) or need.specifier.contains(version, prereleases=True)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr or done.stdout
        raise RuntimeError(f"pip install {' '.join(arguments)} failed:\n{said}")


def _make_importable(course: Path) -> None:
    """Show this very process what was installed: Python looks for it when it starts only."""
    if site.ENABLE_USER_SITE:  # on a shared server pip may have just made this folder
        site.addsitedir(site.getusersitepackages())
    sys.path.insert(0, str(course))
    importlib.invalidate_caches()


def _report(before: dict[str, str], after: dict[str, str], course: Path) -> str:
    new = [f"{name} {after[name]}" for name in sorted(after.keys() - before.keys() - {"ptlab"})]
    moved = [f"{n} {v} -> {after.get(n)}" for n, v in before.items() if after.get(n) != v]
    return (
        f"ptlab {after['ptlab']} from {course.name}; "
        f"installed: {', '.join(new) or 'nothing'}; moved: {', '.join(moved) or 'nothing'}."
    )


if __name__ == "__main__":
    print(install())
