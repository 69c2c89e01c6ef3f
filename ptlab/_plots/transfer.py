"""Look at what pre-training is worth where there is little speech with text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt  # noqa: F401 (for the examples)
import numpy as np

from ptlab._plots.figures import axes_or_new
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_transfer"]

_STYLES = (("o", "-", "black"), ("s", "--", "0.35"), ("^", ":", "0.55"), ("D", "-.", "0.2"))
_METRICS = {"wer": "WER (%)", "cer": "CER (%)"}
_APART = 1.04  # factor between the points of two starts, so that their intervals do not overlap


def plot_transfer(
    results: Mapping[str, Any],
    metric: str = "wer",
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Error rate against minutes of speech with text, a line a start, with intervals.

    Parameters
    ----------
    results : mapping
        Contents of ``data/results/transfer.json``, or at least ``{"cells": [{"start": str,
        "minutes": number, "wer": [value, low, high], "cer": ...}, ...]}`` in per cent.
    metric : {"wer", "cer"}
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If there are no cells, too many starts, or the metric is not one of the two.

    Examples
    --------
    >>> cells = [{"start": "random", "minutes": m, "wer": [99, 98, 100]} for m in (1, 10)]
    >>> ax = plot_transfer({"cells": cells})
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Portuguese speech with text (minutes)', 'WER (%)')
    >>> plt.close(ax.figure)
    """
    if metric not in _METRICS:
        raise PtlabError(f"Metric {metric!r}; choose 'wer' or 'cer'.")
    cells = results.get("cells") or []
    starts = list(dict.fromkeys(cell["start"] for cell in cells))
    if not 0 < len(starts) <= len(_STYLES):
        raise PtlabError(
            f"{len(starts)} starts in the results; expected 1 to {len(_STYLES)}. Give what "
            "data/recipes/transfer.py writes."
        )
    ax = axes_or_new(ax, 4.0)
    for number, (start, style) in enumerate(zip(starts, _STYLES, strict=False)):
        chosen = sorted((c["minutes"], *c[metric]) for c in cells if c["start"] == start)
        minutes, value, low, high = np.array(chosen, dtype=float).T
        shift = _APART ** (number - (len(starts) - 1) / 2)
        marker, line, colour = style
        errors = [(value - low).tolist(), (high - value).tolist()]
        ax.errorbar(
            minutes * shift, value, errors, label=start, marker=marker,
            linestyle=line, color=colour, capsize=3,
        )  # fmt: skip
    ticks = sorted({cell["minutes"] for cell in cells})
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="Portuguese speech with text (minutes)", ylabel=_METRICS[metric], ylim=(0, None))
    ax.legend(title="weights at the start")
    ax.set_title(title or f"{_METRICS[metric][:3]} after fine-tuning, with 95 % intervals")
    return ax
