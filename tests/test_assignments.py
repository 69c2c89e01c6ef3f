"""Assignments: solutions get full marks, nothing gets none, and a mistake costs what it should."""

from __future__ import annotations

import ast
import copy
import csv
import re
import sys
from pathlib import Path

import grade_assignments
import pytest
from grade_assignments import (
    UNREAD,
    assignment_of,
    execute,
    grade,
    marks,
    restored,
    summary,
)
from nbformat.v4 import new_code_cell, new_notebook
from notebook_rules import MAX_COLUMNS, headings, images_described, page, tree
from refresh_notebooks import ADDRESS, PATHS
from release_assignments import (
    CODE_STUB,
    TEXT_STUB,
    answers,
    assignments,
    checksum,
    graded,
    grader,
    main,
    read,
    released,
    with_variant,
)

POINTS = 20  # of every assignment
MAX_LINES = 36  # hidden tests are long; what a student sees of them is not
SOURCES = {path.stem: read(path) for path in assignments()}
WRONG = [
    (name, *match.groups())
    for name in SOURCES
    for match in re.finditer(
        r"^# ([a-z-]+): (.+) -> (.+)\n((?:(?!# [a-z-]+-answer: ).*\n)+)",
        (Path(__file__).parent / "wrong_answers" / f"{name}.txt").read_text("utf-8"),
        flags=re.M,
    )
]
every = pytest.mark.parametrize("name", SOURCES)


def ids(cells):
    return [grader(c)["grade_id"] for c in cells]


def checks(notebook):
    return [c for c in graded(notebook) if c.cell_type == "code"]


def first_answer(notebook):
    return next(i for i, c in enumerate(notebook.cells) if grader(c).get("solution"))


@pytest.fixture(scope="module")
def run():
    """Failures by check, with some answers replaced; what comes before the first is run once."""
    opened = {}

    def run_with(name, notebook, replaced=()):
        start, variant = first_answer(notebook), re.search(r"VARIANT = (\d+)", str(notebook))[1]
        if (name, variant) not in opened:
            namespace = {"__name__": "__main__"}
            for cell in notebook.cells[:start]:
                assert cell.cell_type != "code" or execute(cell.source, namespace) == ""
            opened[name, variant] = namespace
        cells = copy.deepcopy(notebook.cells[start:])
        for cell in cells:
            cell.source = dict(replaced).get(cell.id, cell.source)
        return marks(cells, dict(opened[name, variant]))

    return run_with


@every
@pytest.mark.parametrize("variant", [1, 7])
def test_solutions_get_full_marks(run, name, variant):
    found = run(name, with_variant(SOURCES[name], variant))
    assert found == dict.fromkeys(ids(checks(SOURCES[name])), "")


@every
@pytest.mark.parametrize("hidden", [True, False], ids=["graded", "as handed out"])
def test_unsolved_gets_nothing_and_says_why(run, name, hidden):
    unsolved = released(SOURCES[name])
    found = run(name, restored(unsolved, SOURCES[name]) if hidden else unsolved)
    said = "NotImplementedError: ainda sem resposta"
    assert found == dict.fromkeys(ids(checks(SOURCES[name])), said)


@every
def test_solutions_pass_what_students_see(run, name):
    seen = released(SOURCES[name])
    solved = [(c.id, c.source) for c in answers(SOURCES[name])]
    assert set(run(name, seen, solved).values()) == {""}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda w: f"{w[0][:2]}-{w[2].replace(' ', '-')}")
def test_mistake_costs_its_points_and_no_others(run, wrong):
    name, answer, _, lost, code = wrong
    assert answer in ids(answers(SOURCES[name]))
    found = run(name, SOURCES[name], [(answer, code)])
    assert {check for check, failure in found.items() if failure} == set(lost.split())
    assert "AssertionError: " not in found.values(), "a check does not say why"


@every
def test_every_check_refuses_some_mistake(name):
    refused = {check for n, _, _, lost, _ in WRONG if n == name for check in lost.split()}
    assert refused == set(ids(checks(SOURCES[name])))


