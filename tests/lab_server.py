"""A JupyterLab that nobody has set up, and a headless Chromium in front of it."""

from __future__ import annotations

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

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
LAPTOP = {"width": 1366, "height": 768}
PATIENCE_MS = 90_000


def chromium() -> str:
    """Path of the browser; the test is skipped where there is none."""
    pytest.importorskip("playwright.sync_api", reason=NEEDED)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or pytest.skip(NEEDED)


def write_notebook(path: Path, *cells: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel  # else JupyterLab asks for one
    nbformat.write(notebook, path)


@contextmanager
def serve(folder: Path, home: Path) -> Iterator[Callable[[str, str], str]]:
    """``address(host, file)`` of a file of the folder; settings and log are in ``home``."""
    port, token = _free_port(), secrets.token_hex(12)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
        *("--ServerApp.allow_remote_access=True", f"--IdentityProvider.token={token}"),
        *(f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"),
    ]
    environment = {**os.environ, "HOME": str(home), "HF_HUB_OFFLINE": "1"}
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, env=environment)
        try:
            until = time.monotonic() + 120
            while not _answers(f"http://127.0.0.1:{port}/api?token={token}"):
                assert server.poll() is None and time.monotonic() < until, "see server.log"
                time.sleep(0.5)
            yield lambda host, file: f"http://{host}:{port}/lab/tree/{file}?reset&token={token}"
        finally:
            server.terminate()
            server.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return "version" in json.load(reply)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def browse(address: str, picture: Path, *flags: str, size: dict = LAPTOP) -> Iterator:
    """The page at an address; of its end, good or bad, a picture is left.

    ``page.complaints`` are the errors of the page and of its console.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS, *flags])
        page = browser.new_page(viewport=size)
        page.set_default_timeout(PATIENCE_MS)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: _note(page, said))
        try:
            page.goto(address)
            yield page
        finally:
            picture.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=picture)
            browser.close()


def _note(page, said) -> None:
    # Without a network the badge is missing.
    outside = said.location.get("url", "").startswith("https:")
    if said.type == "error" and not outside:
        page.complaints.append(f"{said.text} ({said.location.get('url', '')})")


def run_first_cell(page) -> None:
    """Until its prompt has a number or a star: JupyterLab forgets what it is told too early."""
    for _ in range(20):
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(2_000)
        if page.locator(".jp-InputPrompt").first.inner_text().strip("[]: \n\xa0"):
            return
