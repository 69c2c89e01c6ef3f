"""The whole cycle with nbgrader: release, submit, autograde, a person's marks, feedback."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest
from grade_assignments import graded_rows
from release_assignments import answers, assignments, graded, grader, main, read
from test_assignments import WRONG

NAMES = [path.stem for path in assignments()]
READ = {"solved": 2.0, "mistaken": 0.5}  # a person's marks for each answer in words


def nbgrader(folder, *arguments):
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def submissions(name):
    """Student -> notebook as handed in, made from what was handed out."""
    authored = {c.id: c.source for c in answers(read(next(iter(assignments([name])))))}
    _, answer, _, lost, code = next(w for w in WRONG if w[0] == name)
    mistaken = authored | {answer: code}
    return {"solved": authored, "mistaken": mistaken, "unsolved": {}}, lost.split()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course folder in which every assignment was released, submitted and graded."""
    pytest.importorskip("nbgrader", reason='needs nbgrader: pip install "ptlab[classroom]"')
    folder = tmp_path_factory.mktemp("course")
    main(["--output", str(folder)])
    for name in NAMES:
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
@pytest.mark.parametrize("name", NAMES)
def test_students_version_is_what_nbgrader_makes(course, name):
    ours, theirs = (read(course / f / name / f"{name}.ipynb") for f in ("students", "release"))
    assert len(ours.cells) == len(theirs.cells)
    for mine, its in zip(ours.cells, theirs.cells, strict=True):
        assert mine == its


@pytest.mark.notebook
@pytest.mark.parametrize("name", NAMES)
def test_cycle_gives_the_points_that_it_should(course, name):
    from nbgrader.api import Gradebook

    filled, lost = submissions(name)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        for student in filled:
            submitted = book.find_submission_notebook(name, name, student)
            scores = {g.name: g.auto_score for g in submitted.grades}
            rows = graded_rows(course / "submitted" / student / name / f"{name}.ipynb", 1)
            assert scores == {row["cell"]: row["points"] for row in rows}
            for grade in submitted.grades:
                if grade.auto_score is None:
                    assert grade.needs_manual_grade
                    grade.manual_score, grade.needs_manual_grade = READ[student], False
        book.db.commit()
        total = {s: book.find_submission(name, s).score for s in filled}
    points = {grader(c)["grade_id"]: grader(c)["points"] for c in graded(read_source(name))}
    words = sum(1 for c in graded(read_source(name)) if c.cell_type == "markdown")
    assert total == {
        "solved": sum(points.values()),
        "mistaken": sum(points.values()) - sum(points[i] for i in lost) - 1.5 * words,
        "unsolved": 0,
    }
    nbgrader(course, "generate_feedback", name)
    for student in filled:
        page = (course / "feedback" / student / name / f"{name}.html").read_text("utf-8")
        assert ("ainda sem resposta" in page) == (student == "unsolved")


def read_source(name):
    return read(next(iter(assignments([name]))))
