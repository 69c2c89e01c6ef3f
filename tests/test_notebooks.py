"""The notebooks keep the house's rules, are saved clean, and run on a clean kernel."""

from __future__ import annotations

import base64
import copy
import io
import re

import nbformat
import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_rules import (
    MEDIAN_LINES,
    RULES,
    Page,
    badge,
    claims_asserted,
    contents,
    exercises_checked,
    figures_explained,
    first_cells,
    heading_order,
    images_described,
    last_cell,
    linked,
    links_lead,
    links_speak,
    no_redefinition,
    one_title,
    page,
    pictures_in_grey,
    sections_concluded,
    short_cells,
    solution,
    sound_as_it_is,
)
from refresh_notebooks import (
    MAX_NOTEBOOK,
    MAX_OUTPUT,
    WIDGET,
    clean,
    client,
    environment,
    link,
    navigation,
    notebooks,
    problems,
    read,
)

every_notebook = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)

# Exercise by number -> an answer that its check must refuse.
WRONG = {
    "01_transcription": {
        1: "my_frames = 500",
        2: "def my_collapse(path, blank=0): return [s for s in path if s != blank]",
        3: "my_probability = 0.4 * 0.6",
        4: 'my_text = "a d ana pagou r 25 50 por 2 guarda chuvas"',
        5: "my_start_s = 0.0",
        6: "my_threshold = 0.0",
    },
    "04_embedding_probes": {
        1: "my_gb = 25 * 20 * 60 * 50 * 768 * 4 / 1e9",
        2: 'my_groups = {"emotion": "text", "voice": "day", "word": "voice"}',
        3: 'my_leak, my_score = "words", 0.5',
        4: "my_eer = 0.5",
        5: "my_features = np.zeros((len(languages), 2))",
    },
    "02_batch_processing": {
        1: "my_padding_s = 12 - 2",
        2: "def my_batches(lengths_s, limit_s): return [[i] for i in range(len(lengths_s))]",
        3: 'my_statuses = {"a": "empty", "b": "ok", "c": "silent", "d": "failed"}',
        4: "my_heard = 1480",
        5: "my_nights = 3000 * 20 / 60 / speed / 8",
        6: "my_order = np.argsort(frame.doubt_per_s)",
    },
    "03_fine_tuning": {
        1: "my_frames = 6",
        2: "def my_labels(labels): return [(row + [0] * 6)[:6] for row in labels]",
        3: "my_updates = 5 * 1000 / 4",
        4: "def my_shared(frame): return set(frame.speaker[frame.speaker.duplicated()])",
        5: 'my_gains = {"A", "B"}',
        6: "my_result = rehearsed",
    },
    "05_streaming": {
        1: "my_samples = 200 * 320",
        2: "my_earliest_s, my_latest_s = 0.4, 0.8",
        3: "def my_agreed(readings): return readings[-1].split()",
        4: "def my_caption(partial): return partial.text",
        5: "my_policy = ptlab.BufferedCTC(chunk_s=0.5, left_s=3.0, right_s=0.5)",
    },
    "06_quantization": {
        1: "my_mb = 302.6 * 1 + 12.6 * 4",
        2: "def my_rounded(weights): return rounded(weights, 4)",
        3: 'my_verdicts = {"a": "not worse", "b": "not worse", "c": "worse", "d": "not worse"}',
        4: "my_clips = 40 * 1.6 / 0.4",
        5: 'my_files = {"archive": "int8 dynamic", "app": "float16", "laptop": "float16"}',
    },
}


@every_notebook
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_is_kept(path, rule):
    broken = list(rule(page(path, read(path))))
    assert not broken, f"{rule.__doc__}\n" + "\n".join(broken)


@every_notebook
def test_saved_clean(path):
    found = list(problems(path))
    assert not found, "run `make notebooks`:\n" + "\n".join(found)


