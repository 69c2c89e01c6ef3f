"""Your own voice or file in a notebook: a recorder, an uploader, and both with a transcriber.

>>> import ptlab
>>> upload = ptlab.uploader()  # as the last line of a cell it shows the button
>>> ptlab.uploaded_files(upload.value)
{}
>>> microphone = ptlab.recorder(max_s=30)  # after a recording, microphone.audio is an Audio
>>> record, upload, text = ptlab.transcribe_widget().children  # both, and the text below

Each widget has a code path beside it that needs no widget: `ptlab.load_audio` reads a file's
path or bytes, and `ptlab.transcribe` transcribes it. They work with ipywidgets 7 (Colab) and 8.
"""

from __future__ import annotations

import base64
import html
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from ptlab.audio import Audio, load_audio
from ptlab.errors import AudioError, PtlabError
from ptlab.transcribe import Transcriber

__all__ = ["Recorder", "recorder", "transcribe_widget", "uploaded_files", "uploader"]

logger = logging.getLogger("ptlab")

ASSETS = Path(__file__).parent / "assets"
MAX_RECORDING_S = 60.0
SOUND_FILES = "audio/*,video/*,.wav,.flac,.ogg,.opus,.mp3,.m4a,.webm"
_STYLE = """
.ptlab-recorder { display: flex; gap: 0.8em; align-items: center; flex-wrap: wrap; }
.ptlab-recorder button { padding: 0.3em 1em; min-width: 7em; cursor: pointer; }
.ptlab-recorder button[aria-disabled="true"] { opacity: 0.5; cursor: wait; }
.ptlab-recorder audio { height: 2.2em; }
"""


