"""The pages beside the lessons: messages that are really printed, terms that are really used."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell
from notebook_rules import Page, heading_order, images_described, links_lead, links_speak
from refresh_notebooks import NOTEBOOKS, notebooks, read

ROOT = NOTEBOOKS.parent
PAGES = [
    ROOT / "README.md",
    *sorted(NOTEBOOKS.glob("**/*.md")),
    *sorted(ROOT.glob("data/*.md")),
    *sorted(ROOT.glob("ptlab/assets/*/*.md")),
]
ASSIGNMENTS = sorted(NOTEBOOKS.glob("assignments/*/*.ipynb"))
QUOTED = re.compile(r"^> `(.+)` \((.+)\)$", flags=re.M)
TERM = re.compile(r"^\| (?!term|---)(.+?) \| (.+?) \| (.+?) \| \[.+?\]\((\S+)\) \|$", flags=re.M)
BOLD = re.compile(r"\*\*([^*]+)\*\*")
CALLED = re.compile(r"\b(?:is|are|called|means|its)(?: the| an?| to)? \*([^*]+)\*")
# Bold or slanted in the lessons without being a term of the trade.
EMPHASIS = {
    "accents", "cutting without context", "eight actors", "emotions: emouerj", "hyphen",
    "int4 and float16", "kept", "large", "learned", "missing", "muñoz", "naun", "new", "not",
    "not shown", "not worse", "nothing", "numbers", "one", "pão", "shift+enter", "shown",
    "speakers of mls", "text", "worse",
}  # fmt: skip


def parts(path: Path) -> Page:
    return Page(path.name, [new_markdown_cell(path.read_text("utf-8"), id="page")], path.parent)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
@pytest.mark.parametrize("rule", [heading_order, images_described, links_speak, links_lead])
def test_pages_keep_the_rules_of_the_lessons(path, rule):
    assert not list(rule(parts(path)))


@pytest.mark.parametrize("path", ASSIGNMENTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", [heading_order, images_described, links_speak, links_lead])
def test_assignments_keep_the_rules_of_the_lessons(path, rule):
    assert not list(rule(Page(path.name, read(path).cells, path.parent)))


def test_make_lab_shows_the_whole_folder():
    """Lessons link pages outside of theirs, which a JupyterLab that knows no more cannot open."""
    lines = (ROOT / "Makefile").read_text("utf-8").splitlines()
    lab = next(line for line in lines if "jupyter lab " in line)
    assert "--ServerApp.root_dir=." in lab and lab.endswith("notebooks/00_start_here.ipynb")


# -- troubleshooting


@functools.cache
def said() -> str:
    """Every text in ptlab's source, with … for what is put in; a text a line."""
    found = []
    for path in sorted((ROOT / "ptlab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                values = (getattr(v, "value", "") for v in node.values)
                found.append("".join(v if isinstance(v, str) else "…" for v in values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    for path in sorted((ROOT / "ptlab/assets").glob("*.js")):
        script = path.read_text("utf-8")
        found += [a or re.sub(r"\$\{.+?\}", "…", b) for a, b in re.findall(STRINGS, script)]
    return "\n".join(" ".join(text.split()) for text in found)


STRINGS = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`([^`]*)`')


def quoted(who: str) -> list[str]:
    page = (NOTEBOOKS / "troubleshooting.md").read_text("utf-8")
    return [message for message, by in QUOTED.findall(page) if by == who]


@pytest.mark.parametrize("message", quoted("ptlab"))
def test_quoted_messages_are_in_the_code(message):
    assert message.rstrip("….") in said()


def test_a_message_that_changed_is_found():
    assert "No file …; check the path and the current folder." in said()
    assert "No file …; check the path and the current directory." not in said()
    assert "The browser did not allow the microphone." in said()
    assert len(quoted("ptlab")) > 30


def test_what_the_set_up_prints_is_quoted_as_it_is():
    setup = next(c for c in read(notebooks()[0]).cells if c.id == "setup")
    for message in quoted("the set-up cell"):
        assert message in setup.source


def test_every_symptom_says_what_to_do():
    page = (NOTEBOOKS / "troubleshooting.md").read_text("utf-8")
    for symptom in page.split("\n### ")[1:]:
        assert "**Do.**" in symptom or "**Why.**" in symptom, symptom.splitlines()[0]


# -- glossary


def glossary() -> list[tuple[str, ...]]:
    return TERM.findall((NOTEBOOKS / "glossary.md").read_text("utf-8"))


def names(term: str) -> list[str]:
    """The ways in which a term is written: "word error rate, WER" is two."""
    return [name.strip().casefold() for name in term.split(",")]


def prose(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return " ".join(c.source for c in cells if c.cell_type == "markdown").casefold()


def test_the_glossary_is_whole_and_in_order():
    table = (NOTEBOOKS / "glossary.md").read_text("utf-8").count("\n| ") - 1  # its head
    terms = [term.casefold() for term, *_ in glossary()]
    assert len(terms) == table > 90
    assert terms == sorted(set(terms))


def test_each_term_has_one_sentence_and_a_portuguese_word():
    for term, portuguese, meaning, _ in glossary():
        assert portuguese, term
        assert re.fullmatch(r"[A-Z“][^|]*[^.!?]\.", meaning), meaning
        assert not re.search(r"[.!?] [A-Z]", meaning), f"{term}: more than one sentence"


def test_each_term_is_used_in_the_lesson_that_it_names():
    texts = {path.name: prose(path) for path in notebooks()}
    for term, _, _, lesson in glossary():
        stems = [re.escape(n.removesuffix("s").removesuffix("e")) for n in names(term)]
        assert any(re.search(rf"\b{s}", texts[lesson]) for s in stems), (term, lesson)


def test_what_the_lessons_define_is_in_the_glossary():
    known = {name for term, *_ in glossary() for name in names(term)}
    for path in notebooks():
        for cell in read(path).cells:
            if cell.cell_type != "markdown" or re.match("title|objectives|exercise", cell.id):
                continue
            phrases = BOLD.findall(cell.source) + CALLED.findall(cell.source)
            for phrase in phrases:
                word = phrase.casefold().strip()
                label = phrase.endswith((".", ":", "?")) or len(word) < 2 or phrase.count(" ") > 3
                plural = {word, word.removesuffix("s"), word.removesuffix("es")}
                assert label or plural & (known | EMPHASIS), (
                    f"{path.name}, cell {cell.id!r}: {phrase!r} is neither in glossary.md nor in "
                    "EMPHASIS, the list of what is no term"
                )
