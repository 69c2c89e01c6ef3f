"""Drawings that explain: recognition in one picture, pre-training, what one frame sees.

They are drawn in units of their own on an ``Axes`` 100 wide, without axes around them, and meant
to be read at 900 pixels.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt  # noqa: F401 (for the examples)
import numpy as np
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from ptlab._plots.figures import FAINT, WIDTH_IN, axes_or_new
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_asr_overview", "plot_pretraining", "plot_receptive_field"]

TEXT_PT = 9.5
PATH = "cc·aa·rr·r··oo·"  # a path of *carro*: the blank keeps the two letters r apart
LEFT = 33.0  # where the drawing begins; captions stand to the left
MOST_MARKS = 30  # a layer with more positions than these is drawn as a bar


def plot_asr_overview(*, ax: Axes | None = None) -> Axes:
    """Draw what speech recognition by CTC is: sound, frames, letters, collapse, text.

    Examples
    --------
    >>> ax = plot_asr_overview()
    >>> "carro" in [t.get_text() for t in ax.texts]
    True
    >>> plt.close(ax.figure)
    """
    ax = _canvas(ax, 62, "Speech recognition in one picture")
    width = (98 - LEFT) / len(PATH)
    _caption(ax, 55, "1  Sound", "air pressure, 16,000\nnumbers a second")
    _caption(ax, 42, "2  Frames", "one every 20 ms; the model\nlooks at all of them")
    _caption(ax, 29, "3  Letters", "the most probable one of each\nframe (· is the blank: none)")
    _caption(ax, 16, "4  Collapse", "equal neighbours become one,\nthen the blanks go")
    _caption(ax, 4, "5  Text", "what was said")
    _wave(ax, width, 55, 5)
    for i, letter in enumerate(PATH):
        x = LEFT + i * width
        ax.plot([x, x], [49, 61], color=FAINT, linewidth=0.7, linestyle=":")
        _box(ax, x + 0.3, 39.5, width - 0.6, 5, hatch="....", face="white")
        _box(ax, x + 0.3, 26.5, width - 0.6, 5, letter, size=12)
        _arrow(ax, (x + width / 2, 48.5), (x + width / 2, 45))
        _arrow(ax, (x + width / 2, 39), (x + width / 2, 32))
    _draw_collapse(ax, width)
    return ax


def plot_pretraining(*, ax: Axes | None = None) -> Axes:
    """Draw how XLSR-53 learned: first from sound alone, then from Portuguese with text.

    After figure 1 of Baevski et al. (2020), arXiv 2006.11477; hours and languages from Conneau et
    al. (2020), arXiv 2006.13979.

    Examples
    --------
    >>> ax = plot_pretraining()
    >>> any("53 languages" in t.get_text() for t in ax.texts)
    True
    >>> plt.close(ax.figure)
    """
    ax = _canvas(ax, 79, "wav2vec 2.0 and XLSR-53: listen first, read later")
    _text(ax, 32, 76, "A  Pre-training without text", weight="bold", size=11)
    _text(ax, 32, 71.5, "XLSR-53: 56,000 hours of speech, 53 languages")
    _text(ax, 83, 76, "B  Fine-tuning with text", weight="bold", size=11)
    _text(ax, 83, 71.5, "starts from the weights of A;\n13.5 hours of Portuguese")
    ax.plot([65, 65], [1, 78], color="0.5", linestyle="--", linewidth=0.8)
    _draw_stack(ax, 2, 38, masked=(2, 3, 4))
    _draw_contrast(ax)
    _draw_stack(ax, 68, 30, masked=())
    _draw_head(ax)
    return ax


def plot_receptive_field(model: Any, *, ax: Axes | None = None) -> Axes:
    """Draw what one frame of the convolutional encoder sees, layer by layer, from the config.

    Parameters
    ----------
    model : SpeechModel, Hugging Face model or config
        With ``conv_kernel`` and ``conv_stride``.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If the model has no convolutional encoder of this kind.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(
    ...     conv_kernel=(10, 3, 3, 3, 3, 2, 2), conv_stride=(5, 2, 2, 2, 2, 2, 2)
    ... )
    >>> ax = plot_receptive_field(config)
    >>> ax.get_title()
    'One frame sees 400 samples (25 ms); the next one begins 320 samples (20 ms) later'
    >>> plt.close(ax.figure)
    """
    kernels, strides, rate = _convolutions(model)
    counts, steps = _fields(kernels, strides)
    per_ms = rate / 1000
    field, hop = counts[0] / per_ms, steps[-1] / per_ms
    ax = axes_or_new(ax, 4.4)
    for frame, hatch in enumerate(("", "////")):
        _draw_field(ax, counts, [s / per_ms for s in steps], field, frame * hop, hatch)
    labels = ["audio samples"] + [
        f"convolution {i}: kernel {k}, stride {s}"
        for i, (k, s) in enumerate(zip(kernels, strides, strict=True), 1)
    ]
    ax.set_yticks(range(len(counts)), labels)
    for y, (count, step) in enumerate(zip(counts, steps, strict=True)):
        note = f"{count}, one every {step / per_ms:.4g} ms"
        ax.text(field + hop + 0.6, y, note, va="center", size=TEXT_PT)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(xlim=(-0.5, field * 2.6), ylim=(-0.6, len(counts) - 0.3), xlabel="Time (ms)")
    ax.set_title(
        f"One frame sees {counts[0]} samples ({field:.4g} ms); the next one begins "
        f"{steps[-1]} samples ({hop:.4g} ms) later",
        fontsize=11,
    )
    return ax


def _canvas(ax: Axes | None, height: float, title: str) -> Axes:
    """An Axes 100 wide, drawn to scale, with nothing on it."""
    ax = axes_or_new(ax, WIDTH_IN * height / 100 + 0.35)
    ax.set(xlim=(0, 100), ylim=(0, height))
    ax.axis("off")
    ax.set_title(title)
    return ax


def _text(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    ax.text(x, y, text, **{"ha": "center", "va": "center", "size": TEXT_PT, **style})


def _caption(ax: Axes, y: float, head: str, body: str) -> None:
    _text(ax, 0, y + 3, head, ha="left", weight="bold", size=11)
    _text(ax, 2.2, y - 1.6, body, ha="left")


def _box(
    ax: Axes, x: float, y: float, width: float, height: float, text: str = "", *,
    hatch: str = "", face: str = "0.93", size: float = TEXT_PT,
) -> None:  # fmt: skip
    shape = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.6", facecolor=face,
        edgecolor="black", hatch=hatch, linewidth=0.9,
    )  # fmt: skip
    ax.add_patch(shape)
    _text(ax, x + width / 2, y + height / 2, text, size=size)


def _arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    style: str = "-|>",
    line: str = "-",
) -> None:
    arrow = {"arrowstyle": style, "color": "black", "linewidth": 0.8, "linestyle": line}
    ax.annotate("", end, start, arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0})


def _wave(ax: Axes, width: float, middle: float, height: float) -> None:
    """A sound that goes with `PATH`: vowels loud and periodic, *r* in beats."""
    loudness = {"c": 0.25, "a": 1.0, "r": 0.55, "o": 0.9, "·": 0.3}
    x = np.linspace(0, len(PATH), 1500, endpoint=False)
    envelope = np.interp(x, np.arange(len(PATH)) + 0.5, [loudness[c] for c in PATH])
    ends = np.minimum(1, np.minimum(x, len(PATH) - x))
    y = envelope * ends * (0.7 * np.sin(19 * x) + 0.3 * np.sin(43 * x + 1))
    ax.plot(LEFT + x * width, middle + height * y, color="black", linewidth=0.8)


def _draw_collapse(ax: Axes, width: float) -> None:
    """From the groups of equal letters to the merged row, and on to the word."""
    position = 0
    for letter, group in itertools.groupby(PATH):
        size = len(list(group))
        centre = LEFT + (position + size / 2) * width
        kept = letter != "·"
        _box(ax, centre - 1.9, 13.5, 3.8, 5, letter, face="0.93" if kept else "white", size=12)
        _arrow(ax, (centre, 26), (centre, 19), line="-" if kept else ":")
        if kept:
            _arrow(ax, (centre, 13), (centre, 8.2))
        position += size
    _text(ax, (LEFT + 98) / 2, 4, "carro", size=18, weight="bold")


def _draw_stack(ax: Axes, left: float, width: float, masked: tuple[int, ...]) -> None:
    """Sound, convolutions, latents (some masked), Transformer."""
    x = np.linspace(0, width, 600)
    y = np.sin(2.1 * x) * (0.4 + 0.6 * np.sin(x * np.pi / width * 3) ** 2)
    ax.plot(left + x, 4 + 2.6 * y, color="black", linewidth=0.8)
    _arrow(ax, (left + width / 2, 7.5), (left + width / 2, 10.5))
    _box(ax, left, 11, width, 6, "convolutional encoder\n50 frames a second")
    step = width / 8
    for i in range(8):
        middle = left + (i + 0.5) * step
        hidden = i in masked
        _box(ax, middle - 1.5, 22, 3, 4.5, hatch="xxxx" if hidden else "", face="white")
        _arrow(ax, (middle, 17.3), (middle, 21.6))
        _arrow(ax, (middle, 26.9), (middle, 30.6))
    _box(ax, left, 31, width, 8, "Transformer\neach frame looks at all others")


def _draw_contrast(ax: Axes) -> None:
    """The masked frame's question, and the answers it may choose from."""
    middle = 2 + 3.5 * 38 / 8
    _box(ax, 43.5, 27, 3, 4.5, hatch="xxxx", face="white")
    _text(ax, 47.5, 29.2, "masked: hidden\nfrom the Transformer", ha="left", size=9)
    _arrow(ax, (middle, 39.3), (middle, 45.5))
    _box(ax, middle - 14, 46, 28, 6, "context vector of a masked frame")
    _arrow(ax, (middle, 52.3), (middle, 57.5))
    _box(ax, 2, 58, 60, 7.5, "contrastive choice: which of these was under the mask?\n"
         "the true one, or one of 100 others of the recording?", face="white")  # fmt: skip
    _box(ax, 43.5, 11, 19, 6, "quantiser\n(a book of sounds)")
    _arrow(ax, (40.3, 24.2), (53, 24.2), style="-")
    _arrow(ax, (53, 24.2), (53, 17.4))
    _text(ax, 53, 8, "learned, and thrown\naway afterwards", size=9, va="top")
    for i, label in enumerate(("true", "other", "other")):
        x = 43.5 + i * 6.5
        _box(ax, x, 40, 5.6, 4.5, label, face="white" if i else "0.75", size=9)
        _arrow(ax, (x + 2.8, 44.8), (x + 2.8, 57.5))
    ax.plot([62.8, 63.6, 63.6, 53], [14, 14, 36, 36], color="black", linewidth=0.8)
    _arrow(ax, (53, 36), (53, 39.6))


