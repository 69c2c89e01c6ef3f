"""Look at errors and at how sure a model is of what it wrote: drawn as ``ptlab.plots`` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt  # noqa: F401 (for the examples)
import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ptlab._plots.figures import LABEL_PT, WIDTH_IN, axes_or_new, axes_width_in, text_width_pt
from ptlab.errors import PtlabError
from ptlab.metrics import align_words, ece, reliability

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["plot_confusions", "plot_errors", "plot_intervals", "plot_reliability"]

_KINDS = {"S": "substituted", "D": "deleted", "I": "inserted"}
_HATCHES = {"substituted": "", "deleted": "///", "inserted": "..."}


def plot_errors(
    reference: str, hypothesis: str, *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """One sentence, word under word, with its errors marked.

    A substituted pair (S) is framed, a deleted word (D) is struck through, an inserted one (I) has
    a dashed frame.

    Parameters
    ----------
    reference, hypothesis : str
        What was said and what was recognised, normalised alike.
    ax : Axes, optional
    title : str, optional
        By default the number of errors of each kind.

    Returns
    -------
    Axes

    Examples
    --------
    >>> ax = plot_errors("a avó riu muito", "avó rio muito")
    >>> ax.get_title()
    '2 errors in 4 words: 1 substituted (S), 1 deleted (D), 0 inserted (I)'
    >>> plt.close(ax.figure)
    """
    edits = align_words(reference, hypothesis)
    widths = [max(map(text_width_pt, (e.reference, e.hypothesis, "M"))) + 12 for e in edits]
    room = (WIDTH_IN - 0.4) * 72 if ax is None else axes_width_in(ax) * 72
    lines = _wrap(widths, room - 40)
    ax = axes_or_new(ax, 0.6 + 0.85 * len(lines))
    ax.set(xlim=(0, room), ylim=(60 * len(lines), 0))
    ax.axis("off")
    for number, line in enumerate(lines):
        _write_edits(ax, [edits[i] for i in line], [widths[i] for i in line], 60 * number)
    ax.set_title(_error_title(edits) if title is None else title)
    return ax


def plot_confusions(
    frame: pd.DataFrame, *, ax: Axes | None = None, title: str | None = None
) -> Axes:
    """What was most often taken for what, as bars.

    Parameters
    ----------
    frame : DataFrame
        From `ptlab.confusions`: ``reference, hypothesis, count``.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If the frame has other columns.

    Examples
    --------
    >>> from ptlab.metrics import confusions
    >>> ax = plot_confusions(confusions(["avó", "vovó"], ["avô", "vov"]))
    >>> [t.get_text() for t in ax.get_yticklabels()]
    ['ó → ô', 'ó → nothing']
    >>> plt.close(ax.figure)
    """
    missing = {"reference", "hypothesis", "count"} - set(getattr(frame, "columns", ()))
    if missing:
        raise PtlabError(
            f"No column {', '.join(sorted(missing))}; give the frame that ptlab.confusions returns."
        )
    ax = axes_or_new(ax, 1.3 + 0.24 * max(len(frame), 3))
    kinds = [_kind(r, h) for r, h in zip(frame.reference, frame.hypothesis, strict=True)]
    bars = ax.barh(range(len(frame)), frame["count"], color="0.8", edgecolor="black")
    for bar, kind in zip(bars, kinds, strict=True):
        bar.set_hatch(_HATCHES[kind])
    pairs = zip(frame.reference, frame.hypothesis, strict=True)
    ax.set_yticks(range(len(frame)), [f"{_shown(r)} → {_shown(h)}" for r, h in pairs])
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    ax.set(xlabel="Number of times", ylabel="Said → recognised")
    ax.set_title("Most frequent errors" if title is None else title, pad=26 if kinds else 6)
    _legend_of_kinds(ax, [k for k in _HATCHES if k in kinds])
    return ax


def plot_reliability(
    scores: Sequence[float],
    correct: Sequence[bool],
    *,
    bins: int = 10,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Does a confidence of 80 % mean that 80 % of such words are right?

    Parameters
    ----------
    scores : sequence of float
        Confidence of each word, 0 to 1.
    correct : sequence of bool
        Whether it was right.
    bins : int
        Bins of equal mass (`ptlab.reliability`).
    ax : Axes, optional
    title : str, optional
        The expected calibration error is written after it.

    Returns
    -------
    Axes

    Examples
    --------
    >>> ax = plot_reliability([0.75] * 4, [True, True, True, False])
    >>> ax.get_title()
    'Reliability of the confidence (ECE 0.0 %, 4 words)'
    >>> plt.close(ax.figure)
    """
    table = reliability(scores, correct, bins)
    low, high = _wilson(table.accuracy.to_numpy(), table["count"].to_numpy())
    error = 100 * ece(scores, correct, bins)
    ax = axes_or_new(ax, 4.2, width_in=4.8)
    ax.plot([0, 100], [0, 100], "k--", linewidth=1, label="as sure as right")
    ax.vlines(100 * table.confidence, 100 * low, 100 * high, color="0.5", label="95 % interval")
    ax.plot(100 * table.confidence, 100 * table.accuracy, "ko-", label="words, in equal bins")
    ax.set(xlim=(0, 100), ylim=(0, 102), aspect="equal")
    ax.set(xlabel="Mean confidence (%)", ylabel="Words that are right (%)")
    ax.legend(loc="best", fontsize=LABEL_PT)
    head = "Reliability of the confidence" if title is None else title
    ax.set_title(f"{head} (ECE {error:.1f} %, {len(scores)} words)", fontsize=11)
    return ax