def good() -> Page:
    """The smallest notebook that keeps every rule."""
    title = (
        "# A lesson\n\n**Goal.** One. Two.\n\n[![Open in Colab](https://colab/badge.svg)]"
        "(https://colab.research.google.com/github/who/what/blob/main/notebooks/00_a.ipynb)\n\n"
        f"**Time:** 5 minutes. **Hardware:** any.{navigation('00_a.ipynb', 'who/what')}"
    )
    setup = (
        "try:\n    import ptlab\nexcept ModuleNotFoundError:\n"
        '    REPOSITORY = "https://github.com/who/what"\n    !git clone {REPOSITORY}'
    )
    task = (
        "<details><summary>Hint</summary>x</details>\n"
        "<details><summary>Solution</summary>\n\n```python\nx = 1\n# no title\n```\n</details>"
    )
    sections = "After this notebook you can\n\n**Contents**\n\n1. [Look](#1.-Look)"
    cells = [
        new_markdown_cell(title, id="title"),
        new_markdown_cell(sections, id="objectives"),
        new_code_cell(setup, id="setup"),
        new_code_cell('MODEL = "mini"', id="constants"),
        new_markdown_cell("## 1. Look\n\nListen.", id="look"),
        new_code_cell("Audio(x, normalize=False)\nptlab.plot_waveform(x);", id="draw"),
        new_markdown_cell(f"The figure shows x.\n\n{task}", id="seen"),
        new_code_cell("x = ...", id="exercise", metadata={"tags": ["exercise"]}),
        new_code_cell("if x:\n    assert x == 1", id="check", metadata={"tags": ["check"]}),
        new_markdown_cell("## Key points\n\n**What next.** Nothing.", id="end"),
    ]
    return Page("00_a.ipynb", cells)


def test_good_notebook_keeps_every_rule():
    assert [broken for rule in RULES for broken in rule(good())] == []


BREAKS = [
    (first_cells, "title", "**Goal.**", "Goal"),
    (first_cells, "title", "minutes", "min"),
    (first_cells, "objectives", "**Contents**", "Contents"),
    (first_cells, "setup", "ModuleNotFoundError", "Exception"),
    (first_cells, "setup", " ModuleNotFoundError", ""),
    (first_cells, "constants", "MODEL", "model"),
    (last_cell, "end", "Key points", "The end"),
    (last_cell, "end", "What next", "Next"),
    (one_title, "look", "## 1. Look", "# 1. Look"),
    (heading_order, "title", "# A lesson", "## A lesson"),
    (heading_order, "end", "## Key points", "#### Key points"),
    (contents, "look", "1. Look", "1. See"),
    (contents, "objectives", "(#1.-Look)", "(#1.-look)"),
    (short_cells, "draw", "Audio", "\n" * 25 + "Audio"),
    (short_cells, "draw", "Audio", "x" * 80 + "\nAudio"),
    (no_redefinition, "constants", "MODEL", "MODEL = collapse"),
    (no_redefinition, "draw", "Audio(x", "def collapse(): ...\nAudio(x"),
    (no_redefinition, "draw", "Audio(x", "from IPython.display import Audio\nAudio(x"),
    (figures_explained, "seen", "The figure shows x.", "Next."),
    (images_described, "title", "[![Open in Colab]", "[![]"),
    (images_described, "seen", "x.", 'x. <img src="x.png">'),
    (links_speak, "title", "[Open in Colab]", "[here]"),
    (links_speak, "end", "Nothing", "Read [this page](https://ptlab.org)"),
    (links_speak, "end", "Nothing", "See [https://ptlab.org](https://ptlab.org)"),
    (links_lead, "end", "Nothing", "[01 Nowhere](01_nowhere.ipynb#a)"),
    (linked, "title", "(glossary.md)", "(words.md)"),
    (linked, "title", "[00 Start here →]", "[00 Start →]"),
    (linked, "title", "github.com/who/what/tree", "github.com/who/else/tree"),
    (badge, "title", "00_a.ipynb", "01_b.ipynb"),
    (badge, "setup", "who/what", "who/else"),
    (claims_asserted, "check", "assert x == 1", "pass"),
    (sections_concluded, "exercise", "x = ...", "x = 1\nassert x"),
    (sound_as_it_is, "draw", "normalize=False", "normalize=True"),
    (sound_as_it_is, "draw", ", normalize=False", ""),
    (exercises_checked, "seen", "Hint", "Tip"),
    (exercises_checked, "seen", "```python", "```"),
    (exercises_checked, "check", "assert", "print"),
]


