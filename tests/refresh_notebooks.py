"""Run, clean and save every notebook: what ``make notebooks`` does.

    python tests/refresh_notebooks.py [NAME ...]   run on a clean kernel, clean, save
    ... --clean                                    clean what is saved, without running it
    ... --check                                    say what would be refused; change nothing
    ... --model NAME                               run with another model (saved pages use mini)

Kept are text, tables and figures, each figure with the first sentence under it as its alt text.
The links at the end of the first cell, to the other lessons and to help, are written anew.
Taken out are sound, widgets, times of execution and whatever else an editor leaves behind.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
MAX_OUTPUT = 100_000  # bytes of one figure or table
MAX_NOTEBOOK = 600 * 1024  # bytes of one file
LARGE_FIGURE, COLOURS = 32_000, (256, 128, 64, 32)  # bytes from which fewer colours are tried
TIMEOUT_S = 1200  # of one cell; 460 were seen, in lesson 03 without bfloat16
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# Roots of a home, temporary or mounted folder, or of a Windows drive, not inside a web address.
PATHS = re.compile(
    r"(?<![\w./:-])(?:/(?:home|root|Users|tmp|work|mnt|opt|usr|var|content)/|[A-Z]:\\)"
)
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
BADGE = re.compile(r"colab\.research\.google\.com/github/([^/]+/[^/]+)/blob/main/(\S+)\)")
LESSONS = "\n\n**Lessons:** "
SPELLED = {"03 Fine tuning": "03 Fine-tuning"}


def notebooks(names: list[str] | None = None) -> list[Path]:
    """Notebooks of the course in their order; of the given names only, if there are any."""
    found = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    if not names:
        return found
    chosen = [p for p in found if any(n in (p.name, p.stem, p.name[:2]) for n in map(_base, names))]
    if not chosen:
        raise SystemExit(f"No notebook {', '.join(names)}; there are {[p.stem for p in found]}.")
    return chosen


def _base(name: str) -> str:
    return Path(name).name


def lesson(name: str) -> str:
    """What a lesson is called in a link: 02_batch_processing.ipynb is 02 Batch processing."""
    number, _, words = Path(name).stem.partition("_")
    title = f"{number} {words.replace('_', ' ').capitalize()}"
    return SPELLED.get(title, title)


def navigation(name: str, repository: str) -> str:
    """Links of a notebook to the one before and the one after, to help and to the glossary."""
    names = [path.name for path in notebooks()]
    before, after = [n for n in names if n < name], [n for n in names if n > name]
    links = [f"[← {lesson(n)}]({n})" for n in before[-1:]]
    links += [f"[{lesson(n)} →]({n})" for n in after[:1]]
    return (
        f"{LESSONS}{', '.join(links)}. **Help:** [when something fails](troubleshooting.md), "
        "[glossary in English and Portuguese](glossary.md). In Colab, which does not follow these "
        f"links, use [the course on GitHub](https://github.com/{repository}/tree/main/notebooks)."
    )


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def client(notebook: NotebookNode, folder: Path = NOTEBOOKS) -> NotebookClient:
    """What runs a notebook in its folder on a kernel of this interpreter."""
    return NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )


def environment(model: str | None = None) -> dict[str, str]:
    """Environment of the kernel: no network, the model that ships, not more threads than cores."""
    variables = {k: v for k, v in os.environ.items() if k != "PTLAB_MODEL"}
    variables.setdefault("OMP_NUM_THREADS", str(min(4, os.cpu_count() or 1)))
    variables["HF_HUB_OFFLINE"] = "1"
    return variables | ({"PTLAB_MODEL": model} if model else {})


def run(notebook: NotebookNode, model: str | None = None) -> NotebookNode:
    """Run all cells on a clean kernel; the outputs are put into the notebook."""
    return client(notebook).execute(env=environment(model))


def clean(notebook: NotebookNode) -> NotebookNode:
    """Leave what a reader of the page needs, in a form that stays the same from run to run."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    taken: set[str] = set()
    number = 0
    for position, cell in enumerate(notebook.cells):
        cell.id = _unique(cell.get("id") or f"cell-{position}", taken)
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k == "tags"})
        cell.source = "\n".join(line.rstrip() for line in cell.source.splitlines())
        if cell.cell_type == "code":
            number += 1
            _clean_outputs(cell, number, _caption(notebook, position))
        else:
            cell.pop("attachments", None)
    return notebook


def _unique(name: str, taken: set[str]) -> str:
    """The name, or the name with a number where it is taken: ids stay as they are once given."""
    candidate, count = name, 2
    while candidate in taken:
        candidate, count = f"{name}-{count}", count + 1
    taken.add(candidate)
    return candidate


def _clean_outputs(cell: NotebookNode, number: int, caption: str) -> None:
    cell.execution_count = number
    cell.outputs = [o for o in cell.outputs if not is_sound(o) and not is_widget(o)]
    for output in cell.outputs:
        if "execution_count" in output:
            output.execution_count = number
        if "data" in output:
            output.metadata = NotebookNode()
        if "image/png" in output.get("data", {}):
            output.data.pop("text/plain", None)
            output.data["image/png"] = _small(output.data["image/png"])
            output.metadata = NotebookNode({"image/png": {"alt": caption}})


