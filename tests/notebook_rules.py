"""The house's rules for notebooks: each takes a notebook and yields what breaks the rule.

Every message names the notebook and the cell. What only a saved notebook can break (sound, paths,
sizes, warnings) is in ``refresh_notebooks.problems``.
"""

from __future__ import annotations

import ast
import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from refresh_notebooks import BADGE, NOTEBOOKS, navigation

MAX_LINES, MEDIAN_LINES, MAX_COLUMNS = 25, 8, 79
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]*)\)|<img\b([^>]*)>")
DRAWS = re.compile(r"\.plot_\w+\(")
LINK = re.compile(r"(?<!!)\[((?:!\[[^\]]*\]\([^)]*\)|[^\[\]])+)\]\(([^)\s]+)\)")
# A screen reader lists the links of a page by their texts alone.
VAGUE = {"", "here", "this", "link", "page", "click here", "read more", "more", "this page"}
HUE = 40  # steps of 255 between a pixel's channels, from which it is no grey


@dataclass(frozen=True)
class Page:
    """A notebook and its file name."""

    name: str
    cells: list[NotebookNode]
    folder: Path = NOTEBOOKS

    def say(self, cell: NotebookNode, what: str) -> str:
        return f"{self.name}, cell {cell.get('id')!r}: {what}"

    @property
    def code(self) -> list[NotebookNode]:
        return [c for c in self.cells if c.cell_type == "code"]

    @property
    def prose(self) -> list[NotebookNode]:
        return [c for c in self.cells if c.cell_type == "markdown"]

    def sections(self) -> list[tuple[str, list[NotebookNode]]]:
        """Headings of the second level with the cells below each."""
        found: list[tuple[str, list[NotebookNode]]] = []
        for cell in self.cells:
            titles = headings(cell, 2)
            if titles:
                found.append((titles[0], []))
            if found:
                found[-1][1].append(cell)
        return found


def page(path: Path, notebook: NotebookNode) -> Page:
    return Page(path.name, notebook.cells, path.parent)


def tree(cell: NotebookNode) -> ast.Module:
    """Syntax of a cell, with its ``!`` and ``%`` lines turned into calls."""
    return ast.parse(TransformerManager().transform_cell(cell.source))


def headings(cell: NotebookNode, level: int) -> list[str]:
    if cell.cell_type != "markdown":
        return []
    return re.findall(rf"^{'#' * level} (.+)$", without_code(cell), flags=re.M)


def without_code(cell: NotebookNode) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.S)


def first_cells(page: Page) -> Iterator[str]:
    """Title, objectives, set-up and constants open every notebook."""
    title, objectives, setup, constants = page.cells[:4]
    for part in ("**Goal.**", "**Time:**", "minutes", "**Hardware:**", "[![Open in Colab]("):
        if part not in title.source:
            yield page.say(title, f"the first cell lacks {part!r}")
    if not title.source.startswith("# "):
        yield page.say(title, "the first cell does not begin with the title (H1)")
    for part in ("After this notebook you can", "**Contents**"):
        if part not in objectives.source:
            yield page.say(objectives, f"the second cell lacks {part!r}")
    caught = [n for n in ast.walk(tree(setup)) if isinstance(n, ast.ExceptHandler)]
    if [getattr(n.type, "id", None) for n in caught] != ["ModuleNotFoundError"]:
        yield page.say(setup, "the set-up must catch ModuleNotFoundError, and nothing else")
    if "MODEL" not in assigned(constants):
        yield page.say(constants, "the fourth cell does not set MODEL")


def last_cell(page: Page) -> Iterator[str]:
    """The last cell holds the key points and what comes next."""
    last = page.cells[-1]
    if headings(last, 2) != ["Key points"] or "**What next.**" not in last.source:
        yield page.say(last, "the last cell is not '## Key points' with '**What next.**'")


def one_title(page: Page) -> Iterator[str]:
    """One H1 a notebook."""
    titled = [c for c in page.cells for _ in headings(c, 1)]
    yield from (page.say(c, "a second title (H1)") for c in titled[1:])