@every
def test_points_ids_and_metadata(name):
    cells = [c for c in SOURCES[name].cells if grader(c)]
    assert sum(grader(c)["points"] for c in graded(SOURCES[name])) == POINTS
    assert len(set(ids(cells))) == len(cells)
    for cell in cells:
        known = grader(cell)
        assert known["grade_id"] == cell.id and re.fullmatch(r"[a-z]+(-[a-z]+)*", cell.id)
        assert set(known) - {"points"} == {
            "grade", "grade_id", "locked", "schema_version", "solution", "task",
        }  # fmt: skip
        assert known["schema_version"] == 3 and ("points" in known) == known["grade"]
        assert known["locked"] != known["solution"]
        if cell.cell_type == "markdown":  # nbgrader refuses any other kind
            assert known["grade"] and known["solution"]
            assert re.search(r"\*\*Mark scheme\.\*\*.* point", cell.source)
        else:
            assert not (known["grade"] and known["solution"])


@every
def test_each_part_says_its_points(name):
    """The heading of a part says what its checks and answers in words add up to."""
    promised, given = [], []
    for cell in SOURCES[name].cells:
        for title in headings(cell, 2):
            found = re.search(r"\((\d+) points\)$", title)
            promised.append(int(found[1]) if found else 0)
            given.append(0)
        if grader(cell).get("grade"):
            given[-1] += grader(cell)["points"]
        if grader(cell).get("grade") and cell.cell_type == "code":
            points = grader(cell)["points"]
            assert f"right ({points} point{'s' * (points > 1)})" in cell.source
    assert promised == given


@every
def test_written_and_saved_like_the_course(name):
    source = SOURCES[name]
    assert sum(len(headings(c, 1)) for c in source.cells) == 1
    assert not list(images_described(page(assignments([name])[0], source)))
    for cell in source.cells:
        assert not PATHS.search(cell.source) and not ADDRESS.search(cell.source)
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
            lines = cell.source.splitlines()
            assert len(lines) <= MAX_LINES, cell.id
            assert max(map(len, lines)) <= MAX_COLUMNS, cell.id
        if cell in checks(source):  # nbgrader takes a value at the end of a check for its points
            assert ast.unparse(tree(cell).body[-1]).startswith("print("), cell.id


@every
def test_release_keeps_nothing_back_and_gives_nothing_away(name):
    source, handed = SOURCES[name], released(SOURCES[name])
    assert ids(c for c in handed.cells if grader(c)) == ids(c for c in source.cells if grader(c))
    text = "\n".join(c.source for c in handed.cells)
    for secret in ("BEGIN ", "END ", "SOLUTION", "HIDDEN", "Mark scheme"):
        assert secret not in text
    for cell in answers(handed):
        stub = CODE_STUB if cell.cell_type == "code" else TEXT_STUB
        assert all(line.strip() in cell.source for line in stub.split("\n")), cell.id
    for cell in handed.cells:
        if cell.cell_type == "code":
            tree(cell)
        if grader(cell):
            assert cell.metadata.deletable is False
            assert cell.metadata.get("editable", True) == grader(cell)["solution"]
            assert grader(cell)["checksum"] == checksum(cell)


def broken(source):
    return new_notebook(cells=[new_code_cell(source)])


@pytest.mark.parametrize(
    "source",
    [
        "### BEGIN SOLUTION\nx = 1",
        "x = 1\n### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
        "### BEGIN HIDDEN TESTS\nassert x",
    ],
)
def test_regions_that_do_not_close_are_refused(source):
    with pytest.raises(ValueError, match="END"):
        released(broken(source))


def test_stub_is_indented_as_the_solution():
    notebook = broken("def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION")
    with pytest.raises(NotImplementedError, match="ainda sem resposta"):
        namespace = {}
        exec(released(notebook).cells[0].source, namespace)
        namespace["f"]()


def test_variant_is_set_in_one_place():
    notebook = broken("VARIANT = 1  # seed\nx = VARIANT")
    assert with_variant(notebook, 12).cells[0].source.startswith("VARIANT = 12  # seed")
    with pytest.raises(ValueError, match="0 times"):
        with_variant(broken("x = 1"), 2)


def test_command_writes_release_source_and_configuration(tmp_path, capsys):
    assert main(["--output", str(tmp_path), "--variant", "3", "01"]) == 0
    assert capsys.readouterr().out == "01_transcription: 20 points, variant 3\n"
    handed = tmp_path / "students" / "01_transcription" / "01_transcription.ipynb"
    assert "VARIANT = 3" in handed.read_text("utf-8")
    assert "BEGIN HIDDEN" not in handed.read_text("utf-8")
    authored = tmp_path / "source" / "01_transcription" / "01_transcription.ipynb"
    assert "BEGIN HIDDEN" in authored.read_text("utf-8")
    config = (tmp_path / "nbgrader_config.py").read_text("utf-8")
    compile(config, "config", "exec")
    assert "ainda sem resposta" in config and TEXT_STUB in config
    with pytest.raises(SystemExit, match="there are"):
        main(["--output", str(tmp_path), "99"])