@pytest.mark.parametrize(("rule", "cell", "old", "new"), BREAKS)
def test_rule_refuses(rule, cell, old, new):
    broken = good()
    target = next(c for c in broken.cells if c.id == cell)
    assert old in target.source
    target.source = target.source.replace(old, new)
    if cell == "exercise":
        broken.cells.insert(broken.cells.index(target), new_code_cell("1"))
    assert list(rule(broken))


def test_lessons_are_linked_in_their_order():
    names = [path.name for path in notebooks()]
    for place, name in enumerate(names):
        linked_to = re.findall(r"\((\d\d_\w+\.ipynb)\)", navigation(name, "who/what"))
        assert linked_to == names[max(place - 1, 0) : place] + names[place + 1 : place + 2]


def test_links_are_written_anew():
    lesson, path = good(), notebooks()[1]
    new = new_notebook(cells=lesson.cells)
    link(path, new)
    once = new.cells[0].source
    link(path, new)
    assert new.cells[0].source == once
    assert once.endswith(navigation(path.name, "who/what")) and once.count("**Lessons:**") == 1


@pytest.mark.parametrize(("hue", "refused"), [("C0", True), ("0.4", False)])
def test_a_figure_in_colours_is_refused(hue, refused):
    from matplotlib.figure import Figure

    figure, file = Figure((2, 2)), io.BytesIO()
    figure.add_subplot().plot([0, 1], color=hue)
    figure.savefig(file)
    png = base64.b64encode(file.getvalue()).decode()
    cell = new_code_cell("1", outputs=[new_output("display_data", {"image/png": png})])
    assert bool(list(pictures_in_grey(Page("99.ipynb", [cell])))) is refused
    assert list(figures_explained(Page("99.ipynb", [cell])))  # and nothing is said under it


def test_median_length_is_limited():
    broken = good()
    for cell in broken.code[2:]:
        cell.source += "\n" * (MEDIAN_LINES + 1) + "1"
    assert any("half of the cells" in text for text in short_cells(broken))


def saved(tmp_path, cell, **metadata):
    """A file with one code cell, as an editor would leave it."""
    notebook = new_notebook(cells=[cell], metadata=metadata)
    path = tmp_path / "99_saved.ipynb"
    nbformat.write(notebook, path)
    return path


