"""The live microphone in a running JupyterLab and a headless Chromium that hears a WAV file."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import nbformat
import numpy as np
import pytest
import soundfile

from ptlab.audio import SAMPLE_RATE
from ptlab.data import load_corpus
from ptlab.metrics import cer
from ptlab.text import normalize_text
from ptlab.transcribe import transcribe

pytestmark = pytest.mark.browser

CELL = 'import ptlab\nmicrophone = ptlab.live_captions("mini", device="cpu")\nmicrophone'
NEEDED = 'needs playwright (pip install "ptlab[browser]") and Chromium (apt install chromium)'
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOST = "notebook.test"  # of this machine, but for the browser neither localhost nor https
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--use-fake-device-for-media-stream",
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
]
ALLOWED = "--use-fake-ui-for-media-stream"


@pytest.fixture(scope="module")
def chromium():
    """Path of the browser."""
    pytest.importorskip("playwright.sync_api", reason=NEEDED)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or pytest.skip(NEEDED)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return "version" in json.load(reply)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    """``lab(host)``: address of a notebook of one cell in a JupyterLab that nobody has set up."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel  # else JupyterLab asks for one
    nbformat.write(notebook, folder / "live.ipynb")
    port, token = free_port(), secrets.token_hex(12)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
        *("--ServerApp.allow_remote_access=True", f"--IdentityProvider.token={token}"),
        f"--ServerApp.root_dir={folder}",
    ]
    environment = {**os.environ, "HOME": str(folder)}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
        try:
            until = time.monotonic() + 120
            while not answers(f"http://127.0.0.1:{port}/api?token={token}"):
                assert server.poll() is None and time.monotonic() < until, "see server.log"
                time.sleep(0.5)
            yield lambda host: f"http://{host}:{port}/lab/tree/live.ipynb?token={token}"
        finally:
            server.terminate()
            server.wait(60)


def run_first_cell(page):
    """Until its prompt has a number or a star: JupyterLab forgets what it is told too early."""
    for _ in range(20):
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(2_000)
        if page.locator(".jp-InputPrompt").first.inner_text().strip("[]: \n\xa0"):
            return


@contextmanager
def notebook(chromium, address, picture, *flags):
    """The page after its cell has run; of its end, good or bad, a picture is left."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, *flags])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.set_default_timeout(90_000)
        try:
            page.goto(address)
            run_first_cell(page)
            page.wait_for_selector(".ptlab-live button")
            yield page
        finally:
            page.screenshot(path=picture)
            browser.close()


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


def test_captions_on_the_page_are_the_offline_text(chromium, lab, tmp_path):
    """The bar of the plan: their character error rate is within 2 points of the offline text's."""
    path, waveform = tmp_path / "microphone.wav", recording()
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="PCM_16")
    offline = transcribe(path, model="mini").text
    file = f"--use-file-for-fake-audio-capture={path}%noloop"
    with notebook(chromium, lab("127.0.0.1"), tmp_path / "page.png", ALLOWED, file) as page:
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
def test_a_page_without_a_microphone_says_why(chromium, lab, tmp_path, host, flag, reason):
    with notebook(chromium, lab(host), tmp_path / "page.png", flag) as page:
        page.locator(".ptlab-live button").click()
        page.wait_for_function(
            "(reason) => document.querySelector('.ptlab-live').textContent.includes(reason)",
            arg=reason,
        )
