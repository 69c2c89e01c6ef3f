"""The course in a running JupyterLab, as seen at a laptop; its pictures are in build/browser."""

import shutil
from pathlib import Path

import lab_server
import numpy as np
import pytest
import soundfile
from lab_server import ALLOWED, run_first_cell
from refresh_notebooks import NOTEBOOKS, notebooks

from ptlab.audio import SAMPLE_RATE
from ptlab.data import load_corpus
from ptlab.metrics import cer
from ptlab.transcribe import transcribe
from ptlab.widgets import MAX_RECORDING_S

pytestmark = pytest.mark.browser

ROOT = NOTEBOOKS.parent
PICTURES = ROOT / "build" / "browser"
SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false"}',
    "notebook-extension/tracker": '{"windowingMode": "none"}',  # so that a picture has all cells
}
RUN_S = 600  # all cells of notebook 00, on a busy machine
TALL = {"width": 1366, "height": 3000}  # so that few pictures show a whole notebook
OVERLAP = 100  # pixels that two of them share
VOICE = (
    "import ptlab\n"
    "from ptlab import widgets\n"
    'widgets.transcribe_widget(ptlab.Transcriber("mini", device="cpu"))'
)
MAP = (
    "import numpy as np, ptlab\n"
    'test = ptlab.load_corpus("test")\n'
    "points = np.array([[0.0, 0.0], [2.0, 1.0], [1.0, 2.0]])\n"
    "ptlab.sound_map(points, test.frame.accent[:3], test.audio, test.frame.text[:3])"
)
CELLS = "() => jupyterapp.shell.currentWidget?.content.model?.cells.length"
ERRORS = """() => [...jupyterapp.shell.currentWidget.content.model.cells].flatMap((cell) =>
  (cell.toJSON().outputs ?? []).filter((o) => o.output_type === "error").map((o) => o.evalue))"""
UNRUN = """() => [...jupyterapp.shell.currentWidget.content.model.cells].filter(
  (cell) => cell.type === "code" && !(cell.executionCount > 0)).length"""
LENGTH = "(audio) => audio.duration"
CONTROLS = "button, audio, input, meter, select, textarea, [tabindex='0'], [role='button']"
# Controls without a name, but for the players that IPython makes.
NAMELESS = f"""() => [...document.querySelectorAll(".jp-OutputArea :is({CONTROLS})")]
  .filter((e) => e.getClientRects().length && !e.closest(".jp-RenderedHTMLCommon"))
  .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.title))
  .map((e) => e.outerHTML.slice(0, 200))"""
