"""What pyproject.toml asks for: all that is imported, nothing else, by names that exist."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {path.stem for folder in ("ptlab", "tests", "data/recipes", "tests/benchmarks")
        for path in (ROOT / folder).glob("*.py")} | {"ptlab", "sitecustomize"}  # fmt: skip

# Not imported, and needed all the same.
COMMANDS = {
    "accelerate": "the Trainer of transformers refuses to work without",
    "furo": "make reference",
    "jupyterlab": "make lab starts it",
    "mypy": "make lint runs it",
    "myst-parser": "make reference",
    "ruff": "make lint runs it",
    "sphinx": "make reference",
}
# Imported, and never there without a package that is asked for.
BROUGHT = {
    "ipython": "ipywidgets",
    "joblib": "scikit-learn",
    "traitlets": "ipywidgets",
    "safetensors": "transformers",
    "packaging": "transformers",
    "rapidfuzz": "jiwer",
    "huggingface-hub": "transformers",
    "tensorrt": "",  # nobody can install it by a name: NVIDIA's; asked for by find_spec
}
# Another distribution with the same modules, by what the metadata of an installed one says.
SAME = {"pyworld": "pyworld-prebuilt"}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


CORE = names(PROJECT["dependencies"])
ALL = CORE.union(*map(names, EXTRAS.values()))


def texts() -> Iterator[tuple[str, str]]:
    for pattern in (
        "ptlab/**/*.py", "tests/**/*.py", "data/recipes/*.py", "notebooks/**/*.ipynb",
        "notebooks/**/*.md", "*.md", "Makefile", "environment.yml", ".binder/*",
    ):  # fmt: skip
        for path in ROOT.glob(pattern):
            if path.is_file():
                yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def test_every_extra_that_is_named_exists() -> None:
    named: dict[str, set[str]] = {}
    for place, text in texts():
        for match in re.finditer(r"(?:\bptlab|(?<![\w\])])\.)\\*\[([a-z][a-z, ]*)\\*\]", text):
            for extra in match[1].split(","):
                named.setdefault(extra.strip(), set()).add(place)
    unknown = {extra: places for extra, places in named.items() if extra not in EXTRAS}
    unknown.pop("extra", None)  # a placeholder in CONTRIBUTING.md
    assert unknown == {}
    assert {"course", "export", "lora", "ray", "vad"} <= named.keys()  # else nothing is read


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_every_extra_is_told_to_somebody(extra: str) -> None:
    """A user finds it in a message, a page or the Makefile, not in pyproject.toml alone."""
    here = "tests/test_extras.py"
    said = re.compile(rf"(ptlab|\.)\\*\[[a-z, ]*\b{extra}\b[a-z, ]*\\*\]")
    assert any(said.search(text) for place, text in texts() if place != here)


def imported(paths: list[Path], whole: bool) -> dict[str, set[str]]:
    """Top-level modules that files import -> the files; if not ``whole``, at their top alone."""
    found: dict[str, set[str]] = {}
    for path in paths:
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree) if whole else _at_top(tree):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for module in modules:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names | OURS:
                    found.setdefault(top, set()).add(path.name)
    return found


def _at_top(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements of the module itself: what a type checker alone reads is not among them."""
    for node in tree.body:
        yield from (node.body if isinstance(node, ast.Try) else [node])


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def distributions(module: str) -> set[str]:
    """Distributions that bring a module; its own name if none is installed."""
    found = _installed().get(module, [SAME.get(module, module)])
    return {canonicalize_name(name) for name in found}


def undeclared(modules: dict[str, set[str]], declared: set[str]) -> dict[str, set[str]]:
    missing = {}
    for module, places in modules.items():
        options = distributions(module)
        if not options & declared and not any(BROUGHT.get(o) in {"", *declared} for o in options):
            missing[module] = places
    return missing


PACKAGE = sorted((ROOT / "ptlab").rglob("*.py"))


def test_what_ptlab_imports_at_once_is_among_its_dependencies() -> None:
    modules = imported(PACKAGE, whole=False)
    assert {"numpy", "matplotlib", "anywidget"} <= modules.keys()
    assert undeclared(modules, CORE) == {}


def test_what_it_imports_on_first_use_is_among_them_or_in_an_extra() -> None:
    modules = imported(PACKAGE, whole=True)
    assert {"torch", "transformers", "onnx", "peft", "ray"} <= modules.keys()
    assert undeclared(modules, ALL) == {}


def test_an_import_that_nobody_declared_is_found(tmp_path: Path) -> None:
    path = tmp_path / "room.py"
    path.write_text("import numpy\ndef f():\n    from scipy_of_mine import x\n", "utf-8")
    assert undeclared(imported([path], whole=True), ALL) == {"scipy_of_mine": {"room.py"}}
    assert undeclared(imported([path], whole=False), ALL) == {}


@pytest.mark.parametrize("brought, by", [(a, b) for a, b in BROUGHT.items() if b])
def test_what_is_brought_by_another_package_is(brought: str, by: str) -> None:
    needed = [Requirement(line) for line in requires(by) or ()]
    always = (r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""}))
    assert brought in {canonicalize_name(r.name) for r in always}


def test_every_requirement_is_used() -> None:
    folders = ("ptlab", "tests", "data/recipes")
    modules = imported([p for f in folders for p in (ROOT / f).rglob("*.py")], whole=True)
    used = set().union(*map(distributions, modules)) | COMMANDS.keys()
    assert ALL - used == set()