def _draw_head(ax: Axes) -> None:
    _arrow(ax, (83, 39.3), (83, 43.5))
    _box(ax, 68, 44, 30, 6.5, "new layer: a score for each of\n46 tokens (CTC head)", face="0.8")
    _arrow(ax, (83, 50.8), (83, 54.5))
    _text(ax, 83, 56.7, "b b · o · m · | d i · a a", family="monospace", size=10)
    _arrow(ax, (83, 58.8), (83, 62))
    _text(ax, 83, 64, "“bom dia”", size=13, weight="bold")


def _convolutions(model: Any) -> tuple[list[int], list[int], int]:
    inner = getattr(model, "model", model)
    config = getattr(inner, "config", inner)
    kernels, strides = (getattr(config, f"conv_{k}", None) for k in ("kernel", "stride"))
    if not kernels or not strides or getattr(config, "model_type", "") == "wav2vec2-bert":
        kind = getattr(config, "model_type", type(model).__name__)
        raise PtlabError(
            f"{kind!r} has no convolutional encoder of raw sound (conv_kernel and conv_stride in "
            "its config); wav2vec2, HuBERT, WavLM and data2vec-audio have."
        )
    return list(kernels), list(strides), getattr(model, "sampling_rate", 16_000)


def _fields(kernels: list[int], strides: list[int]) -> tuple[list[int], list[int]]:
    """Positions of every layer, from the samples up, that one frame sees; samples from one to next.

    Dumoulin and Visin (2016), arXiv 1603.07285: n outputs need ``(n - 1) * stride + kernel``
    inputs.
    """
    counts = [1]
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        counts.insert(0, (counts[0] - 1) * stride + kernel)
    steps = [1]
    for stride in strides:
        steps.append(steps[-1] * stride)
    return counts, steps