def heading_order(page: Page) -> Iterator[str]:
    """Headings go down one level at a time: they are the table of contents of a screen reader."""
    before = 0
    for cell in page.prose:
        for marks in re.findall(r"^(#+) \S", without_code(cell), flags=re.M):
            if len(marks) > before + 1:
                yield page.say(cell, f"a heading of level {len(marks)} below one of {before}")
            before = len(marks)


def contents(page: Page) -> Iterator[str]:
    """The list of contents names every numbered section, and its links lead there."""
    listed = re.findall(r"^\d+\. \[(.+)\]\(#(\d+)\.-(.+)\)$", page.cells[1].source, flags=re.M)
    named = [f"{number}. {text}" for text, number, _ in listed]
    if named != [title for title, _ in page.sections()[:-1]]:
        yield page.say(page.cells[1], "the contents differ from the headings")
    for text, _, anchor in listed:
        if anchor != text.replace(" ", "-"):
            yield page.say(page.cells[1], f"the link of {text!r} leads nowhere")


def short_cells(page: Page) -> Iterator[str]:
    """Code that fits a screen: at most 25 lines of 79 columns, half of the cells 8 or less."""
    for cell in page.code:
        lines = cell.source.splitlines()
        if len(lines) > MAX_LINES:
            yield page.say(cell, f"{len(lines)} lines, more than {MAX_LINES}")
        for line in lines:
            if len(line) > MAX_COLUMNS:
                yield page.say(cell, f"{len(line)} columns, more than {MAX_COLUMNS}: {line}")
    middle = median(len(c.source.splitlines()) for c in page.code)
    if middle > MEDIAN_LINES:
        yield f"{page.name}: half of the cells have {middle} lines or more; 8 is the limit"


def assigned(cell: NotebookNode) -> set[str]:
    """Names that a cell binds at its top level: assignments, functions, classes, imports."""
    found: set[str] = set()
    for node in tree(cell).body:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                found.add(inner.id)
            elif isinstance(inner, ast.FunctionDef | ast.ClassDef):
                found.add(inner.name)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                found |= {a.asname or a.name.split(".")[0] for a in inner.names}
    return found


def no_redefinition(page: Page) -> Iterator[str]:
    """Code goes one way: a notebook uses what ptlab exports and does not define it again."""
    import ptlab

    for cell in page.code:
        for name in sorted(assigned(cell) & set(ptlab.__all__)):
            yield page.say(cell, f"{name!r} is a name that ptlab exports")


def figures_explained(page: Page) -> Iterator[str]:
    """Under every figure stands a sentence that says what it shows.

    It is the alt text of the saved page, and the only one in JupyterLab, which shows none.
    """
    for cell, below in zip(page.cells, [*page.cells[1:], None], strict=True):
        if cell.cell_type == "code" and (DRAWS.search(cell.source) or pictures(cell)):
            said = below is not None and below.cell_type == "markdown"
            if not said or below.source.startswith("#") or "shows" not in first_sentence(below):
                yield page.say(cell, "no sentence under the figure says what it shows")


def first_sentence(cell: NotebookNode) -> str:
    paragraph = cell.source.strip().split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.!?:])\s", paragraph)[0]


def images_described(page: Page) -> Iterator[str]:
    """Every image of the prose has an alt text."""
    for cell in page.prose:
        for alt, address, tag in IMAGE.findall(cell.source):
            described = alt.strip() if address else re.search(r'alt="[^"]+"', tag)
            if not described:
                yield page.say(cell, f"an image without an alt text: {address or tag.strip()}")


def pictures(cell: NotebookNode) -> list[str]:
    """PNG files that a cell has drawn, in base64."""
    found = [output.get("data", {}).get("image/png") for output in cell.get("outputs", [])]
    return [png for png in found if png]


def pictures_in_grey(page: Page) -> Iterator[str]:
    """What a figure tells, it tells without colour: only the path through a heat map has one."""
    from PIL import Image

    for cell in page.code:
        if re.search(r"plot_(log_probs|alignment)\(", cell.source):
            continue
        for png in pictures(cell):
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))
            if (np.ptp(pixels.astype(int), axis=2) > HUE).any():
                yield page.say(cell, "a figure in colours: draw it with lines, markers and greys")