class Recorder(anywidget.AnyWidget):
    """A button that records the microphone in the browser; made by `recorder`.

    Attributes
    ----------
    max_s : float
        Recording stops by itself after so many seconds.
    status, error : str
        What is shown beside the button; ``error`` is empty if nothing went wrong.
    """

    _esm = "".join(
        (ASSETS / f"{name}.js").read_text("utf-8")
        for name in ("microphone", "recording", "recorder")
    )
    _css = _STYLE
    max_s = traitlets.Float(MAX_RECORDING_S).tag(sync=True)
    status = traitlets.Unicode("Press record and speak.").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)

    def __init__(self, on_audio: Callable[[Audio], Any] | None = None, **traits: Any):
        super().__init__(**traits)
        self._on_audio = on_audio
        self._parts: dict[int, str] = {}
        self._audio: Audio | None = None
        self.on_msg(self._receive)

    @property
    def audio(self) -> Audio:
        """The last recording, at 16 kHz; `AudioError` if there is none."""
        if self._audio is None or self.error:
            reason = self.error or (
                "Nothing was recorded yet. Show the recorder, press record, speak, press stop, "
                "and run this cell after that. Or read a file: load_audio(path)."
            )
            raise AudioError(reason)
        return self._audio

    def _receive(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        """Put the parts of a WAV file together; act on it when the last one is here."""
        if content["part"] == 0:
            self._parts, self._audio = {}, None
        self._parts[content["part"]] = content["wav"]
        if len(self._parts) < content["count"]:
            return
        text = "".join(self._parts[i] for i in range(content["count"]))
        self._parts = {}
        try:
            self._accept(load_audio(base64.b64decode(text)))
        except PtlabError as error:  # raised here it would be lost in the kernel's log
            self.error = str(error)

    def _accept(self, audio: Audio) -> None:
        self._audio, self.error = audio, ""
        quiet = " It is silent: is the microphone muted?" if audio.is_silent else ""
        self.status = f"{audio.duration_s:.1f} s recorded.{quiet}"
        if self._on_audio is not None:
            self._on_audio(audio)


def recorder(
    on_audio: Callable[[Audio], Any] | None = None, *, max_s: float = MAX_RECORDING_S
) -> Recorder:
    """Record the microphone: show it, press record, speak, press stop, use ``.audio``.

    The browser needs a page on https or localhost (Colab and a local JupyterLab are), and asks
    for leave the first time. It sends a WAV file of 16 kHz, 16 bits; the notebook keeps none of it.

    Parameters
    ----------
    on_audio : callable, optional
        Called with the `Audio` as soon as it is here.
    max_s : float
        Longest recording in seconds.

    Returns
    -------
    Recorder

    Examples
    --------
    >>> microphone = recorder()
    >>> microphone.audio
    Traceback (most recent call last):
        ...
    ptlab.errors.AudioError: Nothing was recorded yet. ...
    """
    if not 0 < max_s <= 600:
        raise PtlabError(f"max_s={max_s}; expected seconds, more than 0 and at most 600.")
    return Recorder(on_audio, max_s=float(max_s))


def uploader(*, multiple: bool = True) -> ipywidgets.FileUpload:
    """A button that takes sound files; `uploaded_files` reads its ``.value``.

    Parameters
    ----------
    multiple : bool
        Whether several can be chosen at once.

    Examples
    --------
    >>> upload = uploader()
    >>> uploaded_files(upload.value)
    {}
    """
    return ipywidgets.FileUpload(
        accept=SOUND_FILES,
        multiple=multiple,
        description="Upload sound files" if multiple else "Upload a sound file",
        layout=ipywidgets.Layout(width="16em"),
    )


def uploaded_files(
    value: Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]],
) -> dict[str, bytes]:
    """Names and contents of uploaded files, from the value of a ``FileUpload``.

    Parameters
    ----------
    value : dict or tuple
        ``{name: {"content": ...}}`` in ipywidgets 7, ``({"name": ..., "content": ...}, ...)`` in 8.

    Returns
    -------
    dict of str to bytes

    Examples
    --------
    >>> uploaded_files({"oi.wav": {"metadata": {}, "content": b"RIFF"}})
    {'oi.wav': b'RIFF'}
    >>> uploaded_files(({"name": "oi.wav", "content": memoryview(b"RIFF")},))
    {'oi.wav': b'RIFF'}
    """
    if isinstance(value, Mapping):
        return {name: bytes(file["content"]) for name, file in value.items()}
    return {file["name"]: bytes(file["content"]) for file in value}


def transcribe_widget(transcriber: Transcriber | None = None) -> ipywidgets.VBox:
    """Record or upload, and read the text below.

    The same in code: ``ptlab.transcribe("my_file.wav")``.

    Parameters
    ----------
    transcriber : Transcriber, optional
        By default one with the default model, loaded with the first sound.

    Returns
    -------
    VBox
        Of the recorder, the upload button and the text.

    Examples
    --------
    >>> record, upload, text = transcribe_widget().children
    >>> text.value
    '<p>The text appears here.</p>'
    """
    text = ipywidgets.HTML("<p>The text appears here.</p>")
    loaded = [transcriber] if transcriber is not None else []

    def show(sounds: Mapping[str, Any]) -> None:
        text.value = "<p>Transcribing …</p>"
        text.value = "".join(_report(loaded, name, sound) for name, sound in sounds.items())

    record = recorder(lambda audio: show({"Recording": audio}))
    upload = uploader()
    upload.observe(lambda change: show(uploaded_files(change["new"])), names="value")
    return ipywidgets.VBox([record, upload, text])


def _report(loaded: list[Transcriber], name: str, sound: Any) -> str:
    """The text of one sound as HTML, or what is wrong with it."""
    head = f"<p><b>{html.escape(name)}</b></p>"
    try:
        if not loaded:
            loaded.append(Transcriber())
        result = loaded[0].transcribe(sound)
    except PtlabError as error:
        logger.info("%s: %s", name, error)
        return f"{head}<p>⚠ {html.escape(str(error))}</p>"
    return head + (result._repr_html_() if result.text else "<p>(no speech recognised)</p>")
