"""What is missing is installed, nothing that was there is moved: with pip itself, no network."""

from __future__ import annotations

import ast
import os
import site
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from link_notebooks import notebooks
from notebook_rules import tree
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from refresh_notebooks import read

from ptlab import install_missing
from ptlab.install_missing import COURSE, constraints, install, installed, needed

PROJECT = """
[build-system]
requires = []
build-backend = "builder"
backend-path = ["."]
[project]
name = "ptlab"
version = "9"
dependencies = ["anchor>=1", "newcomer"]
optional-dependencies = {export = ["tool>=1"]}
"""
BUILDER = """
import pathlib, shutil
def build_editable(folder, config_settings=None, metadata_directory=None):
    return pathlib.Path(shutil.copy("ptlab-9-py3-none-any.whl", folder)).name
"""


def make_wheel(folder, name, version, *needs):
    """The smallest wheel: a name, a version and what it needs."""
    folder.mkdir(exist_ok=True)
    facts = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    facts += [f"Requires-Dist: {need}" for need in needs]
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", "\n".join([*facts, ""]))
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")
    return Path(wheel.filename)


@pytest.fixture
def python(tmp_path):
    """An environment that has pip, packaging, anchor 1 and a package that was half deleted."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    mine = next((folder / "lib").glob("python3*")) / "site-packages"
    for name in ("pip", "packaging"):
        source = Path(sysconfig.get_path("purelib")) / name
        (mine / name).symlink_to(source, target_is_directory=True)
    zipfile.ZipFile(make_wheel(tmp_path, "anchor", "1")).extractall(mine)
    (mine / "nameless-1.dist-info").mkdir()
    return folder / "bin" / "python"


@pytest.mark.skipif(os.name == "nt", reason="a folder is linked")
def test_newcomers_come_in_versions_that_leave_the_rest_alone(python, tmp_path):
    shelf, course = tmp_path / "shelf", tmp_path / "course"
    make_wheel(shelf, "anchor", "2")
    make_wheel(shelf, "newcomer", "1", "anchor")
    make_wheel(shelf, "newcomer", "2", "anchor>=2")  # pip would take this one, and move anchor
    make_wheel(shelf, "tool", "1")
    (course / "ptlab").mkdir(parents=True)
    (course / "pyproject.toml").write_text(PROJECT)
    (course / "builder.py").write_text(BUILDER)
    make_wheel(course, "ptlab", "9")
    script = course / "ptlab" / "install_missing.py"
    script.write_text(Path(install_missing.__file__).read_text("utf-8"), "utf-8")
    code = (
        f"from runpy import run_path; run_path({str(script)!r}, run_name='__main__'); "
        "import ptlab, newcomer, anchor; print(newcomer.version, anchor.version)"
    )
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf), "PIP_CONFIG_FILE": os.devnull}
    plain = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    done = subprocess.run(
        [python, "-c", code], env=plain | settings, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == [
        "ptlab 9 from course; installed: newcomer 1, tool 1; moved: nothing.",
        "1 1",
    ], done.stderr


@pytest.fixture
def calls(monkeypatch):
    """What pip would be called with."""
    made = []
    monkeypatch.setattr(install_missing, "_pip", lambda *arguments: made.append(arguments))
    monkeypatch.setattr(install_missing, "_make_importable", lambda course: None)
    return made


def here(monkeypatch, **versions):
    monkeypatch.setattr(install_missing, "installed", lambda: {**versions, "ptlab": "9"})


@pytest.fixture
def course(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


def test_only_what_is_missing_is_asked_for(calls, monkeypatch, course):
    here(monkeypatch, anchor="1.5+cpu", newcomer="1")
    install(course)
    (_, _, *asked), last = calls
    assert asked == ["tool>=1"] and last == ("--no-deps", "--editable", str(course))


def test_nothing_missing_asks_for_ptlab_alone(calls, monkeypatch, course):
    here(monkeypatch, anchor="2.0rc1", newcomer="1", tool="1")
    said = install(course)
    assert calls == [("--no-deps", "--editable", str(course))]
    assert said.endswith("installed: nothing; moved: nothing.")


def test_what_is_too_old_is_named_and_left_alone(calls, monkeypatch, course):
    here(monkeypatch, anchor="0.9", newcomer="1")
    with pytest.raises(RuntimeError, match=r"needs anchor>=1 \(here is 0\.9\)\. .*make lab"):
        install(course)
    assert calls == []


def test_what_moved_is_said(calls, monkeypatch, course):
    states = [{"anchor": "1", "newcomer": "1"}, {"anchor": "2", "newcomer": "1", "ptlab": "9"}]
    monkeypatch.setattr(install_missing, "installed", lambda: states.pop(0))
    assert install(course).endswith("installed: nothing; moved: anchor 1 -> 2.")


def test_failure_of_pip_is_told():
    with pytest.raises(
        RuntimeError, match=r"(?s)pip install --no-index .*No matching distribution"
    ):
        install_missing._pip("--no-index", "there-is-no-such-package")


@pytest.mark.parametrize("enabled", [True, False])
def test_this_process_finds_what_pip_put_into_a_new_user_folder(tmp_path, monkeypatch, enabled):
    """On a shared server pip makes that folder, and a kernel knows only those it began with."""
    course, mine = tmp_path / "course", tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(site, "ENABLE_USER_SITE", enabled)
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(mine))
    install_missing._make_importable(course)
    assert sys.path[0] == str(course) and (str(mine) in sys.path) == enabled


def test_constraints_are_lines_that_pip_can_read():
    lines = constraints({"torch": "2.11.0+cpu", "odd": "1.1build1", "python-apt": "0.0.0"})
    assert lines == "torch==2.11.0+cpu\npython-apt==0.0.0\n"
    for line in constraints(installed()).splitlines():
        assert Requirement(line)


def test_notebooks_import_what_is_installed_for_them():
    names = {canonicalize_name(need.name) for need in needed(COURSE)} | {"ptlab", "ipython"}
    from_package = packages_distributions()
    for path in notebooks():
        for cell in read(path).cells:
            for module in imported(cell) if cell.cell_type == "code" else ():
                known = {canonicalize_name(n) for n in from_package.get(module, [])}
                assert module in sys.stdlib_module_names or known & names, (path.name, module)


def imported(cell):
    for node in ast.walk(tree(cell)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]
