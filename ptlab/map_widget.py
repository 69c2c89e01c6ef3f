"""A map of clips that can be clicked, or walked over with the arrow keys, to listen.

>>> import ptlab
>>> from sklearn.decomposition import PCA
>>> corpus = ptlab.load_corpus("test").filter(domain="travel")
>>> vectors = ptlab.embed(corpus, "mini", layers=[2], pool="mean").matrix(2)
>>> flat = PCA(2, random_state=0).fit_transform(vectors)
>>> shown = ptlab.sound_map(flat, corpus.frame.speaker, corpus.audio)
>>> len(shown.points) == len(corpus)
True
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import soundfile
import traitlets

from ptlab.audio import Audio
from ptlab.errors import PtlabError

__all__ = ["SoundMap", "sound_map"]

_STYLE = """
.ptlab-map svg { max-width: 45em; border: 1px solid #999; background: #f6f6f6; display: block; }
.ptlab-map path { stroke: #000; cursor: pointer; }
.ptlab-map path.chosen { stroke: #c00; stroke-width: 2.5; }
.ptlab-map path:focus { outline: 2px solid #000; outline-offset: 2px; }
.ptlab-map ul { display: flex; flex-wrap: wrap; gap: 0 1em; list-style: none;
  padding: 0; margin: 0; }
.ptlab-map li svg { display: inline-block; width: 1.1em; margin-right: 0.3em; border: none;
  vertical-align: middle; }
.ptlab-map audio { height: 2.2em; }
"""


class SoundMap(anywidget.AnyWidget):
    """Points that play their sound; made by `sound_map`."""

    _esm = (Path(__file__).parent / "assets" / "map.js").read_text("utf-8")
    _css = _STYLE
    points: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)

    def __init__(self, sound: Callable[[int], Audio], **traits: Any):
        super().__init__(**traits)
        self._sound = sound
        self.on_msg(self._answer)

    def _answer(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        try:
            audio = self._sound(int(content["clip"]))
        except PtlabError as error:  # raised here it would be lost in the kernel's log
            self.send({"error": str(error)})
            return
        file = io.BytesIO()
        soundfile.write(file, audio.waveform, audio.sampling_rate, format="WAV", subtype="PCM_16")
        self.send({"clip": content["clip"]}, [file.getvalue()])


def sound_map(
    points: np.ndarray,
    labels: Sequence[Any],
    sound: Callable[[int], Audio],
    titles: Sequence[str] | None = None,
) -> SoundMap:
    """A map to click on; `ptlab.plot_map` draws the same, and ``sound(n)`` is the same sound.

    Only the clip that is clicked is sent to the browser.

    Parameters
    ----------
    points : ndarray (clips, 2)
    labels : sequence
        Of each clip; they choose the markers.
    sound : callable
        From the position of a clip to its `Audio`: ``corpus.audio``.
    titles : sequence of str, optional
        What is said of each clip, such as its text.

    Raises
    ------
    PtlabError
        If the parts do not fit together.

    Examples
    --------
    >>> import ptlab
    >>> corpus = ptlab.load_corpus("test")
    >>> shown = sound_map(np.eye(2), corpus.frame.speaker[:2], corpus.audio)
    >>> [(p["x"], p["y"]) for p in shown.points]
    [(1.0, 0.0), (0.0, 1.0)]
    """
    points, titles = np.asarray(points, float), [""] * len(labels) if titles is None else titles
    if points.shape != (len(labels), 2) or len(titles) != len(labels):
        raise PtlabError(
            f"Points of shape {points.shape}, {len(labels)} labels and {len(titles)} titles; "
            "expected (clips, 2), and one of each for every clip."
        )
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    rows = zip(scaled, labels, titles, strict=True)
    return SoundMap(
        sound,
        points=[
            {"x": float(x), "y": float(y), "label": str(label), "title": str(title)}
            for (x, y), label, title in rows
        ],
    )
