"""Make the students' version of every assignment: what ``make assignments`` does.

    python tests/release_assignments.py [NAME ...] [--variant 7] [--output build/assignments]

Two folders are written: ``students``, to hand out, without solutions, hidden tests, mark schemes;
and ``source`` with ``nbgrader_config.py`` beside it, from which nbgrader makes the same.
What is taken out, and in which order, follows nbgrader 0.9 (generate_assignment), which need not
be installed; a test compares the two.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import re
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
ASSIGNMENTS = ROOT / "notebooks" / "assignments"
CODE_STUB = (
    "# ESCREVA AQUI O SEU CÓDIGO e apague a linha de baixo\n"
    'raise NotImplementedError("ainda sem resposta")'
)
TEXT_STUB = "*ESCREVA AQUI A SUA RESPOSTA*"
CONFIG = '''"""Made by tests/release_assignments.py: run nbgrader in this folder."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "ptlab"
c.ClearSolutions.code_stub = {{"python": {code!r}}}
c.ClearSolutions.text_stub = {text!r}
c.ExecutePreprocessor.timeout = 120  # seconds a cell, on a slow machine
'''


def assignments(names: list[str] | None = None) -> list[Path]:
    """Authored notebooks in their order; of the given names only, if there are any."""
    found = sorted(ASSIGNMENTS.glob("*/*.ipynb"))
    chosen = [p for p in found if not names or p.stem in names or p.stem[:2] in names]
    if len(chosen) < len(names or ()):
        raise SystemExit(f"No such assignment in {names}; there are {[p.stem for p in found]}.")
    return chosen


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def grader(cell: NotebookNode) -> dict:
    """What nbgrader knows of a cell; nothing, for most."""
    return cell.metadata.get("nbgrader", {})


def answers(notebook: NotebookNode) -> list[NotebookNode]:
    """Cells that students fill in."""
    return [c for c in notebook.cells if grader(c).get("solution")]


def graded(notebook: NotebookNode) -> list[NotebookNode]:
    """Cells that carry points: checks, and answers in words."""
    return [c for c in notebook.cells if grader(c).get("grade")]


def with_variant(notebook: NotebookNode, variant: int) -> NotebookNode:
    """A copy with another number in the one line that chooses the data."""
    notebook, changed = copy.deepcopy(notebook), 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, count = re.subn(
                r"^VARIANT = \d+", f"VARIANT = {variant:d}", cell.source, flags=re.M
            )
            changed += count
    if changed != 1:
        raise ValueError(f"VARIANT is set {changed} times; an assignment sets it once")
    return notebook


def released(notebook: NotebookNode) -> NotebookNode:
    """A copy for students."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        solved = cell.source
        stub = CODE_STUB if cell.cell_type == "code" else TEXT_STUB
        cell.source = _without(cell.source, "SOLUTION", stub)
        if grader(cell).get("solution") and cell.source == solved:
            cell.source = stub
        cell.source = _without(cell.source, "HIDDEN TESTS")
        cell.source = _without(cell.source, "MARK SCHEME")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if grader(cell):
            _lock(cell)
    return notebook


def _without(source: str, what: str, stub: str = "") -> str:
    """The source with every region ``### BEGIN what`` to ``### END what`` replaced by the stub."""
    kept, inside = [], False
    for line in source.split("\n"):
        if f"BEGIN {what}" in line or f"END {what}" in line:
            begins = f"BEGIN {what}" in line
            if begins == inside:
                raise ValueError(f"BEGIN {what} and END {what} do not alternate:\n{source}")
            inside = begins
            indent = re.match(r"\s*", line)[0]
            kept += [indent + s for s in stub.split("\n")] if begins and stub else []
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"no END {what}:\n{source}")
    return "\n".join(kept)


def _lock(cell: NotebookNode) -> None:
    """What stops an editor from deleting or changing a cell, and shows nbgrader if one did."""
    cell.metadata.deletable = False
    if not grader(cell)["solution"]:
        cell.metadata.editable = False
    cell.metadata.nbgrader |= {"checksum": checksum(cell), "cell_type": cell.cell_type}


def checksum(cell: NotebookNode) -> str:
    """As in nbgrader.utils: an answer in words with the checksum of its stub gets no points."""
    known = grader(cell)
    locked = not known["solution"] and (known["grade"] or known["locked"])
    parts = [cell.source, cell.cell_type, known["grade"], known["solution"], locked]
    parts.append(known["grade_id"])
    if known["grade"]:
        parts.append(float(known["points"]))
    return hashlib.md5("".join(map(str, parts)).encode()).hexdigest()


def release(path: Path, output: Path, variant: int) -> None:
    """Write one assignment as ``students/NAME/NAME.ipynb`` and ``source/NAME/NAME.ipynb``."""
    source = with_variant(read(path), variant)
    for folder, notebook in (("source", source), ("students", released(source))):
        target = output / folder / path.stem / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)
    points = sum(grader(c)["points"] for c in graded(source))
    print(f"{path.stem}: {points} points, variant {variant}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", help="01 or 01_transcription; default: all")
    parser.add_argument("--variant", type=int, default=1, help="chooses the data, one a class")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "assignments")
    options = parser.parse_args(arguments)
    for path in assignments(options.names):
        release(path, options.output, options.variant)
    config = CONFIG.format(code=CODE_STUB, text=TEXT_STUB)
    (options.output / "nbgrader_config.py").write_text(config, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
