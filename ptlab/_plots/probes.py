"""Look at layers, at what probes find in them, and at maps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt  # noqa: F401 (for the examples)
import numpy as np

from ptlab._plots.figures import CASING, FAINT, LABEL_PT, axes_or_new, text_width_pt
from ptlab.errors import PtlabError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "plot_det",
    "plot_frame_similarity",
    "plot_layer_sweep",
    "plot_layers",
    "plot_map",
]

_METRICS = {
    "macro_f1": "macro-F1 (%)",
    "balanced_accuracy": "balanced accuracy (%)",
    "accuracy": "accuracy (%)",
}
_LINES = ("--", ":", "-.", (0, (9, 2, 1, 2, 1, 2)), (0, (1, 4)), (0, (9, 3)))
_MARKERS = "os^Dv<>pP*Xhd8H"
_TICKS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9)
WORD_ROW_PT = 12
NAME_ROW_PT = 13  # from one name on a map to the next below it
_NAMED = 10  # classes with a name in the legend of a map


def plot_layers(
    frames: np.ndarray,
    times: np.ndarray,
    words: Any = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """One layer over time: each row is one of its numbers, standardised.

    Parameters
    ----------
    frames : ndarray (frames, hidden)
    times : ndarray (frames,)
        In seconds, as ``embeddings.times(n)`` gives them.
    words : DataFrame, optional
        With ``text`` and ``start_s``: a line and a word are written where each starts.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    PtlabError
        If the shapes do not fit.

    Examples
    --------
    >>> frames = np.random.default_rng(0).normal(size=(50, 8))
    >>> ax = plot_layers(frames, np.arange(50) * 0.02)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Time (s)', 'Number of the layer')
    >>> plt.close(ax.figure)
    """
    frames, edges = _checked(frames, times)
    scaled = (frames - frames.mean(axis=0)) / (frames.std(axis=0) + 1e-9)
    ax = axes_or_new(ax, 3.2)
    image = ax.imshow(
        scaled.T, aspect="auto", extent=(*edges, frames.shape[1] - 0.5, -0.5), cmap="Greys",
        vmin=-3, vmax=3, interpolation="nearest",
    )  # fmt: skip
    ax.figure.colorbar(image, ax=ax, label="Deviations from its mean", pad=0.01)
    ax.set(xlabel="Time (s)", ylabel="Number of the layer")
    _write_head(ax, "A layer over time" if title is None else title, words)
    return ax


def plot_frame_similarity(
    frames: np.ndarray,
    times: np.ndarray,
    words: Any = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Cosine of every frame of a recording with every other, their mean taken away; dark is alike.

    Parameters
    ----------
    frames, times, words, ax, title
        As for `plot_layers`.

    Returns
    -------
    Axes

    Examples
    --------
    >>> frames = np.random.default_rng(0).normal(size=(50, 8))
    >>> ax = plot_frame_similarity(frames, np.arange(50) * 0.02)
    >>> ax.get_xlabel() == ax.get_ylabel() == "Time (s)"
    True
    >>> plt.close(ax.figure)
    """
    frames, edges = _checked(frames, times)
    unit = frames - frames.mean(axis=0)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    ax = axes_or_new(ax, 4.4, width_in=5.6)
    image = ax.imshow(
        unit @ unit.T, extent=(*edges, edges[1], edges[0]), cmap="Greys", vmin=0, vmax=1,
        interpolation="nearest",
    )  # fmt: skip
    ax.figure.colorbar(image, ax=ax, label="Cosine", pad=0.02)
    ax.set(xlabel="Time (s)", ylabel="Time (s)")
    _write_head(ax, "Frames that are alike" if title is None else title, words)
    return ax


