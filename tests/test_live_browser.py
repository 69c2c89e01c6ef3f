"""The live microphone in a running JupyterLab and a headless Chromium that hears a WAV file."""

from contextlib import contextmanager

import lab_server
import numpy as np
import pytest
import soundfile
from lab_server import ALLOWED, HOST, run_first_cell

from ptlab.audio import SAMPLE_RATE
from ptlab.data import load_corpus
from ptlab.metrics import cer
from ptlab.text import normalize_text
from ptlab.transcribe import transcribe

pytestmark = pytest.mark.browser

CELL = 'import ptlab\nmicrophone = ptlab.live_captions("mini", device="cpu")\nmicrophone'


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """``lab(host)``: address of a notebook of one cell."""
    lab_server.chromium()
    folder, home = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")
    lab_server.write_notebook(folder / "live.ipynb", CELL)
    with lab_server.serve(folder, home) as address:
        yield lambda host: address(host, "live.ipynb")


@contextmanager
def notebook(address, picture, *flags):
    """The page after its cell has run."""
    with lab_server.browse(address, picture, *flags) as page:
        run_first_cell(page)
        page.wait_for_selector(".ptlab-live button")
        yield page


def recording():
    """Two utterances of two clips each, with silence around: the browser misses the beginning."""
    corpus = load_corpus("test")
    parts = [np.zeros(SAMPLE_RATE)]
    for i, pause_s in enumerate((0.4, 2.0, 0.4, 0.5)):
        parts += [corpus.audio(i).waveform, np.zeros(int(pause_s * SAMPLE_RATE))]
    return np.concatenate(parts)


STYLES = """() => ["committed", "tentative"].map((name) => {
  const style = getComputedStyle(document.querySelector(`.ptlab-live-text .ptlab-${name}`));
  return [style.fontStyle, style.textDecorationLine, style.textDecorationStyle, style.color];
})"""


def test_captions_on_the_page_are_the_offline_text(lab, tmp_path):
    """The bar of the plan: their character error rate is within 2 points of the offline text's."""
    path, waveform = tmp_path / "microphone.wav", recording()
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="PCM_16")
    offline = transcribe(path, model="mini").text
    file = f"--use-file-for-fake-audio-capture={path}%noloop"
    with notebook(lab("127.0.0.1"), tmp_path / "page.png", ALLOWED, file) as page:
        widget, button = page.locator(".ptlab-live"), page.locator(".ptlab-live button")
        button.click()
        tentative = ".ptlab-live-text .ptlab-tentative"
        page.wait_for_function(f"document.querySelector('{tentative}').textContent.length > 5")
        page.screenshot(path=tmp_path / "while_it_is_spoken.png")
        stays, may_change = page.evaluate(STYLES)
        assert widget.locator("meter").evaluate("(meter) => meter.value") > -60
        seconds = len(waveform) / SAMPLE_RATE + 1
        heard = "parseInt(document.querySelector('.ptlab-live-bar').textContent.match(/\\d+/))"
        page.wait_for_function(f"{heard} >= {seconds}")
        button.click()
        page.wait_for_function(
            "document.querySelector('.ptlab-live [role=status]').textContent.startsWith('Done')"
        )
        lines = widget.locator("[role=log] p").all_inner_texts()
        assert button.inner_text() == "● Start"
    assert stays[:2] == ["normal", "none"]
    assert may_change[:3] == ["italic", "underline", "dotted"]
    assert stays[3] == may_change[3]  # the difference needs no colour
    assert len(lines) >= 2  # a speaker's own pause may end an utterance as well
    said = " ".join(normalize_text(text) for text in load_corpus("test").frame.text[:4])
    assert cer(said, " ".join(lines)) <= cer(said, offline) + 0.02, (offline, lines)


@pytest.mark.parametrize(
    ("host", "flag", "reason"),
    [
        ("127.0.0.1", "--deny-permission-prompts", "The browser did not allow the microphone."),
        (HOST, ALLOWED, "The microphone needs a page on https or localhost."),
    ],
)
def test_a_page_without_a_microphone_says_why(lab, tmp_path, host, flag, reason):
    with notebook(lab(host), tmp_path / "page.png", flag) as page:
        page.locator(".ptlab-live button").click()
        page.wait_for_function(
            "(reason) => document.querySelector('.ptlab-live').textContent.includes(reason)",
            arg=reason,
        )
