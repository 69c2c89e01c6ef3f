"""Look at a batch: its padding, its costs, its speed, and what to listen to first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt  # noqa: F401 (for the examples)
import numpy as np

from ptlab._plots.figures import LABEL_PT, axes_or_new
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["plot_bars", "plot_listening_order", "plot_padding", "plot_throughput"]

MOST_BARS_IN = 5.0  # height of a picture with many clips
_FILLS = (("0.8", ""), ("white", "////"), ("0.4", ""), ("white", "...."))


def plot_padding(
    batches: Sequence[Sequence[float]], *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """Batches as the rectangles that a model is given: clips in grey, padding hatched.

    Parameters
    ----------
    batches : sequence of sequences of float
        Length of every clip in seconds, batch by batch; the first batch is on top.
    ax : Axes, optional
    title : str, optional
        By default how much padding there is, and its share of what is computed.

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If there is no clip.

    Examples
    --------
    >>> ax = plot_padding([[1.0, 4.0], [2.0, 2.0]])
    >>> ax.get_title()
    '9 s of sound, 3 s of padding (25 %)'
    >>> plt.close(ax.figure)
    """
    batches = [list(b) for b in batches if len(b)]
    if not batches:
        raise PtlabError("There are no batches to draw; give a list of lists of seconds.")
    rows = sum(map(len, batches)) + len(batches)
    ax = axes_or_new(ax, 1.2 + min(0.16 * rows, MOST_BARS_IN))
    top, middles = 0, []
    for batch in batches:
        places, widest = np.arange(top, top + len(batch)), max(batch)
        _fill(ax, places, batch, np.zeros(len(batch)), 0, height=1.0)
        _fill(ax, places, [widest - n for n in batch], batch, 1, height=1.0)
        middles.append(places.mean())
        top += len(batch) + 1
    ax.set_yticks(middles, [f"batch {n}" for n in range(1, len(batches) + 1)])
    ax.set(ylim=(top - 1, -1), xlim=(0, None), xlabel="Time (s)")
    ax.set_title(_padding_title(batches) if title is None else title, fontsize=11)
    return ax


def plot_bars(
    labels: Sequence[str],
    parts: Mapping[str, Sequence[float]] | pd.DataFrame,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    xlabel: str = "Time (s)",
) -> Axes:
    """A bar a label, the first on top, made of parts that are told by grey and hatch.

    Parameters
    ----------
    labels : sequence of str
    parts : mapping of str to sequence of float, or DataFrame
        Name of each part, up to four, and its size in every bar. The sum is written at the end.
    ax : Axes, optional
    title : str, optional
    xlabel : str
        What the sizes are, with their unit.

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If there are too many parts, or not a number for every label.

    Examples
    --------
    >>> ax = plot_bars(["a", "b"], {"sound": [3, 3], "padding": [2, 0.5]})
    >>> [t.get_text() for t in ax.texts]
    ['5.0', '3.5']
    >>> plt.close(ax.figure)
    """
    sizes = [np.asarray(parts[name], dtype=float) for name in parts]
    if not 0 < len(sizes) <= len(_FILLS) or any(s.shape != (len(labels),) for s in sizes):
        raise PtlabError(
            f"{len(labels)} labels and parts of {[s.size for s in sizes]} numbers; give one to "
            f"{len(_FILLS)} parts with a number for every label."
        )
    ax = axes_or_new(ax, 1.2 + 0.4 * max(len(labels), 2))
    places, ends = np.arange(len(labels)), np.zeros(len(labels))
    for number, (name, size) in enumerate(zip(parts, sizes, strict=True)):
        _fill(ax, places, size, ends, number, label=name)
        ends = ends + size
    for place, end in zip(places, ends, strict=True):
        ax.annotate(f"{end:.1f}", (end, place), (4, 0), textcoords="offset points", va="center")
    ax.set_yticks(places, list(labels))
    ax.set(ylim=(len(labels) - 0.4, -0.6), xlim=(0, 1.15 * ends.max() or 1), xlabel=xlabel)
    if len(sizes) > 1:
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(sizes), frameon=False)
    head = "Sizes and their parts" if title is None else title
    ax.set_title(head, fontsize=11, loc="left" if len(sizes) > 1 else "center")
    return ax


def plot_listening_order(
    scores: Sequence[float],
    errors: Sequence[float],
    seconds: Sequence[float],
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """How many errors are found by whoever listens to the files of the lowest score first.

    Parameters
    ----------
    scores : sequence of float
        One a file; the file with the lowest is heard first.
    errors : sequence of float
        True errors in each file.
    seconds : sequence of float
        Length of each file.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If the three are not of one length, or if there is no error.

    Examples
    --------
    >>> ax = plot_listening_order([0.9, 0.2], [1, 3], [2.0, 2.0])
    >>> ax.lines[0].get_ydata().tolist()
    [0.0, 75.0, 100.0]
    >>> plt.close(ax.figure)
    """
    scores, errors = np.asarray(scores, dtype=float), np.asarray(errors, dtype=float)
    seconds = np.asarray(seconds, dtype=float)
    if not len(scores) == len(errors) == len(seconds) or not errors.sum():
        raise PtlabError(
            f"{len(scores)} scores, {len(errors)} errors and {len(seconds)} lengths; give as many "
            "of each, and at least one error to find."
        )
    ax = axes_or_new(ax, 4.2, width_in=6.0)
    orders = {
        "lowest score first": (np.argsort(scores, kind="stable"), "-"),
        "best possible order": (np.argsort(-errors / seconds, kind="stable"), ":"),
    }
    for name, (order, line) in orders.items():
        ax.plot(_shares(seconds[order]), _shares(errors[order]), f"k{line}", label=name)
    ax.plot([0, 100], [0, 100], "k--", linewidth=0.8, label="any order, on average")
    ax.set(xlim=(0, 100), ylim=(0, 102), xlabel="Audio listened to (%)", ylabel="Errors heard (%)")
    ax.legend(loc="lower right", fontsize=LABEL_PT)
    ax.set_title("What to listen to first" if title is None else title)
    return ax


def plot_throughput(
    duration_s: Sequence[float],
    seconds: Sequence[float],
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Time that every file took against its length, on logarithmic axes.

    A file on the line takes what an average second of audio takes: cost that grows faster than the
    length would leave the line upwards at the right.

    Parameters
    ----------
    duration_s, seconds : sequence of float
        Length of each file, and what it took.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If there are not as many of each, or not all above 0.

    Examples
    --------
    >>> ax = plot_throughput([1.0, 10.0], [0.1, 1.0])
    >>> ax.get_legend().get_texts()[1].get_text()
    '10 times real time'
    >>> plt.close(ax.figure)
    """
    long, took = (np.asarray(a, dtype=float) for a in (duration_s, seconds))
    if len(long) != len(took) or not len(long) or min(long.min(), took.min()) <= 0:
        raise PtlabError(
            f"{len(long)} lengths and {len(took)} times; give as many of each, all above 0."
        )
    speed = long.sum() / took.sum()
    ends = np.array([long.min(), long.max()])
    ax = axes_or_new(ax, 3.6, width_in=6.5)
    ax.loglog(long, took, "ko", markersize=3.5, markerfacecolor="none", label="a file")
    ax.loglog(ends, ends / speed, "k--", linewidth=1, label=f"{speed:.3g} times real time")
    ax.set(xlabel="Length of the file (s)", ylabel="Time in the model (s)")
    ax.grid(color="0.88", linewidth=0.6)
    ax.legend(loc="upper left", fontsize=LABEL_PT)
    ax.set_title("Cost by length" if title is None else title)
    return ax


def _fill(
    ax: Axes, places: Any, sizes: Any, starts: Any, fill: int, height: float = 0.7, label: str = ""
) -> None:
    colour, hatch = _FILLS[fill]
    ax.barh(
        places, sizes, height, starts, color=colour, hatch=hatch, edgecolor="black", linewidth=0.7,
        label=label or None,
    )  # fmt: skip


def _padding_title(batches: Sequence[Sequence[float]]) -> str:
    sound = sum(map(sum, batches))
    padding = sum(len(b) * max(b) for b in batches) - sound
    share = 100 * padding / (sound + padding)
    return f"{sound:.0f} s of sound, {padding:.0f} s of padding ({share:.0f} %)"


def _shares(values: np.ndarray) -> np.ndarray:
    """Percent of the sum that has come so far, from 0 to 100."""
    return 100 * np.concatenate([[0], np.cumsum(values)]) / values.sum()
