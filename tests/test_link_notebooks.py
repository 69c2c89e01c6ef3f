"""One line holds the repository's address, and the first cell that uses it does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from link_notebooks import ROOT, badge, link, link_page, notebooks, repository, setup
from refresh_notebooks import read

import ptlab

every_notebook = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
FORK = "https://github.com/who/what"
ALONE = """
import sys, types
assert __name__ == "__main__"
print("installed")
sys.modules["ptlab"] = types.ModuleType("ptlab")
"""


@every_notebook
def test_notebook_has_the_address(path):
    first = {cell.id: cell.source for cell in read(path).cells[:4]}
    assert first["setup"] == setup(repository()), "run `make links`"
    if path.parent.name == "notebooks":
        assert badge(repository(), f"notebooks/{path.name}") in first["title"].split("\n")


def test_nothing_is_left_to_link():
    assert list(link(check=True)) == [], "run `make links`"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asks git which files are ours")
def test_fork_changes_one_line(tmp_path):
    named = rf"(github\.com|/github|/gh)/{repository().removeprefix('https://github.com/')}\b"
    grep = ["git", "grep", "-lE", named, "--", ":!tests"]
    done = subprocess.run(grep, cwd=ROOT, capture_output=True, text=True, check=True)
    copies = [tmp_path / line for line in done.stdout.splitlines()]
    for copy in copies:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / copy.relative_to(tmp_path), copy)
    settings = tmp_path / "pyproject.toml"
    text = settings.read_text("utf-8")
    assert text.count(repository()) == 1
    settings.write_text(text.replace(repository(), FORK), "utf-8")
    assert set(link(tmp_path)) == set(copies) - {settings}
    assert [copy for copy in copies if re.search(named, copy.read_text("utf-8"))] == []
    assert list(link(tmp_path)) == []


@pytest.fixture
def run_cell(tmp_path, monkeypatch):
    """``run_cell()``: the first cell, where there is no ptlab; returns the shell's commands."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "ptlab", None)  # an import of it raises ModuleNotFoundError
    commands = []

    class Shell:
        def system(self, command):
            commands.append(command.format(REPOSITORY=repository()))
            if command.startswith("git clone"):
                os.makedirs("ptlab-course/ptlab")
                with open("ptlab-course/ptlab/install_missing.py", "w") as file:
                    file.write(ALONE)

    def run():
        code = TransformerManager().transform_cell(setup(repository()))
        exec(code, {"get_ipython": Shell})
        return commands

    return run


def test_links_to_colab_and_binder_follow(tmp_path):
    page = tmp_path / "README.md"
    old = "https://github.com/a/b"
    page.write_text(
        "[x](https://mybinder.org/v2/gh/a/b/main) (http://c/github/a/b/blob/main/n) a/b/c"
    )
    assert link_page(page, old, FORK, check=True) and "who" not in page.read_text()
    assert link_page(page, old, FORK, check=False) and not link_page(page, old, FORK, check=False)
    assert page.read_text().count("who/what/") == 2 and page.read_text().endswith(" a/b/c")


def test_cell_does_nothing_where_the_course_is(run_cell, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ptlab", ptlab)
    assert run_cell() == [] and os.listdir() == [] and capsys.readouterr().out == ""


def test_cell_fetches_the_course_once(run_cell, monkeypatch, capsys):
    clone = f"git clone --quiet --depth 1 {repository()} ptlab-course"
    assert run_cell() == [clone] and capsys.readouterr().out == "installed\n"
    monkeypatch.setitem(sys.modules, "ptlab", None)  # as when pip failed
    assert run_cell() == [clone] and capsys.readouterr().out == "installed\n"


@pytest.mark.parametrize("course", ["../ptlab", "../../../ptlab"])
def test_cell_fetches_nothing_in_the_course_itself(run_cell, tmp_path, monkeypatch, capsys, course):
    place = tmp_path / "folder" / "assignments" / "x"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    os.mkdir(course)
    with pytest.raises(ModuleNotFoundError):
        run_cell()
    assert "make lab" in capsys.readouterr().out and not os.path.exists("ptlab-course")


def test_cell_stops_where_nothing_could_be_fetched(run_cell, monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda path: path == "ptlab-course")
    with pytest.raises(FileNotFoundError, match=r"ptlab-course.ptlab.install_missing\.py"):
        run_cell()
