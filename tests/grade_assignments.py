"""Grade submissions where nbgrader is not installed.

    python tests/grade_assignments.py SUBMISSION.ipynb ... [--variant 7] [--output grades.csv]

As nbgrader does it: locked cells, with their hidden tests, come from the authored notebook, the
rest from the student; a check that raises, or writes to stderr, gives no points. Every submission
is run by a Python of its own in a temporary folder, and stopped after a time. That is no sandbox:
it is the students' code, and it may do what the account that runs it may do.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from release_assignments import (
    ROOT,
    answers,
    assignments,
    graded,
    grader,
    read,
    released,
    with_variant,
)

TIMEOUT_S = 300  # of one submission
UNREAD = "to be read by a person"


def restored(submission: NotebookNode, source: NotebookNode) -> NotebookNode:
    """A copy of the submission with every locked cell as it was authored."""
    submission = copy.deepcopy(submission)
    authored = {grader(c)["grade_id"]: c for c in source.cells if grader(c)}
    for cell in submission.cells:
        known = authored.get(grader(cell).get("grade_id"))
        if known is not None and not grader(known)["solution"]:
            cell.source, cell.cell_type = known.source, known.cell_type
    return submission


def execute(source: str, namespace: dict[str, Any]) -> str:
    """Run a cell; why it gets no points, or nothing if it passed."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            exec(compile(TransformerManager().transform_cell(source), "cell", "exec"), namespace)
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # of students, who may raise any
        return f"{type(error).__name__}: {error}"
    return f"wrote to stderr: {said.getvalue()}" if said.getvalue() else ""


def marks(cells: list[NotebookNode], namespace: dict[str, Any]) -> dict[str, str]:
    """Run cells in their order; check -> why it failed, or nothing if it passed."""
    found = {}
    for cell in cells:
        if cell.cell_type == "code":
            failure = execute(cell.source, namespace)
            if grader(cell).get("grade"):
                found[grader(cell)["grade_id"]] = failure
    return found


def grade(submission: NotebookNode, source: NotebookNode) -> list[dict[str, Any]]:
    """A row with points and a message for every cell of the assignment that carries points."""
    found = marks(restored(submission, source).cells, {"__name__": "__main__"})
    written = {grader(c).get("grade_id"): c.source for c in answers(submission)}
    stubs = {grader(c)["grade_id"]: c.source for c in answers(released(source))}
    rows = []
    for cell in graded(source):
        name, most = grader(cell)["grade_id"], grader(cell)["points"]
        if cell.cell_type == "code":
            message = found.get(name, "the cell was deleted")
            points = 0 if message else most
        else:
            text = written.get(name, stubs[name])
            points, message = (0, "no answer") if text == stubs[name] else (None, UNREAD)
        rows.append({"cell": name, "points": points, "of": most, "message": message})
    return rows


def assignment_of(submission: NotebookNode) -> Path:
    """The authored notebook that a submission answers, known by its cells."""
    names = {grader(c).get("grade_id") for c in submission.cells}
    shared = {path: len(names & {grader(c)["grade_id"] for c in graded(read(path))})
              for path in assignments()}  # fmt: skip
    best = max(shared, key=shared.__getitem__)
    if not shared[best]:
        raise SystemExit("This notebook answers no assignment of the course.")
    return best


def graded_rows(path: Path, variant: int) -> list[dict[str, Any]]:
    """Rows of one submission."""
    submission = read(path)
    source = with_variant(read(assignment_of(submission)), variant)
    return grade(submission, source)


def in_a_process(path: Path, variant: int) -> list[dict[str, Any]]:
    """The same by a Python of its own, in a folder of its own; one row if that came to nothing."""
    command = [sys.executable, __file__, str(path.resolve()), "--variant", str(variant), "--rows"]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                command, capture_output=True, text=True, encoding="utf-8", cwd=folder,
                timeout=TIMEOUT_S, env=os.environ | {"PYTHONPATH": paths, "PYTHONUTF8": "1"},
            )  # fmt: skip
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        why = f"stopped after {TIMEOUT_S} s"
    except json.JSONDecodeError:
        why = done.stderr.strip().splitlines()[-1:] or [f"ended with code {done.returncode}"]
        why = why[0]
    return [{"cell": "", "points": 0, "of": 0, "message": why}]


def summary(path: Path, rows: list[dict[str, Any]]) -> str:
    """Points of one submission, and what was lost."""
    read_yet = [r for r in rows if r["points"] is not None]
    unread = sum(r["of"] for r in rows if r["points"] is None)
    lines = [f"{path}: {sum(r['points'] for r in read_yet)} of {sum(r['of'] for r in rows)}"]
    lines[0] += f", and {unread} to be read" if unread else ""
    lines += [f"  {r['cell']}: {r['message']}" for r in read_yet if r["message"]]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("submissions", nargs="+", type=Path)
    parser.add_argument("--variant", type=int, default=1, help="that was handed out")
    parser.add_argument("--output", type=Path, help="a table for a spreadsheet")
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rows:
        print(json.dumps(graded_rows(options.submissions[0], options.variant)))
        return 0
    table = []
    for path in options.submissions:
        rows = in_a_process(path, options.variant)
        print(summary(path, rows))
        table += [{"submission": str(path), **row} for row in rows]
    if options.output:
        with open(options.output, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