# What a page may not have: pictures that do not load, formulas with errors, what is cut.
BROKEN = """() => {
  const all = (selector) => [...document.querySelectorAll(`.jp-Notebook ${selector}`)];
  const missing = all("img").filter((e) => !e.src.startsWith("https:") && !e.naturalWidth);
  const formulas = all("mjx-merror");
  const lines = all(".jp-CodeCell .cm-scroller").filter((e) => e.scrollWidth > e.clientWidth + 1);
  const figures = all(".jp-RenderedImage img")
    .filter((e) => e.clientWidth > e.closest(".jp-OutputArea-output").clientWidth + 1);
  return [...missing, ...formulas, ...lines, ...figures].map((e) => e.outerHTML.slice(0, 200));
}"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """``course(file)``: address in a copy of the course; what is saved there hurts nobody."""
    lab_server.chromium()
    root, home = tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("home")
    shutil.copytree(NOTEBOOKS, root / "notebooks")
    for folder in ("data", "ptlab"):
        (root / folder).symlink_to(ROOT / folder)
    lab_server.write_notebook(root / "notebooks" / "voice.ipynb", VOICE)
    lab_server.write_notebook(root / "notebooks" / "map.ipynb", MAP)
    for name, setting in SETTINGS.items():
        path = home / f".jupyter/lab/user-settings/@jupyterlab/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(setting)
    with lab_server.serve(root, home) as address:
        yield lambda file: address("127.0.0.1", f"notebooks/{file}")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A clip with silence around it, as a file and as the text that the model makes of it."""
    clip = load_corpus("test").audio(0).waveform
    quiet = np.zeros(SAMPLE_RATE // 2, np.float32)
    path = tmp_path_factory.mktemp("voice") / "voz.wav"
    soundfile.write(path, np.concatenate([quiet, clip, quiet]), SAMPLE_RATE, subtype="PCM_16")
    return path, transcribe(path, model="mini").text


def browse(course, file, picture, *flags, **options):
    return lab_server.browse(course(file), PICTURES / f"{picture}.png", *flags, **options)


def upload(page, path):
    """Through the dialogue that the button opens."""
    with page.expect_file_chooser() as chooser:
        page.locator("button.widget-upload").last.click()
    chooser.value.set_files(path)


def see(page, text):
    page.wait_for_function("(text) => document.body.innerText.includes(text)", arg=text)


def run_all(page):
    """*Run ▸ Run All Cells*, once the kernel is there, until every cell has run."""
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
    page.locator(".lm-MenuBar-item", has_text="Run").first.click()
    page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()
    page.wait_for_function(f"({UNRUN})() === 0", timeout=1000 * RUN_S)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")


def test_the_first_notebook_runs_and_reads_an_uploaded_file(course, spoken):
    path, text = spoken
    with browse(course, "00_start_here.ipynb", "00_run") as page:
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        page.evaluate("jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        assert page.evaluate(UNRUN) > 15
        run_all(page)
        assert page.evaluate(ERRORS) == []
        page.locator("button.widget-upload").last.scroll_into_view_if_needed()
        upload(page, path)
        see(page, text)
        assert page.evaluate(NAMELESS) == []
        player = page.locator(".jp-OutputArea audio").first
        assert player.evaluate("(a) => a.play().then(() => a.duration)") > 1
        assert page.complaints == []


def test_a_voice_is_recorded_and_read_by_keyboard_alone(course, spoken):
    path, text = spoken
    heard = f"--use-file-for-fake-audio-capture={path}"  # again and again
    with browse(course, "voice.ipynb", "voice", ALLOWED, heard) as page:
        run_first_cell(page)
        button = page.locator(".ptlab-recorder button")
        button.wait_for()
        button.focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "() => document.querySelector('.ptlab-recorder button').textContent.includes('Stop')"
        )
        seconds = soundfile.info(path).duration
        page.wait_for_timeout(1000 * (seconds + 1))
        page.screenshot(path=PICTURES / "voice_while_recording.png")
        page.keyboard.press("Space")
        see(page, "s recorded.")
        assert (
            0.5 * MAX_RECORDING_S > page.locator(".ptlab-recorder audio").evaluate(LENGTH) > seconds
        )
        words = page.locator(".jp-OutputArea p[lang=pt]")
        words.wait_for()
        assert min(cer(text, part) for part in _parts(words.inner_text(), len(text))) < 0.3
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "AUDIO"
        for _ in range(6):  # the player has a slider and buttons of its own
            page.keyboard.press("Tab")
            if "widget-upload" in page.evaluate("document.activeElement.className"):
                break
        else:
            pytest.fail("Tab does not reach the button that uploads")
        assert page.evaluate(NAMELESS) == []
        assert page.complaints == []


def _parts(text, size):
    """The microphone plays the file in a loop: every stretch of its length, from word to word."""
    starts = [0, *(i + 1 for i, letter in enumerate(text) if letter == " ")]
    return [text[i : i + size] for i in starts]


def test_the_map_is_walked_over_with_the_arrow_keys(course):
    with browse(course, "map.ipynb", "map", "--autoplay-policy=no-user-gesture-required") as page:
        run_first_cell(page)
        page.locator(".ptlab-map svg[role=group]").wait_for()
        stops = page.locator(".ptlab-map [tabindex='0']")
        assert stops.count() == 1
        stops.focus()
        names = [page.evaluate("document.activeElement.getAttribute('aria-label')")]
        cell = page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex")
        for _ in range(2):
            page.keyboard.press("ArrowRight")
            names.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        order = load_corpus("test").frame.text[:3].iloc[[0, 2, 1]]  # from left to right
        assert [name.partition(": ")[2] for name in names] == list(order)
        assert page.evaluate("jupyterapp.shell.currentWidget.content.activeCellIndex") == cell
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('.ptlab-map audio').duration > 1")
        see(page, order.iloc[-1])
        assert page.locator(".ptlab-map path.chosen").count() == 1
        assert page.evaluate(NAMELESS) == []
        assert page.complaints == []


def test_links_open_the_pages_as_pages(course):
    with browse(course, "00_start_here.ipynb", "glossary") as page:
        page.get_by_role("link", name="model card of mini").click()
        page.locator(".jp-MarkdownViewer h1").first.wait_for()
        page.evaluate("jupyterapp.commands.execute('application:close')")
        page.get_by_role("link", name="when something fails").click()
        page.locator(".jp-MarkdownViewer h1", has_text="When something fails").wait_for()
        page.screenshot(path=PICTURES / "troubleshooting.png")
        page.get_by_role("link", name="glossary in English and Portuguese").last.click()
        page.locator(".jp-MarkdownViewer h1", has_text="Glossary").wait_for()
        assert page.complaints == []


@pytest.mark.parametrize("name", [path.name for path in notebooks()])
def test_pages_look_well_at_the_width_of_a_laptop(course, name):
    stem = Path(name).stem
    with browse(course, name, f"{stem}_end", size=TALL) as page:
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(f"({CELLS})() > 5")
        pane = page.locator(".jp-WindowedPanel-outer").last
        for number in range(40):
            page.wait_for_timeout(1_000)
            page.screenshot(path=PICTURES / f"{stem}_{number:02d}.png")
            assert page.evaluate(BROKEN) == []
            at_end = "(e) => e.scrollTop + e.clientHeight >= e.scrollHeight - 2"
            if pane.evaluate(at_end):
                break
            pane.evaluate(f"(e) => e.scrollBy(0, e.clientHeight - {OVERLAP})")
        assert pane.evaluate(at_end)
        assert page.complaints == []