def small():
    """An assignment of one answer, one check with a hidden test, and one answer in words."""

    def cell(name, source, **known):
        flags = {"grade": False, "solution": False, "locked": False, **known}
        made = new_code_cell(source, id=name)
        made.metadata.nbgrader = {"grade_id": name, "schema_version": 3, "task": False, **flags}
        return made

    secret = "\n### BEGIN HIDDEN TESTS\nassert f(2) == 4, 'double it'\n### END HIDDEN TESTS"
    solved = "def f(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
    words = cell("words", "### BEGIN SOLUTION\nBecause.\n### END SOLUTION", grade=True,
                 solution=True, points=2)  # fmt: skip
    words.cell_type = "markdown"
    del words["outputs"], words["execution_count"]
    check = cell("check", f"assert f(0) == 0{secret}", grade=True, locked=True, points=3)
    return new_notebook(cells=[cell("answer", solved, solution=True), check, words])


def handed_in(**sources):
    notebook = released(small())
    for cell in notebook.cells:
        cell.source = sources.get(cell.id, cell.source)
    return notebook


def test_grading_restores_hidden_tests_and_reads_no_words():
    right = grade(handed_in(answer="def f(x): return x + x", words="Porque sim."), small())
    assert [(r["points"], r["message"]) for r in right] == [(3, ""), (None, UNREAD)]
    wrong = grade(handed_in(answer="def f(x): return 0", check="assert True"), small())
    assert [(r["points"], r["message"]) for r in wrong] == [
        (0, "AssertionError: double it"),
        (0, "no answer"),
    ]
    assert "0 of 5\n  check: AssertionError: double it" in summary("x.ipynb", wrong)
    assert summary("x.ipynb", right) == "x.ipynb: 3 of 5, and 2 to be read"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit", "NameError"),
        ("def f(x): raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import sys\ndef f(x): print(1, file=sys.stderr); return 2 * x", "wrote to stderr"),
    ],
)
def test_grading_survives_what_students_write(code, message):
    assert message in grade(handed_in(answer=code), small())[0]["message"]


def test_deleted_check_is_no_way_out():
    submission = handed_in(answer="def f(x): return 0")
    submission.cells = [c for c in submission.cells if c.id != "check"]
    assert grade(submission, small())[0]["message"] == "the cell was deleted"


def test_helper_cells_of_a_student_count():
    submission = handed_in(answer="def f(x): return twice(x)")
    submission.cells.insert(0, new_code_cell("def twice(x): return 2 * x"))
    assert grade(submission, small())[0]["points"] == 3


@every
def test_submission_is_known_by_its_cells(name):
    assert assignment_of(released(SOURCES[name])).stem == name
    with pytest.raises(SystemExit, match="no assignment"):
        assignment_of(broken("x = 1"))


def test_grades_go_to_a_table(tmp_path, monkeypatch, capsys):
    """The command, with processes that answer, hang, and die."""

    def process(command, **_):
        code = {
            "good": 'print("[{\\"cell\\": \\"a\\", \\"points\\": 1, \\"of\\": 2, '
            '\\"message\\": \\"\\"}]")',
            "hangs": "while True: pass",
            "dies": "raise SystemExit('no memory')",
        }[command[2].split("/")[-1][:-6]]
        return real([sys.executable, "-c", code], capture_output=True, text=True, timeout=2)

    real = grade_assignments.subprocess.run
    monkeypatch.setattr(grade_assignments.subprocess, "run", process)
    files = [str(tmp_path / f"{n}.ipynb") for n in ("good", "hangs", "dies")]
    assert grade_assignments.main([*files, "--output", str(tmp_path / "grades.csv")]) == 0
    with open(tmp_path / "grades.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["points"] for r in rows] == ["1", "0", "0"]
    assert "stopped" in rows[1]["message"] and rows[2]["message"] == "no memory"
    assert "good.ipynb: 1 of 2" in capsys.readouterr().out