def picture(mode="RGBA", side=64):
    """A PNG of many colours, as a notebook stores it."""
    from PIL import Image

    shades = np.random.default_rng(0).integers(0, 255, (side, side, 4)).astype(np.uint8)
    shades[..., 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(shades).convert(mode).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def dirty_cells():
    """(part of the complaint, code cell that is run and must be refused)."""
    audio = '<audio controls><source src="data:audio/wav;base64,UklGRg=="></audio>'
    html, widget, png = {"text/html": audio}, {WIDGET: {"model_id": "1"}}, {"image/png": picture()}
    address, home = "<ptlab.X at 0x7f1234567890>", "/home/maria/clip.wav"
    return {
        "sound": new_output("display_data", html),
        "widget": new_output("display_data", widget),
        "alt text": new_output("display_data", png),
        f"more than {MAX_OUTPUT:,}": new_output("display_data", {"text/html": "x" * 100_001}),
        "address of one machine": new_output("execute_result", {"text/plain": address}),
        "a path": new_output("stream", name="stdout", text=f"read {home}"),
        "a warning": new_output("stream", name="stderr", text="UserWarning: beware"),
        "ended in ValueError": new_output("error", ename="ValueError", evalue="x", traceback=[]),
    }


@pytest.mark.parametrize("complaint", dirty_cells())
def test_dirty_output_is_refused(tmp_path, complaint):
    cell = new_code_cell("1", execution_count=1, outputs=[dirty_cells()[complaint]], id="look")
    found = list(problems(saved(tmp_path, cell)))
    assert any(complaint in text and "99_saved.ipynb, cell 'look'" in text for text in found)


def test_web_address_is_not_a_path(tmp_path):
    output = new_output("stream", name="stdout", text="see https://x.org/home/you/ and a/tmp/b")
    cell = new_code_cell("1", execution_count=1, outputs=[output])
    assert list(problems(saved(tmp_path, cell))) == []


def test_unrun_cell_widget_state_and_size_are_refused(tmp_path):
    unrun = "\n".join(problems(saved(tmp_path, new_code_cell("1"))))
    assert "not run, or not in one clean run" in unrun
    run = new_code_cell("1", execution_count=1)
    state = "\n".join(problems(saved(tmp_path, run, widgets={"state": {}})))
    assert "state of widgets" in state
    long = new_code_cell("#" * (MAX_NOTEBOOK + 1), execution_count=1)
    assert "bytes, more than" in "\n".join(problems(saved(tmp_path, long)))


def test_cleaning_mends_what_an_editor_leaves(tmp_path):
    outputs = [dirty_cells()[c] for c in ("sound", "widget", "alt text")]
    cell = new_code_cell("plot(x)  ", execution_count=41, outputs=outputs, id="draw")
    cell.metadata = {"execution": {"iopub.execute_input": "2026-01-01"}, "tags": ["check"]}
    prose = new_markdown_cell("The figure *shows* `x` ([source](a.b)). More.", id="draw-seen")
    notebook = new_notebook(cells=[cell, prose], metadata={"widgets": {"state": {}}})
    again = copy.deepcopy(clean(notebook))
    path = tmp_path / "99_saved.ipynb"
    nbformat.write(notebook, path)
    assert list(problems(path)) == []
    figure = notebook.cells[0].outputs[0]
    assert len(figure.data["image/png"]) < len(picture())
    assert figure.metadata["image/png"]["alt"] == "The figure shows x (source)."
    assert (cell.id, cell.source, cell.metadata) == ("draw", "plot(x)", {"tags": ["check"]})
    assert clean(notebook) == again


def test_figures_get_fewer_colours_only_if_large():
    from PIL import Image

    def colours(side):
        output = new_output("display_data", {"image/png": picture(side=side)})
        notebook = clean(new_notebook(cells=[new_code_cell("1", outputs=[output])]))
        saved = base64.b64decode(notebook.cells[0].outputs[0].data["image/png"])
        return len(Image.open(io.BytesIO(saved)).getcolors())

    assert colours(32) > 128
    assert colours(400) <= 32


def test_cleaning_makes_ids_unique_and_keeps_the_first():
    notebook = new_notebook()  # given its cells here, it would change their ids
    notebook.cells = [new_code_cell("1", id=i) for i in ("a", "a", "b")]
    assert [c.id for c in clean(notebook).cells] == ["a", "a-2", "b"]


def test_environment_is_offline_with_the_model_that_ships(monkeypatch):
    monkeypatch.setenv("PTLAB_MODEL", "xlsr-53-pt")
    assert "PTLAB_MODEL" not in environment() and environment()["HF_HUB_OFFLINE"] == "1"
    assert environment("other")["PTLAB_MODEL"] == "other"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert environment()["OMP_NUM_THREADS"] == "1"


@pytest.mark.notebook
@every_notebook
def test_notebook_runs(path):
    """Every cell on a clean kernel; then each exercise solved, and answered wrongly."""
    notebook = read(path)
    runner = client(notebook)
    with runner.setup_kernel(env=environment()):
        for position, cell in enumerate(notebook.cells):
            runner.execute_cell(cell, position)
        try_exercises(runner, notebook, path.stem)


def try_exercises(runner, notebook, stem):
    cells, number = notebook.cells, 0
    for position, cell in enumerate(cells):
        if "exercise" not in cell.metadata.get("tags", []):
            continue
        number += 1
        check = position + 1
        assert "not yet" in printed(cells[check]), f"{stem}, exercise {number}: prefilled"
        cell.source = solution(cells[position - 1])
        runner.execute_cell(cell, position)
        runner.execute_cell(cells[check], check)
        assert "right" in printed(cells[check]), f"{stem}, exercise {number}: solution refused"
        cell.source = WRONG[stem][number]
        runner.execute_cell(cell, position)
        with pytest.raises(CellExecutionError, match="AssertionError"):
            runner.execute_cell(cells[check], check)
    assert number == len(WRONG.get(stem, {}))


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs)
