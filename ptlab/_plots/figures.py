"""The size of the course's pictures and of their words, and a new figure of that size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "CASING",
    "FAINT",
    "LABEL_PT",
    "WIDTH_IN",
    "axes_or_new",
    "axes_width_in",
    "text_width_pt",
]

WIDTH_IN = 9.0  # inches: 900 pixels at 100 dots an inch
LABEL_PT = 9.0  # size of a word
FAINT = "0.55"  # the lightest line: 3.3 to 1 on white, of 3 that WCAG 2.2 asks for (1.4.11)
CASING = (withStroke(linewidth=2.4, foreground="white"),)  # lines over a picture: seen on black too


def axes_or_new(ax: Axes | None, height_in: float, width_in: float = WIDTH_IN) -> Axes:
    """The ``Axes`` that is given, or one in a new figure.

    Examples
    --------
    >>> ax = axes_or_new(None, 2.5)
    >>> ax.figure.get_size_inches().tolist(), axes_or_new(ax, 9.0) is ax
    ([9.0, 2.5], True)
    >>> plt.close(ax.figure)
    """
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width_in, height_in), layout="constrained")[1]


def axes_width_in(ax: Axes) -> float:
    """Width of the axes in inches."""
    return ax.bbox.width / ax.figure.dpi


def text_width_pt(text: str) -> float:
    """Width of a word in points, drawn at ``LABEL_PT``.

    Examples
    --------
    >>> text_width_pt(""), text_width_pt("mm") > text_width_pt("ll")
    (0.0, True)
    """
    return float(TextPath((0, 0), text, size=LABEL_PT).get_extents().width) if text else 0.0
