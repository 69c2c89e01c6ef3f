"""Look at forms of one model: what they cost, what they change, and which part suffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from ptlab._plots.figures import FAINT, LABEL_PT, WIDTH_IN
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_runtimes", "plot_sensitivity"]

_MARKS = (("o", "black"), ("D", FAINT), ("s", "0.35"), ("^", "0.2"))
_APART = 0.16  # of a row, between the marks of two numbers of threads
_MARGIN_HATCH = "///"


def plot_runtimes(
    comparison: Any, length_s: float | None = None, *, title: str | None = None
) -> np.ndarray:
    """Disk, speed and WER of forms of one model, a row each.

    Parameters
    ----------
    comparison : RuntimeComparison
    length_s : float, optional
        Of the clips whose speed is shown; by default the middle one of those measured.
    title : str, optional
        Above all.

    Returns
    -------
    ndarray of Axes (3,)
        Size; real-time factor with the least and the most of its rounds, a mark a number of
        threads; change of WER with its interval, and the margin as a hatched field.

    Raises
    ------
    PtlabError
        If that length was not measured.
    """
    names, speeds = list(comparison.quality.index), comparison.costs.speeds
    lengths = sorted(set(speeds.length_s))
    length_s = lengths[len(lengths) // 2] if length_s is None else length_s
    if length_s not in lengths:
        raise PtlabError(f"length_s={length_s} was not measured; choose from {lengths}.")
    figure, axes = plt.subplots(
        1, 3, figsize=(WIDTH_IN + 1, 1.5 + 0.36 * len(names)), layout="constrained", sharey=True
    )
    _sizes(axes[0], comparison.costs.models.loc[names, "size_mb"])
    _factors(axes[1], speeds[speeds.length_s == length_s], names, length_s)
    _changes(axes[2], comparison.quality, comparison.margin)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(title or f"Compared with {comparison.reference}")
    return axes


def plot_sensitivity(found: Any, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """The damage that small weights do, one group at a time, with the weights in each.

    Parameters
    ----------
    found : Sensitivity
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes
    """
    frame = found.to_frame()
    if ax is None:
        size = (WIDTH_IN, 1.2 + 0.3 * len(frame))
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    ax.barh(range(len(frame)), frame.difference, color="0.75", edgecolor="black")
    for row, (difference, saved) in enumerate(zip(frame.difference, frame.saved_mb, strict=True)):
        ax.annotate(
            f"saves {saved:.2f} MB", (difference, row), (4, 0), textcoords="offset points",
            va="center", fontsize=LABEL_PT,
        )  # fmt: skip
    ax.set_yticks(range(len(frame)), frame.index)
    ax.set(ylim=(len(frame) - 0.5, -0.5), xlabel="mean difference in log-probability")
    ax.set_xlim(0, 1.25 * frame.difference.max() or 1)
    ax.set_title(title or f"{found.method}, one group of weights at a time")
    return ax


def _sizes(ax: Axes, sizes: Any) -> None:
    ax.barh(range(len(sizes)), sizes, color="0.75", edgecolor="black", height=0.6)
    for row, size in enumerate(sizes):
        ax.annotate(
            f"{size:.3g}", (size, row), (3, 0), textcoords="offset points", va="center",
            fontsize=LABEL_PT,
        )  # fmt: skip
    ax.set(xlabel="size (MB)", title="On disk", xlim=(0, 1.2 * max(sizes)))


def _factors(ax: Axes, speeds: Any, names: list[str], length_s: float) -> None:
    threads = sorted(set(speeds.threads))
    for number, count in enumerate(threads):
        rows = speeds[speeds.threads == count].set_index("model").loc[names]
        marker, colour = _MARKS[number % len(_MARKS)]
        shift = _APART * (number - (len(threads) - 1) / 2)
        spread = [rows.rtf - rows.rtf_min, rows.rtf_max - rows.rtf]
        ax.errorbar(
            rows.rtf, np.arange(len(names)) + shift, xerr=spread, marker=marker, color=colour,
            linestyle="none", capsize=3, label=f"{count} thread{'s' if count > 1 else ''}",
        )  # fmt: skip
    ax.set(xlabel="real-time factor", title=f"Speed, clips of {length_s:g} s", xlim=(0, None))
    ax.legend(fontsize=LABEL_PT, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(threads))


def _changes(ax: Axes, quality: Any, margin: float) -> None:
    change, low, high = (100 * quality[f"wer_{part}"] for part in ("change", "low", "high"))
    ax.axvspan(0, 100 * margin, facecolor="none", edgecolor=FAINT, hatch=_MARGIN_HATCH, linewidth=0)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.errorbar(
        change, range(len(quality)), xerr=[change - low, high - change], marker="o",
        color="black", linestyle="none", capsize=3,
    )  # fmt: skip
    for row, text in enumerate(quality.verdict):
        ax.annotate(
            text, (1, row), (4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="left", va="center", fontsize=LABEL_PT,
        )  # fmt: skip
    ax.set(xlabel="WER, change (points)", title="Words; the margin is hatched")
