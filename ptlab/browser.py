"""An exported model in a web page that turns sound into text by itself, served on this machine.

>>> import ptlab
>>> whole = ptlab.export_onnx("mini", "runs/onnx")  # doctest: +SKIP
>>> ptlab.browser_demo(whole)  # as the last line of a cell it shows the page  # doctest: +SKIP
>>> ptlab.browser_demo("nowhere")  # doctest: +ELLIPSIS
Traceback (most recent call last):
ptlab.errors.ModelError: No ONNX model at 'nowhere': ...

The folder that is written is a whole page: any web server may offer it. Sound is decoded and
resampled by the browser, the graph is run by onnxruntime-web, and ``ctc.mjs`` does what
`ptlab.transcribe` does with the log-probs.
"""

from __future__ import annotations

import html
import json
import os
import shutil
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any

from ptlab._export.web_runtime import FILES, find_web_runtime
from ptlab.errors import ModelError
from ptlab.export import new_folder
from ptlab.models import read_calibration
from ptlab.onnx_model import GRAPH, OnnxModel, load_onnx

__all__ = ["BrowserDemo", "browser_demo"]

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("microphone.js", "recording.js", "browser/page.mjs")  # one after the other
# Only what the page's own server offers, and WebAssembly: sound cannot be sent anywhere else.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; style-src 'self'; img-src data:; media-src blob:; "
    "base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    # Both are needed for memory that threads share.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "cross-origin",  # a notebook's page may have such rules too
    "Cache-Control": "no-cache",  # another model may be served at the same address later
}
KINDS = {  # systems differ in what they believe of these
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".onnx": "application/octet-stream",
}
FRAME = (
    '<iframe src="{url}" title="Speech to text on this machine" width="100%" height="{height}" '
    'allow="microphone; cross-origin-isolated" style="border: 1px solid #767676"></iframe>'
    '<p><a href="{url}" target="_blank" rel="noopener">Open it in a tab of its own</a></p>'
)
HEIGHT = 560  # pixels of the frame in a notebook


class BrowserDemo(os.PathLike[str]):
    """A served page; made by `browser_demo`. A notebook shows it in a frame.

    Attributes
    ----------
    folder : Path
        The page with all that it needs. Any web server may offer it; the microphone needs https
        or localhost, and more than one thread the two ``Cross-Origin`` headers.
    url : str
        Where it is served, on this machine only.
    size_bytes : int
        Of all files of the page.
    """

    def __init__(self, folder: Path, port: int, temporary: Any = None):
        self.folder, self._temporary = folder, temporary
        self.size_bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
        try:
            # Only localhost: the notebook's machine and the browser's are the same one.
            handler = partial(_Handler, directory=os.fspath(folder))
            self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        except (OSError, OverflowError) as error:
            raise ModelError(f"port={port} cannot be used ({error}); port=0 finds one.") from error
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def __repr__(self) -> str:
        return f"BrowserDemo({self.url}, {self.size_bytes / 1e6:.1f} MB)"

    def _repr_html_(self) -> str:
        return FRAME.format(url=html.escape(self.url), height=HEIGHT)

    def __enter__(self) -> BrowserDemo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Serve no longer; a folder that was named stays."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._temporary is not None:
            self._temporary.cleanup()

    def wait(self) -> None:
        """Serve until it is interrupted."""
        self._thread.join()


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | KINDS

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing prints from library code."""


def browser_demo(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    runtime: str | os.PathLike[str] | None = None,
    port: int = 0,
    overwrite: bool = False,
) -> BrowserDemo:
    """Write a page that transcribes in the browser, and serve it on this machine.

    Choose a file or record; text, times and confidences appear below. No sound leaves the browser:
    the page's security policy forbids all other addresses. What it computes is what
    `ptlab.transcribe` computes, windows and confidences included, but for resampling, which the
    browser does in its own way.

    It is made for a notebook on your own machine: the kernel's localhost must be the browser's.
    Inside a notebook it has one thread; in a tab of its own up to four.

    Parameters
    ----------
    source : path
        What `ptlab.export_onnx` or `ptlab.quantize` has made.
    path : path, optional
        The folder to make; by default one that goes with `BrowserDemo.close`.
    runtime : path, optional
        onnxruntime-web, as a folder or as the archive that ``npm pack`` writes. By default it is
        fetched by npm once and kept in a cache: ``$PTLAB_CACHE``, else ``~/.cache/ptlab``.
    port : int
        0 takes any that is free.
    overwrite : bool
        As in `ptlab.export_onnx`.

    Returns
    -------
    BrowserDemo

    Raises
    ------
    ModelError
        If there is no such model, onnxruntime-web cannot be had, the folder is there, or the port
        is taken.

    Examples
    --------
    >>> browser_demo("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ptlab.errors.ModelError: No ONNX model at 'nowhere': ...
    """
    model, files = load_onnx(source, device="cpu"), find_web_runtime(runtime)
    temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True) if path is None else None
    target = Path(temporary.name, "page") if temporary else Path(path or "").expanduser()
    with new_folder(target, overwrite) as folder:
        _write_page(model, files, folder)
    return BrowserDemo(target, port, temporary)


def _write_page(model: OnnxModel, runtime: Path, folder: Path) -> None:
    shutil.copy(model.path, folder / GRAPH)
    (folder / "ort").mkdir()
    for name in FILES:
        shutil.copy(runtime / name, folder / "ort")
    for name in ("ctc.mjs", "page.css"):
        shutil.copy(ASSETS / "browser" / name, folder)
    script = "\n".join((ASSETS / name).read_text("utf-8") for name in SCRIPTS)
    (folder / "page.mjs").write_text(script, "utf-8")
    page = Template((ASSETS / "browser" / "index.html").read_text("utf-8"))
    (folder / "index.html").write_text(page.substitute(policy=POLICY), "utf-8")
    facts = json.dumps(page_facts(model), ensure_ascii=False)
    (folder / "facts.json").write_text(facts, "utf-8")


def page_facts(model: OnnxModel) -> dict[str, Any]:
    """What the page must know of a model: from the metadata in its file, and its calibration."""
    return {
        "name": model.path.absolute().parent.name,
        "precision": model.precision,
        "size_bytes": model.size_bytes,
        "vocabulary": model.vocabulary,
        "blank": model.blank,
        "word_delimiter": model.word_delimiter,
        "sampling_rate": model.sampling_rate,
        "hop": model.hop,
        "receptive_field": model.receptive_field,
        "normalizes": model.normalizes,
        "calibration": read_calibration(model.folder),
    }
