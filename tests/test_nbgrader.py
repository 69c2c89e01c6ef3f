"""The whole cycle with nbgrader: release, submit, autograde, a person's marks, feedback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from grade_assignments import graded_rows
from release_assignments import answers, assignments, graded, grader, main, read
from test_assignments import WRONG

NAMES = [path.stem for path in assignments()]
READ = {"solved": 1, "mistaken": 0.25}  # share of the points that a reader gives to words


def nbgrader(folder, *arguments):
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def submissions(name):
    """Student -> notebook as handed in, made from what was handed out."""
    authored = {c.id: c.source for c in answers(read(assignments([name])[0]))}
    _, answer, _, lost, code = next(w for w in WRONG if w[0] == name)
    mistaken = authored | {answer: code}
    return {"solved": authored, "mistaken": mistaken, "unsolved": {}}, lost.split()


@pytest.fixture(scope="module", params=NAMES)
def course(request, tmp_path_factory):
    """A course folder in which one assignment was released, submitted and graded, and its name."""
    pytest.importorskip("nbgrader", reason='needs nbgrader: pip install "ptlab[classroom]"')
    folder, name = tmp_path_factory.mktemp("course"), request.param
    beside = str(Path(sys.executable).parent)  # nbgrader calls alembic by its name
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", beside, prepend=os.pathsep)
        yield graded_course(folder, name), name


def graded_course(folder, name):
    main([name, "--output", str(folder)])
    nbgrader(folder, "generate_assignment", name)
    for student, filled in submissions(name)[0].items():
        notebook = read(folder / "students" / name / f"{name}.ipynb")
        for cell in notebook.cells:
            cell.source = filled.get(cell.id, cell.source)
        target = folder / "submitted" / student / name / f"{name}.ipynb"
        target.parent.mkdir(parents=True)
        nbformat.write(notebook, target)
    nbgrader(folder, "autograde", name)
    return folder


@pytest.mark.notebook
def test_students_version_is_what_nbgrader_makes(course):
    folder, name = course
    ours, theirs = (read(folder / f / name / f"{name}.ipynb") for f in ("students", "release"))
    assert ours.cells == theirs.cells


@pytest.mark.notebook
def test_cycle_gives_the_points_that_it_should(course):
    from nbgrader.api import Gradebook

    folder, name = course
    filled, lost = submissions(name)
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as book:
        for student in filled:
            submitted = book.find_submission_notebook(name, name, student)
            scores = {g.name: g.auto_score for g in submitted.grades}
            rows = graded_rows(folder / "submitted" / student / name / f"{name}.ipynb", 1)
            assert scores == {row["cell"]: row["points"] for row in rows}
            for grade in submitted.grades:
                if grade.auto_score is None:
                    assert grade.needs_manual_grade
                    grade.manual_score = READ[student] * grade.max_score
                    grade.needs_manual_grade = False
        book.db.commit()
        total = {student: book.find_submission(name, student).score for student in filled}
    cells = graded(read(assignments([name])[0]))
    points = {grader(c)["grade_id"]: grader(c)["points"] for c in cells}
    words = sum(grader(c)["points"] for c in cells if c.cell_type == "markdown")
    assert total == {
        "solved": sum(points.values()),
        "mistaken": sum(points.values()) - sum(points[i] for i in lost) - 0.75 * words,
        "unsolved": 0,
    }
    nbgrader(folder, "generate_feedback", name)
    for student in filled:
        page = (folder / "feedback" / student / name / f"{name}.html").read_text("utf-8")
        said = page.count("ainda sem resposta") > 0
        assert said == (student == "unsolved")