def plot_layer_sweep(
    sweep: Any,
    metric: str = "macro_f1",
    *,
    ax: Axes | None = None,
    title: str | None = None,
    chance: float | None = None,
) -> Axes:
    """Scores of the layers with their intervals, beside those of the controls.

    Parameters
    ----------
    sweep : LayerSweep
        From `ptlab.layer_sweep`; it must have its controls, or say why not.
    metric : {"macro_f1", "balanced_accuracy", "accuracy"}
    ax : Axes, optional
    title : str, optional
    chance : float, optional
        A thin line at this score, 0 to 1.

    Returns
    -------
    Axes

    Examples
    --------
    >>> from ptlab.probes import layer_sweep
    >>> x, y = np.random.default_rng(0).normal(size=(48, 3, 4)), np.arange(48) % 2
    >>> why = dict.fromkeys(("duration", "loudness", "MFCC", "random weights"), "made-up numbers")
    >>> ax = plot_layer_sweep(layer_sweep(x, y, np.arange(48) // 4, without=why))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Layer', 'macro-F1 (%)')
    >>> plt.close(ax.figure)
    """
    if metric not in _METRICS:
        raise PtlabError(f"metric={metric!r}; choose one of {', '.join(_METRICS)}.")
    table = sweep.to_frame()  # refuses if controls are missing
    layers = list(sweep.layers)
    place = np.arange(len(layers), dtype=float)
    values = 100 * table[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy(float)
    ax = axes_or_new(ax, 4.2)
    controls = [name for name in table.features.unique() if name != "probe"]
    for name, line in zip(controls, _LINES * 3, strict=False):
        rows = values[(table.features == name).to_numpy()]
        if len(rows) == len(layers) > 1:
            ax.errorbar(
                place + 0.12, rows[:, 0], _arms(rows), label=name, color="0.45", marker="s",
                markerfacecolor="white", linestyle="--", capsize=3,
            )  # fmt: skip
        else:
            value, low, high = rows[0]
            ax.axhline(value, color="0.3", linestyle=line, linewidth=1, label=name)
            if name == "MFCC":
                ax.axhspan(low, high, facecolor="0.9", edgecolor=FAINT, linewidth=0.6, zorder=0)
    rows = values[(table.features == "probe").to_numpy()]
    ax.errorbar(place, rows[:, 0], _arms(rows), color="black", marker="o", capsize=3, label="layer")
    if chance is not None:
        ax.axhline(100 * chance, color=FAINT, linewidth=0.8)
    ax.set_xticks(place, [str(layer) for layer in layers])
    ax.set(xlabel="Layer", ylabel=_METRICS[metric], ylim=(0, 102))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=LABEL_PT, frameon=False)
    ax.set_title("What each layer tells, with 95 % intervals" if title is None else title)
    return ax