def _small(png: str) -> str:
    """The same picture with a palette: of 256 colours, or fewer where it stays large."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":  # it has been here before
        return png
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture.convert("RGBA"))
    for colours in COLOURS:
        buffer = io.BytesIO()
        paper.convert("RGB").quantize(colours).save(buffer, "PNG", optimize=True)
        png = base64.b64encode(buffer.getvalue()).decode()
        if len(png) <= LARGE_FIGURE:
            break
    return png


def _caption(notebook: NotebookNode, position: int) -> str:
    """First sentence of the prose under a cell, without Markdown's marks."""
    following = notebook.cells[position + 1 : position + 2]
    if not following or following[0].cell_type != "markdown":
        return ""
    paragraph = following[0].source.strip().split("\n\n")[0].replace("\n", " ")
    sentence = re.split(r"(?<=[.!?])\s", paragraph)[0]
    return re.sub(r"[*`$]|\[|\]\([^)]*\)", "", sentence)


def is_sound(output: NotebookNode) -> bool:
    data = output.get("data", {})
    page = "".join(data.get("text/html", ""))
    return "<audio" in page or "data:audio" in page or any(k.startswith("audio/") for k in data)


def is_widget(output: NotebookNode) -> bool:
    return WIDGET in output.get("data", {})


def problems(path: Path) -> Iterator[str]:
    """Why a saved notebook would be refused; each names the notebook and the cell."""
    notebook = read(path)
    raw = json.loads(path.read_text("utf-8"))
    if path.stat().st_size > MAX_NOTEBOOK:
        yield f"{path.name}: {path.stat().st_size:,} bytes, more than {MAX_NOTEBOOK:,}"
    if "widgets" in notebook.metadata:
        yield f"{path.name}: the state of widgets is saved in its metadata"
    if (raw["nbformat"], raw["nbformat_minor"]) != (4, 5):
        yield f"{path.name}: format {raw['nbformat']}.{raw['nbformat_minor']}, not 4.5"
    ids = [cell.get("id") for cell in raw["cells"]]
    yield from (
        f"{path.name}: id {i!r} occurs twice" for i in sorted({i for i in ids if ids.count(i) > 1})
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    unordered = [cell for n, cell in enumerate(code, 1) if cell.execution_count != n]
    if unordered:
        yield f"{path.name}, cell {unordered[0].id!r}: not run, or not in one clean run"
    for cell in notebook.cells:
        yield from (f"{path.name}, cell {cell.id!r}: {p}" for p in _cell_problems(cell))


def _cell_problems(cell: NotebookNode) -> Iterator[str]:
    if "execution" in cell.metadata:
        yield "times of execution are saved"
    for output in cell.get("outputs", []):
        yield from _output_problems(output)


def _output_problems(output: NotebookNode) -> Iterator[str]:
    if output.output_type == "error":
        yield f"ended in {output.ename}: {output.evalue}"
    if output.get("name") == "stderr":
        yield f"a warning is saved: {output.text.strip().splitlines()[-1][:200]}"
    if is_sound(output):
        yield "sound is saved in the output"
    if is_widget(output):
        yield "a widget is saved in the output"
    for kind, data in {**output.get("data", {}), "stream": output.get("text", "")}.items():
        written = data if isinstance(data, str) else json.dumps(data)
        if len(written) > MAX_OUTPUT:
            yield f"{len(written):,} bytes of {kind}, more than {MAX_OUTPUT:,}"
        if kind != "image/png" and (PATHS.search(written) or ADDRESS.search(written)):
            found = PATHS.search(written) or ADDRESS.search(written)
            yield f"a path or an address of one machine is saved: {written[found.start() :][:60]!r}"
    if "image/png" in output.get("data", {}) and not _alt(output):
        yield "a figure without an alt text: write a sentence under it that says what it shows"


def _alt(output: NotebookNode) -> str:
    return output.metadata.get("image/png", {}).get("alt", "")


def link(path: Path, notebook: NotebookNode) -> None:
    """Write the links of the first cell anew, with the address that its badge has."""
    title = notebook.cells[0]
    if found := BADGE.search(title.source):
        title.source = title.source.partition(LESSONS)[0] + navigation(path.name, found[1])


def refresh(path: Path, *, execute: bool, model: str | None) -> None:
    start = time.perf_counter()
    notebook = read(path)
    link(path, notebook)
    if execute:
        run(notebook, model)
    nbformat.write(clean(notebook), path)
    print(f"{path.name}: saved, {time.perf_counter() - start:.0f} s")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", help="01, 01_transcription or a path; default: all")
    parser.add_argument("--check", action="store_true", help="say what would be refused")
    parser.add_argument("--clean", action="store_true", help="clean without running")
    parser.add_argument("--model", help="run with this model instead of mini")
    options = parser.parse_args(arguments)
    chosen = notebooks(options.names)
    if not options.check:
        for path in chosen:
            refresh(path, execute=not options.clean, model=options.model)
    found = [problem for path in chosen for problem in problems(path)]
    print("\n".join(found) or f"{len(chosen)} notebooks: nothing to refuse")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
