"""Write the repository's address into all that names it: what ``make links`` does.

    python tests/link_notebooks.py            badges and set-up cells of all notebooks, and pages
    ... --check                               say what would change; change nothing

The one place that holds the address is ``Repository`` in pyproject.toml: a fork changes that line.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
from refresh_notebooks import link as link_lessons

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "*.cff", "notebooks/**/*.md", "data/*.md", "ptlab/assets/mini/*.md")
COLAB = "https://colab.research.google.com"
BADGE = re.compile(r"^\[!\[Open in Colab\]\(.*$", flags=re.M)
FETCHED = re.compile(r'^    REPOSITORY = "(.+)"$', flags=re.M)
SETUP = """\
import os
import sys
from runpy import run_path

try:
    import ptlab
except ModuleNotFoundError:
    if os.path.exists("../ptlab") or os.path.exists("../../../ptlab"):
        print("In a terminal, in the course's folder, run:  make lab")
        raise
    REPOSITORY = "{repository}"
    if not os.path.exists("ptlab-course"):
        !git clone --quiet --depth 1 {{REPOSITORY}} ptlab-course
    run_path("ptlab-course/ptlab/install_missing.py", run_name="__main__")
    import ptlab"""


def repository(root: Path = ROOT) -> str:
    """The address, without a slash at its end."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    return project["urls"]["Repository"].rstrip("/")


def notebooks(root: Path = ROOT) -> list[Path]:
    """Notebooks of the course and its assignments."""
    return sorted(
        [*root.glob("notebooks/[0-9]*.ipynb"), *root.glob("notebooks/assignments/*/*.ipynb")]
    )


def setup(address: str) -> str:
    """The cell that fetches the course where there is none."""
    return SETUP.format(repository=address)


def badge(address: str, place: str) -> str:
    """Markdown of the picture that opens a notebook in Colab."""
    return (
        f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]"
        f"({COLAB}/github/{_project(address)}/blob/main/{place})"
    )


def link_notebook(path: Path, address: str, root: Path, *, check: bool) -> bool:
    """Put the address into a notebook; whether that changed it."""
    notebook, place = nbformat.read(path, as_version=4), path.relative_to(root).as_posix()
    before = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if cell.id == "title":
            cell.source = BADGE.sub(badge(address, place), cell.source)
        elif cell.id == "setup":
            cell.source = setup(address)
    if path.parent.name == "notebooks":
        link_lessons(path, notebook)
    changed = before != [cell.source for cell in notebook.cells]
    if changed and not check:
        nbformat.write(notebook, path)
    return changed


def link_page(path: Path, old: str, new: str, *, check: bool) -> bool:
    """Put the address into a page, its links to Colab and Binder too; whether that changed it."""
    text = path.read_text("utf-8")
    named = re.escape(_project(old))
    linked = re.sub(rf"(github\.com|/github|/gh)/{named}(?![\w.-])", rf"\1/{_project(new)}", text)
    if linked != text and not check:
        path.write_text(linked, "utf-8")
    return linked != text


def _project(address: str) -> str:
    """Owner and name."""
    return address.removeprefix("https://github.com/")


def former(root: Path) -> str:
    """The address that the first notebook has, which the pages have as well."""
    first = nbformat.read(notebooks(root)[0], as_version=4)
    return next(found[1] for cell in first.cells if (found := FETCHED.search(cell.source)))


def link(root: Path = ROOT, *, check: bool = False) -> Iterator[Path]:
    """Write the address everywhere; yields what changed, or would."""
    old, new = former(root), repository(root)
    for path in notebooks(root):
        if link_notebook(path, new, root, check=check):
            yield path
    for path in sorted({p for pattern in PAGES for p in root.glob(pattern)}):
        if link_page(path, old, new, check=check):
            yield path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    changed = [path.relative_to(ROOT).as_posix() for path in link(check=options.check)]
    done = "differ from" if options.check else "now have"
    print("\n".join(changed) or "all", done, f"the address {repository()}")
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