def plot_intervals(
    labels: Sequence[str],
    values: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    *,
    ax: Axes | None = None,
    title: str | None = None,
    xlabel: str = "WER (%)",
) -> Axes:
    """A dot and its interval a group, the first on top.

    Parameters
    ----------
    labels : sequence of str
    values, lows, highs : sequence of float
        Drawn as they are, so in the unit of ``xlabel``: 100 times a rate for percent.
    ax : Axes, optional
    title : str, optional
    xlabel : str
        What the numbers are, with their unit.

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If the four are not of one length, or empty.

    Examples
    --------
    >>> ax = plot_intervals(["native", "foreign"], [10, 20], [8, 17], [12, 24])
    >>> [t.get_text() for t in ax.get_yticklabels()]
    ['native', 'foreign']
    >>> plt.close(ax.figure)
    """
    names = [str(label) for label in labels]
    middle, low, high = (np.array(list(c), float) for c in (values, lows, highs))
    sizes = [len(names), len(middle), len(low), len(high)]
    if len(set(sizes)) > 1 or not sizes[0]:
        raise PtlabError(
            f"{sizes[0]} labels, {sizes[1]} values, {sizes[2]} lows and {sizes[3]} highs; give as "
            "many of each, and at least one."
        )
    ax = axes_or_new(ax, 1.2 + 0.3 * max(sizes[0], 3))
    rows = range(sizes[0])
    ax.hlines(rows, low, high, color="black", linewidth=1.2)
    ax.plot(low, rows, "k|", high, rows, "k|", markersize=8)
    ax.plot(middle, rows, "ko", markersize=5)
    ax.set_yticks(rows, names)
    ax.set(ylim=(sizes[0] - 0.5, -0.5), xlabel=xlabel)
    ax.set_xlim(left=0 if low.min() >= 0 else None)
    ax.grid(axis="x", color="0.85", linewidth=0.6)
    ax.set_title("Values with their intervals" if title is None else title)
    return ax


def _wrap(widths: Sequence[float], room: float) -> list[list[int]]:
    """Indices of what goes on each line."""
    lines: list[list[int]] = [[]]
    used = 0.0
    for i, width in enumerate(widths):
        if lines[-1] and used + width > room:
            lines.append([])
            used = 0.0
        lines[-1].append(i)
        used += width
    return lines


def _write_edits(ax: Axes, edits: Sequence[Any], widths: Sequence[float], top: float) -> None:
    """A line of word pairs; coordinates are points."""
    heights = (top + 12, top + 29)
    for y, head in zip(heights, ("REF", "HYP"), strict=True):
        ax.text(0, y, head, size=8, va="center", family="monospace", color="0.3")
    x = 34.0
    for edit, width in zip(edits, widths, strict=True):
        for y, word in zip(heights, (edit.reference, edit.hypothesis), strict=True):
            if word:
                _write_edit(ax, word, edit.op, x + width / 2, y)
        if edit.op != "=":
            ax.text(x + width / 2, top + 46, edit.op, size=9, weight="bold", ha="center",
                    va="center")  # fmt: skip
        x += width


def _write_edit(ax: Axes, word: str, op: str, x: float, y: float) -> None:
    styles = {"S": "-", "D": "", "I": "--"}
    frame = None
    if styles.get(op):
        frame = {"boxstyle": "square,pad=0.15", "fc": "0.92", "ec": "black", "ls": styles[op]}
    ax.text(x, y, word, size=LABEL_PT, ha="center", va="center", bbox=frame)
    if op == "D":
        half = text_width_pt(word) / 2 + 1
        ax.plot([x - half, x + half], [y, y], color="black", linewidth=1.2)


def _error_title(edits: Sequence[Any]) -> str:
    counts = {op: sum(e.op == op for e in edits) for op in _KINDS}
    words = sum(e.op != "I" for e in edits)
    each = ", ".join(f"{counts[op]} {name} ({op})" for op, name in _KINDS.items())
    return f"{sum(counts.values())} errors in {words} words: {each}"


def _kind(reference: str, hypothesis: str) -> str:
    return _KINDS["I" if not reference else "D" if not hypothesis else "S"]


def _shown(text: str) -> str:
    return {"": "nothing", " ": "space"}.get(text, text)


def _legend_of_kinds(ax: Axes, kinds: Sequence[str]) -> None:
    if not kinds:
        ax.text(0.5, 0.5, "no errors", ha="center", va="center", transform=ax.transAxes)
        return
    patches = [Patch(facecolor="0.8", edgecolor="black", hatch=_HATCHES[k], label=k) for k in kinds]
    ax.legend(
        handles=patches, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(kinds),
        fontsize=LABEL_PT, frameon=False,
    )  # fmt: skip


def _wilson(share: np.ndarray, count: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson (1927) score interval of a share."""
    scale = 1 + z**2 / count
    middle = (share + z**2 / (2 * count)) / scale
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / scale
    return middle - half, middle + half