def _draw_field(
    ax: Axes, counts: list[int], steps: list[float], field: float, start: float, hatch: str
) -> None:
    """The pyramid below one frame, with a mark at each position unless they are too many."""
    middle = start + field / 2
    halves = [(count - 1) * step / 2 for count, step in zip(counts, steps, strict=True)]
    halves[0] = field / 2
    ys = np.arange(len(counts))
    outline = [(middle - h, y) for h, y in zip(halves, ys, strict=True)]
    outline += [(middle + h, y) for h, y in zip(halves[::-1], ys[::-1], strict=True)]
    ax.add_patch(
        Polygon(np.array(outline), closed=True, facecolor="0.9" if not hatch else "none",
                edgecolor=FAINT, hatch=hatch, linewidth=0.8)
    )  # fmt: skip
    for y, (count, half) in enumerate(zip(counts, halves, strict=True)):
        if count > MOST_MARKS:
            ax.add_patch(Rectangle((middle - half, y - 0.08), 2 * half, 0.16, facecolor="0.4"))
        else:
            xs = np.linspace(middle - half, middle + half, count)
            ax.plot(xs, np.full(count, y), "ks" if not hatch else "k^", markersize=4.5)
    ax.text(middle, len(counts) - 0.75, "a frame" if not hatch else "the next", ha="center", size=9)
