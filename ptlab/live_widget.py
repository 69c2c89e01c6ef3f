"""Your own microphone with live captions, in a notebook.

>>> import ptlab
>>> microphone = ptlab.live_captions("mini")  # as the last line of a cell it shows the button
>>> microphone.text, microphone.status
('', 'Press start and speak.')

The code path without a widget is `ptlab.StreamingRecognizer.stream`, for packets from anywhere, and
``ptlab stream -`` in a shell.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from ptlab._stream.live_session import Captions, LiveTake, pcm_samples
from ptlab.errors import PtlabError
from ptlab.streaming import BufferedCTC, LocalAgreement, NaiveChunks, StreamingRecognizer

if TYPE_CHECKING:
    from ptlab._speech.speech_model import CTCModel
    from ptlab.transcribe import Transcriber

__all__ = ["LiveCaptions", "live_captions"]

SHOWN_LINES = 20  # sent to the page at each change; the page keeps those that it has
ASSETS = Path(__file__).parent / "assets"
_STYLE = """
.ptlab-live-bar { display: flex; gap: 0.8em; align-items: center; flex-wrap: wrap; }
.ptlab-live-bar button { padding: 0.3em 1em; min-width: 7em; cursor: pointer; }
.ptlab-live-bar button[aria-disabled="true"] { opacity: 0.5; cursor: wait; }
.ptlab-live-text { font-size: 1.2em; line-height: 1.5; height: 9em; overflow-y: auto;
  margin: 0.5em 0; padding: 0.3em 0.8em; border: 1px solid currentColor; }
.ptlab-live-text p { margin: 0; }
.ptlab-tentative { font-style: italic; text-decoration: underline dotted; }
.ptlab-live-legend { margin: 0; font-size: 0.9em; }
"""


def _on_page(captions: Captions) -> dict[str, Any]:
    lines = captions.lines
    return {
        "count": len(lines),
        "lines": list(lines[-SHOWN_LINES:]),
        "committed": captions.committed,
        "tentative": captions.tentative,
    }


class LiveCaptions(anywidget.AnyWidget):
    """A button that listens to the microphone, and captions under it; made by `live_captions`.

    Attributes
    ----------
    text : str
        What was said since start was last pressed, an utterance a line.
    status, error : str
        What is shown beside the button; ``error`` is empty if nothing went wrong.
    heard_s : float
        Audio that the model's stream has taken, in whole seconds.
    """

    _esm = "".join((ASSETS / name).read_text("utf-8") for name in ("microphone.js", "live.js"))
    _css = _STYLE
    captions = traitlets.Dict(_on_page(Captions())).tag(sync=True)
    heard_s = traitlets.Float(0.0).tag(sync=True)
    status = traitlets.Unicode("Press start and speak.").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)

    def __init__(self, recognizer: StreamingRecognizer, **traits: Any):
        super().__init__(**traits)
        self._recognizer = recognizer
        self._name = ""  # of the recording under way, given by the page
        self._take: LiveTake | None = None
        self._thread: threading.Thread | None = None
        self.on_msg(self._receive)

    @property
    def text(self) -> str:
        """The captions as text; empty before anything was said."""
        return self._take.captions.text if self._take is not None else ""

    def stop(self) -> None:
        """End the recording, as the button does; what was said is still recognised."""
        if self._take is not None and self._name:
            self._take.finish()
            self.send({"release": self._name})
            self._name = ""

    def close(self) -> None:
        """Let go of the microphone and take the captions off the page."""
        self.stop()
        super().close()

    def _receive(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        """Act on a message of the page; those of a recording that is over are late, and left."""
        match content:
            case {"kind": "start", "take": name, "sampling_rate": rate}:
                self._start(name, int(rate))
            case {"kind": "audio", "take": self._name, "begin": begin, "pcm": pcm}:
                if self._take is not None:
                    self._take.accept(begin, pcm_samples(pcm))
            case {"kind": "stop", "take": self._name}:
                self.stop()
            case {"kind": "failed", "reason": reason}:
                self.error = reason

    def _start(self, name: str, sampling_rate: int) -> None:
        self.stop()  # another page, or a part of this one, may be listening
        self.error, self._name = "", name
        self._take = LiveTake(self._recognizer, sampling_rate, self._show)
        self._thread = threading.Thread(
            target=self._run, args=(self._take, self._thread), name="live captions", daemon=True
        )
        self._thread.start()

    def _run(self, take: LiveTake, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        self._show(take)
        try:
            take.run()
        except Exception as error:
            if take is self._take:
                self.stop()
            self.error = str(error)
            if not isinstance(error, PtlabError):
                raise

    def _show(self, take: LiveTake) -> None:
        self.captions, self.status = _on_page(take.captions), take.status
        self.heard_s = float(int(take.heard_s))


def live_captions(
    model: str | os.PathLike[str] | CTCModel | Transcriber | None = None,
    policy: BufferedCTC | LocalAgreement | NaiveChunks | None = None,
    **options: Any,
) -> LiveCaptions:
    """Speak and read: show it, press start, speak, press stop; the text is then in ``.text``.

    The browser sends packets of 0.1 s at its own rate. Words that stay are upright; those that may
    still change are slanted and dotted. A machine that is too slow does what ``late`` says, and
    tells. The browser needs a page on https or localhost (a local JupyterLab is), and asks for
    leave the first time. No sound is kept in the notebook.

    It is made for JupyterLab 4. Firefox, Safari and Colab have all that it uses, but were not
    tested; while a cell runs in Colab, packets wait for the cell to end.

    Parameters
    ----------
    model, policy, **options
        As of `StreamingRecognizer`: ``endpointing``, ``refine_s``, ``late``, ``max_lag_s``, ...

    Returns
    -------
    LiveCaptions

    Examples
    --------
    >>> microphone = live_captions("mini", late="drop")
    >>> microphone.text, microphone.status
    ('', 'Press start and speak.')
    """
    return LiveCaptions(StreamingRecognizer(model, policy, **options))