def plot_det(results: dict[str, Any], *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Misses against false alarms on normal deviates, where curves of bell-shaped scores are lines.

    Parameters
    ----------
    results : dict of str to Verification
        From `ptlab.verify`. The band is the interval of the first.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> from ptlab.verification import make_trials, verify
    >>> rng, voices = np.random.default_rng(0), np.arange(40) // 4
    >>> result = verify(rng.normal(size=(40, 8)), voices, make_trials(voices), n_resamples=20)
    >>> ax = plot_det({"layer 1": result})
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('False alarms (%)', 'Misses (%)')
    >>> plt.close(ax.figure)
    """
    from scipy.stats import norm

    if not results:
        raise PtlabError("Nothing to draw; give a dict of names and what ptlab.verify returned.")
    ax = axes_or_new(ax, 4.6, width_in=6.4)
    for number, (name, result) in enumerate(results.items()):
        x = norm.ppf(result.false_alarms)
        y, low, high = (norm.ppf(np.clip(v, 1e-3, 1 - 1e-3)) for v in
                        (result.misses, result.low, result.high))  # fmt: skip
        shade = str(min(0.5, 0.2 * number))
        style = ("-", *_LINES)[number % (1 + len(_LINES))]
        ax.plot(x, y, color=shade, linestyle=style, label=f"{name}, EER {result.eer.value:.1%}")
        at = norm.ppf(np.clip(result.eer.value, 1e-3, 1 - 1e-3))
        ax.plot(at, at, marker=_MARKERS[number % len(_MARKERS)], color=shade)
        if not number:
            ax.fill_between(
                x, low, high, facecolor="0.88", edgecolor=FAINT, linewidth=0.6, zorder=0,
                label="its 95 % interval",
            )  # fmt: skip
    ends = norm.ppf([_TICKS[0], _TICKS[-1]])
    ax.plot(ends, ends, color=FAINT, linewidth=0.8, zorder=0)
    ticks, names = norm.ppf(_TICKS), [f"{100 * tick:g}" for tick in _TICKS]
    ax.set_xticks(ticks, names)
    ax.set_yticks(ticks, names)
    ax.set(xlim=(ends[0], norm.ppf(0.5)), ylim=tuple(ends))
    ax.set(xlabel="False alarms (%)", ylabel="Misses (%)")
    ax.legend(loc="upper right", fontsize=LABEL_PT)
    ax.set_title("Verification of voices" if title is None else title)
    return ax


def plot_map(
    points: np.ndarray,
    labels: Sequence[Any],
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Clips as points in the plane; a marker and a shade for each label.

    Parameters
    ----------
    points : ndarray (clips, 2)
        From any projection, such as scikit-learn's ``PCA(2)``.
    labels : sequence
        Of each clip; with more than ten the names stand at the middle of their points.
    ax : Axes, optional
    title : str, optional

    Returns
    -------
    Axes

    Examples
    --------
    >>> ax = plot_map(np.eye(2), ["pt", "es"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['es', 'pt']
    >>> plt.close(ax.figure)
    """
    points, labels = np.asarray(points, float), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) != len(labels):
        raise PtlabError(
            f"Points of shape {points.shape} and {len(labels)} labels; expected (clips, 2), and a "
            "label for each clip."
        )
    ax = axes_or_new(ax, 5.0, width_in=7.0)
    names = np.unique(labels)
    for number, name in enumerate(names):
        of_label = points[labels == name]
        shade = str(0.75 * (number % 4) / 3)
        ax.scatter(
            of_label[:, 0], of_label[:, 1], s=26, marker=_MARKERS[number % len(_MARKERS)],
            color=shade, edgecolors="black", linewidths=0.4, label=str(name),
        )  # fmt: skip
    if len(names) <= _NAMED:
        ax.legend(fontsize=LABEL_PT, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    else:
        _write_names(ax, {str(n): np.median(points[labels == n], axis=0) for n in names})
    ax.set(xticks=[], yticks=[], xlabel="First direction", ylabel="Second direction")
    ax.set_title("A map of clips" if title is None else title)
    return ax


def _write_names(ax: Axes, places: dict[str, np.ndarray]) -> None:
    """Each name at its place, or as much below as keeps it off those that stand above."""
    ax.autoscale_view()
    points_per_pixel = 72 / ax.figure.dpi
    middles = ax.transData.transform(list(places.values())) * points_per_pixel
    done: list[tuple[float, float, float]] = []  # middle, height and half the width of what stands
    for (name, place), (x, y) in sorted(
        zip(places.items(), middles, strict=True), key=lambda item: -item[1][1]
    ):
        half, low = text_width_pt(name) / 2 + 3, float(y)
        for other_x, other_y, other_half in done:
            if abs(x - other_x) < half + other_half and abs(low - other_y) < NAME_ROW_PT:
                low = other_y - NAME_ROW_PT
        done.append((float(x), low, half))
        ax.annotate(
            name, (place[0], place[1]), (0, low - y), textcoords="offset points", fontsize=8,
            ha="center", va="center",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": FAINT},
        )  # fmt: skip


def _checked(frames: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    frames, times = np.asarray(frames, float), np.asarray(times, float)
    if frames.ndim != 2 or len(frames) != len(times) or len(times) < 2:
        raise PtlabError(
            f"Frames of shape {frames.shape} and {len(times)} times; expected (frames, hidden) of "
            "one layer and a time for each of at least two frames: embed(..., pool=None)."
        )
    half = (times[1] - times[0]) / 2
    return frames, (times[0] - half, times[-1] + half)


def _write_head(ax: Axes, title: str, words: Any) -> None:
    """The title, above the words if there are any."""
    ax.set_title(title, pad=6 if words is None else 8 + 2 * WORD_ROW_PT)
    if words is None:
        return
    for number, word in enumerate(words.itertuples()):
        ax.axvline(word.start_s, color="black", linestyle=":", linewidth=0.7, path_effects=CASING)
        height = 3 + WORD_ROW_PT * (number % 2)  # by turns, as short words are close together
        ax.annotate(
            word.text, (word.start_s, 1), xycoords=ax.get_xaxis_transform(), xytext=(2, height),
            textcoords="offset points", fontsize=LABEL_PT, annotation_clip=False,
        )  # fmt: skip


def _arms(rows: np.ndarray) -> np.ndarray:
    return np.abs(rows[:, 1:].T - rows[:, 0])