def links_speak(page: Page) -> Iterator[str]:
    """The text of a link says where it leads, also when it is read alone."""
    for cell in page.prose:
        for text, address in LINK.findall(without_code(cell)):
            said = re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"\1", text).strip(" *_.→←").lower()
            if said in VAGUE or said.startswith(("http:", "https:", "www.")):
                yield page.say(cell, f"the text {text!r} does not say where {address} leads")


def links_lead(page: Page) -> Iterator[str]:
    """Files that a page links are there."""
    for cell in page.prose:
        for _, address in LINK.findall(without_code(cell)):
            file = address.partition("#")[0]
            if file and "://" not in file and not (page.folder / file).exists():
                yield page.say(cell, f"there is no file {file}")


def linked(page: Page) -> Iterator[str]:
    """The first cell leads to the lessons before and after, to help and to the glossary."""
    title = page.cells[0]
    address = BADGE.search(title.source)
    if address and not title.source.endswith(navigation(page.name, address[1])):
        yield page.say(title, "run `python tests/refresh_notebooks.py --clean`: its links are old")


def badge(page: Page) -> Iterator[str]:
    """The Colab badge opens this very notebook, from the repository that the set-up fetches."""
    title, setup = page.cells[0], page.cells[2]
    link = BADGE.search(title.source)
    if not link or link[2] != f"notebooks/{page.name}":
        yield page.say(title, f"the badge does not open notebooks/{page.name}")
    elif f'"https://github.com/{link[1]}"' not in setup.source:
        yield page.say(setup, f"the set-up does not fetch {link[1]}, from which the badge opens")


def claims_asserted(page: Page) -> Iterator[str]:
    """Every section but the last ends in an assert that holds what it says."""
    for title, cells in page.sections()[:-1]:
        code = [c for c in cells if c.cell_type == "code"]
        if not code:
            yield f"{page.name}, section {title!r}: no code"
        elif not any(isinstance(n, ast.Assert) for n in ast.walk(tree(code[-1]))):
            yield page.say(code[-1], f"section {title!r} ends without an assert")


def sections_concluded(page: Page) -> Iterator[str]:
    """Prose leads to every cell that asserts: what was just seen is said in words."""
    for above, cell in zip(page.cells, page.cells[1:], strict=False):
        checks = cell.cell_type == "code" and cell.source.rstrip().split("\n")[-1].startswith(
            "assert"
        )
        if checks and above.cell_type != "markdown":
            yield page.say(cell, "an assert that no prose leads to")


def sound_as_it_is(page: Page) -> Iterator[str]:
    """Players do not even out the loudness, which the lesson is about."""
    for cell in page.code:
        for call in (n for n in ast.walk(tree(cell)) if isinstance(n, ast.Call)):
            plain = any(k.arg == "normalize" and k.value.value is False for k in call.keywords)
            called = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if called == "Audio" and not plain:
                yield page.say(cell, "Audio(...) without normalize=False")


def exercises_checked(page: Page) -> Iterator[str]:
    """An exercise has its text with a hint and a solution above it, and its check below."""
    for position, cell in enumerate(page.cells):
        if "exercise" not in cell.metadata.get("tags", []):
            continue
        above, below = page.cells[position - 1], page.cells[position + 1]
        if "<summary>Hint</summary>" not in above.source or not solution(above):
            yield page.say(cell, "no hint or no solution above the exercise")
        if "check" not in below.metadata.get("tags", []) or "assert" not in below.source:
            yield page.say(cell, "no check below the exercise")


def solution(cell: NotebookNode) -> str:
    """Code of the solution that is folded away in the text of an exercise."""
    found = re.search(r"<summary>Solution</summary>\s*```python\n(.*?)```", cell.source, flags=re.S)
    return found[1] if found else ""


RULES = (
    first_cells, last_cell, one_title, heading_order, contents, short_cells, no_redefinition,
    figures_explained, images_described, pictures_in_grey, links_speak, links_lead, linked, badge,
    claims_asserted, sections_concluded, sound_as_it_is, exercises_checked,
)  # fmt: skip
