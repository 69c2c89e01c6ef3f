"""Figures and widgets for everybody: contrast (WCAG 2.2, AA), no need of colour, names, keyboard.

The rules for the prose of the notebooks are in ``notebook_rules``.
"""

from __future__ import annotations

import re
from itertools import combinations
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import Collection, LineCollection, PathCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.container import BarContainer, Container
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text

from ptlab import live_widget, map_widget, plots, widgets
from ptlab._stream.events import Final, Partial
from ptlab.metrics import confusions
from ptlab.probes import layer_sweep
from ptlab.stream_log import Step, StreamLog
from ptlab.text import VOCABULARY, encode
from ptlab.transcription import Word
from ptlab.verification import make_trials, verify

TEXT, GRAPHIC = 4.5, 3.0  # WCAG 2.2: 1.4.3 for text, 1.4.11 for what else must be seen
GREYS = [str(g) for g in np.linspace(0, 1, 101)]  # what may lie under a line over a heat map


def luminance(colour):
    """Relative luminance, as WCAG 2.2 defines it."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def seen(colours, backgrounds):
    """The contrast of the best of the colours where the background is worst for them."""
    return min(max(contrast(c, b) for c in colours) for b in backgrounds)


def test_contrast_is_that_of_wcag():
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#777", "white") == pytest.approx(4.48, abs=0.005)  # known to fail by a hair
    assert contrast("#767676", "white") == pytest.approx(4.54, abs=0.005)  # and to pass
    assert contrast("red", "white") == pytest.approx(4.0, abs=0.005)


# -- every figure of the package


def drawings():
    """Axes of every function of ``plots``, each with as many series as it can tell apart."""
    rng, voices = np.random.default_rng(0), np.arange(48) // 4
    words = [("bom", 0.1, 0.4), ("dia", 0.5, 0.9)]
    waveform, matrix = 0.1 * rng.normal(size=16_000), rng.normal(size=(40, len(VOCABULARY)))
    matrix = matrix - np.logaddexp.reduce(matrix, axis=1, keepdims=True)
    frames, times = rng.normal(size=(40, 8)), np.arange(40) * 0.02
    spoken = pd.DataFrame(words, columns=["text", "start_s", "end_s"])
    controls = {
        "MFCC": rng.normal(size=(48, 5)),
        "random weights": rng.normal(size=(48, 3, 4)),
        "duration": rng.normal(size=(48, 1)),
        "loudness": rng.normal(size=(48, 1)),
    }
    sweep = layer_sweep(rng.normal(size=(48, 3, 4)), np.arange(48) % 2, voices, controls=controls)
    verified = verify(rng.normal(size=(48, 8)), voices, make_trials(voices), n_resamples=5)
    cells = [
        {"start": start, "minutes": m, "wer": [50, 40, 60]} for start in "abcd" for m in (1, 9)
    ]
    table = pd.DataFrame(
        [[group, "1 s", 0.5 + i, 0.5 - 0.1 * i] for group in "abcd" for i in range(2)],
        columns=["group", "label", "latency_s", "wer"],
    )
    logs = {name: log() for name in "abcd"}
    history = [{"step": s, "loss": 2, "validation_loss": 2, "wer": 1, "cer": 0.5} for s in (1, 2)]
    found = {
        "plot_waveform": plots.plot_waveform(waveform, words),
        "plot_spectrogram": plots.plot_spectrogram(waveform, words),
        "plot_log_probs": plots.plot_log_probs(matrix, VOCABULARY),
        "plot_alignment": plots.plot_alignment(matrix, encode("oi"), VOCABULARY),
        "plot_errors": plots.plot_errors("a b c d", "a x d e"),
        "plot_confusions": plots.plot_confusions(confusions(["ó", "e", ""], ["ô", "", "a"])),
        "plot_reliability": plots.plot_reliability(rng.random(60), np.arange(60) % 3 > 0),
        "plot_intervals": plots.plot_intervals(["a"], [1], [0], [2]),
        "plot_receptive_field": plots.plot_receptive_field(
            SimpleNamespace(conv_kernel=(10, 3, 3), conv_stride=(5, 2, 2))
        ),
        "plot_pretraining": plots.plot_pretraining(),
        "plot_asr_overview": plots.plot_asr_overview(),
        "plot_padding": plots.plot_padding([[1.0, 4.0], [2.0, 3.0]]),
        "plot_bars": plots.plot_bars(["a"], {name: [1.0] for name in "abcd"}),
        "plot_listening_order": plots.plot_listening_order([0.9, 0.2], [1, 3], [2, 4]),
        "plot_throughput": plots.plot_throughput([1, 2, 60], [0.1, 0.3, 5]),
        "plot_transfer": plots.plot_transfer({"cells": cells}),
        "plot_training": plots.plot_training(history),
        "plot_layers": plots.plot_layers(frames, times, spoken),
        "plot_frame_similarity": plots.plot_frame_similarity(frames, times, spoken),
        "plot_layer_sweep": plots.plot_layer_sweep(sweep, chance=0.5),
        "plot_det": plots.plot_det({f"layer {n}": verified for n in range(6)}),
        "plot_map": plots.plot_map(rng.normal(size=(40, 2)), np.arange(40) % 10),
        "plot_timeline": plots.plot_timeline(logs),
        "plot_flicker": plots.plot_flicker(logs),
        "plot_tradeoff": plots.plot_tradeoff(table, offline=0.4),
        "plot_step_cost": plots.plot_step_cost(logs),
        "plot_runtimes": plots.plot_runtimes(comparison()),
        "plot_sensitivity": plots.plot_sensitivity(
            SimpleNamespace(
                method="int8_dynamic",
                to_frame=lambda: pd.DataFrame({"difference": [1.0], "saved_mb": [2.0]}, ["a"]),
            )
        ),
    }
    return {name: list(np.ravel(axes)) for name, axes in found.items()}


def log():
    """A stream with a word of every kind: tentative, committed, refined."""
    words = tuple(Word(text, i, i + 0.5, 0.9) for i, text in enumerate(("bom", "dia")))
    early = Partial(words, 1, 0, audio_s=1.0, emitted_s=1.0)
    last = Final(words, "", (), 0, 0.0, 4.0, audio_s=4.0, emitted_s=4.0)
    return StreamLog((early, last), (Step(0.5, 0.5, 0.1), Step(1.0, 0.5, 0.2)), 4.0, "audio")


def comparison():
    quality = pd.DataFrame(
        [[0.0, -0.1, 0.1, "reference"], [0.1, 0.0, 0.2, "not shown"]], ["whole", "int8"],
        columns=["wer_change", "wer_low", "wer_high", "verdict"],
    )  # fmt: skip
    speeds = pd.DataFrame(
        [[m, t, 5, 0.2, 0.1, 0.3] for m in quality.index for t in (1, 2, 3, 4)],
        columns=["model", "threads", "length_s", "rtf", "rtf_min", "rtf_max"],
    )
    models = pd.DataFrame({"size_mb": [28.0, 9.0]}, quality.index)
    costs = SimpleNamespace(speeds=speeds, models=models)
    return SimpleNamespace(quality=quality, costs=costs, margin=0.1, reference="whole")


@pytest.fixture(scope="module")
def figures():
    with plt.rc_context({"figure.max_open_warning": 0}):
        yield drawings()
    plt.close("all")


@pytest.fixture(params=plots.__all__)
def axes(request, figures):
    return figures[request.param]


def stroke(line):
    """Colours by which a line is seen: its own, those of its markers, and its white casing."""
    colours = []
    if line.get_linestyle() not in ("None", "none", ""):
        colours.append(line.get_color())
    if line.get_marker() not in ("None", "none", "", None):
        colours += [line.get_markeredgecolor(), line.get_markerfacecolor()]
    for effect in line.get_path_effects():
        colours.append(getattr(effect, "_gc", {}).get("foreground", line.get_color()))
    return [c for c in colours if not isinstance(c, str) or c != "none"]


def outlines(artist):
    """Edges of what is filled; its hatch has their colour."""
    colours = [artist.get_edgecolor()]
    if not isinstance(artist, LineCollection):
        colours.append(artist.get_facecolor())
    return [on_white(c) for some in colours for c in np.atleast_2d(some) if len(c) and c[-1] > 0]


def on_white(colour):
    *channels, opacity = to_rgba(colour)
    return tuple(opacity * np.array(channels) + 1 - opacity)


def test_lines_stand_out(axes):
    for ax in axes:
        backgrounds = GREYS if ax.images else ["white"]
        for line in ax.lines:
            assert seen(stroke(line), backgrounds) >= GRAPHIC, (line, line.get_color())


def test_edges_stand_out(axes):
    for ax in axes:
        for artist in [*ax.patches, *ax.collections]:
            if artist.get_visible() and len(outlines(artist)):
                assert seen(outlines(artist), ["white"]) >= GRAPHIC, artist


def under(text, ax):
    """Colour behind a text: its box, the last patch that holds it, or the page."""
    box = text.get_bbox_patch()
    if box is not None:
        return box.get_facecolor()
    if isinstance(text, Annotation):
        return "white"
    place = text.get_transform().transform(text.get_position())
    holding = [p for p in ax.patches if p.get_window_extent().contains(*place)]
    filled = [p.get_facecolor() for p in holding if p.get_facecolor()[-1] > 0]
    return filled[-1] if filled else "white"


def test_texts_can_be_read(axes):
    for ax in axes:
        for text in ax.findobj(Text):
            if text.get_text().strip() and text.get_visible():
                reading = contrast(text.get_color(), under(text, ax))
                assert reading >= TEXT, text.get_text()


def test_nothing_is_told_by_hue(axes):
    """All is grey but the path through a heat map, which is a line with dots in any light."""
    for ax in axes:
        for artist in ax.findobj(lambda a: isinstance(a, Line2D | Patch | Collection | Text)):
            if isinstance(artist, Line2D):
                colours = stroke(artist)
            else:
                colours = [artist.get_color()] if isinstance(artist, Text) else outlines(artist)
            for colour in colours:
                grey = np.ptp(to_rgb(colour)) < 1e-6
                assert grey or to_rgba(colour) == to_rgba(plots.PATH_COLOUR), artist
        for image in ax.images:
            shades = image.cmap(np.linspace(0, 1, 32))[:, :3]
            assert np.ptp(shades, axis=1).max() < 1e-6  # grey
            assert (np.diff(shades.mean(axis=1)) <= 1e-6).all()  # ever darker


def series(ax):
    """What the legend of a plot, or its bars, must tell apart."""
    handles = ax.get_legend_handles_labels()[0]
    if not handles and ax.get_legend():
        handles = ax.get_legend().legend_handles
    return [first(handle) for handle in handles]


def first(handle):
    if isinstance(handle, BarContainer):
        return handle.patches[0]
    return handle.lines[0] if isinstance(handle, Container) else handle


def differ(one, other):
    """Whether two series can be told apart by somebody who sees no colour."""
    if kind(one) is not kind(other):
        return True
    if isinstance(one, Line2D):
        widths = sorted((one.get_linewidth(), other.get_linewidth()))
        return (
            one.get_marker() != other.get_marker()
            or widths[1] >= 2 * widths[0]
            or dashes_differ(one, other)
        )
    if isinstance(one, PathCollection):
        return not np.array_equal(one.get_paths()[0].vertices, other.get_paths()[0].vertices)
    filled = contrast(one.get_facecolor(), other.get_facecolor()) >= GRAPHIC
    return one.get_hatch() != other.get_hatch() or dashes_differ(one, other) or filled


def kind(artist):
    known = (k for k in (Line2D, Patch, PathCollection) if isinstance(artist, k))
    return next(known, type(artist))


def dashes_differ(one, other):
    """By the number of strokes, by 1.5 in their length, or by a quarter in the ink."""
    a, b = (line._unscaled_dash_pattern[1] for line in (one, other))
    if a is None or b is None:
        return a is not b
    ink = abs(sum(a[::2]) / sum(a) - sum(b[::2]) / sum(b))
    return len(a) != len(b) or max(sum(a) / sum(b), sum(b) / sum(a)) >= 1.5 or ink >= 0.25


def test_series_can_be_told_apart_without_colour(axes):
    for ax in axes:
        for one, other in combinations(series(ax), 2):
            assert differ(one, other), (one, other)


def test_every_figure_is_looked_at(figures):
    assert set(figures) == set(plots.__all__)
    counts = {name: max(len(series(ax)) for ax in axes) for name, axes in figures.items()}
    assert counts["plot_bars"] == counts["plot_transfer"] == counts["plot_flicker"] == 4
    assert counts["plot_layer_sweep"] == counts["plot_det"] - 1 == 6
    assert counts["plot_timeline"] == counts["plot_confusions"] == 3 and counts["plot_map"] == 10


def test_what_cannot_be_seen_is_found():
    """The checks themselves: a pale line, a red one beside a green one, grey on grey."""
    _, ax = plt.subplots()
    [pale] = ax.plot([0, 1], color="0.6")
    [red], [green] = ax.plot([0, 1], "r-"), ax.plot([0, 1], "g-")
    [dashed] = ax.plot([0, 1], "r--")
    assert seen(stroke(pale), ["white"]) < GRAPHIC <= seen(stroke(red), ["white"])
    assert not differ(red, green) and differ(red, dashed)
    one, other, hatched = ax.bar([0, 1, 2], 1, color=["0.8", "0.6", "0.6"], hatch=["", "", "//"])
    assert not differ(one, other) and differ(other, hatched)
    assert contrast("0.45", under(ax.text(0, 0.5, "x"), ax)) < TEXT
    plt.close(ax.figure)


# -- widgets

SCRIPTS = {
    "recorder": widgets.Recorder._esm,
    "live": live_widget.LiveCaptions._esm,
    "map": map_widget.SoundMap._esm,
}
CREATED = re.compile(
    r'const (\w+) = (?:document\.createElement|element)\((?:\w+, )?"'
    r'(button|audio|meter|input|select|textarea)"(.*)'
)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_every_control_has_a_name(script):
    created = CREATED.findall(script)
    for name, _, rest in created:
        assert "textContent" in rest or f'{name}.setAttribute("aria-label"' in script, name
    assert created


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_what_can_be_clicked_can_be_reached_by_keyboard(script):
    buttons = {name for name, tag, _ in CREATED.findall(script) if tag == "button"}
    for name in re.findall(r'(?:page\.)?(\w+)(?:\.onclick =|\.addEventListener\("click")', script):
        keys = f'{name}.addEventListener("keydown"' in script and '"tabindex", "0"' in script
        assert name in buttons or keys, name


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_what_changes_by_itself_is_spoken(script):
    assert re.search(r'setAttribute\("(aria-live|role)", "(polite|status|log)"\)', script)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_no_button_loses_the_focus_by_being_disabled(script):
    assert ".disabled =" not in script  # Space would stop no recording that Enter has begun


def test_the_map_can_be_seen():
    css, script = map_widget.SoundMap._css, SCRIPTS["map"]
    paper = re.search(r"background: (#\w+)", css)[1]
    for colour in re.findall(r"(?:stroke|outline): (?:2px solid )?(#\w+)", css):
        assert contrast(colour, paper) >= GRAPHIC
    plain, chosen = re.findall(r"stroke: (#\w+)", css)
    assert contrast(plain, chosen) >= GRAPHIC  # and the chosen one has the wider edge
    fills = re.findall(r'"(#\w+)"', re.search(r"FILLS = \[(.*?)\]", script)[1])
    assert all(contrast(a, b) >= GRAPHIC for a, b in combinations(fills, 2))
    assert "outline: none" not in css


def test_the_captions_take_the_colours_of_the_page():
    """So that they can be read in a dark theme too; only the meter has colours of its own."""
    for css in (live_widget.LiveCaptions._css, widgets.Recorder._css):
        assert not re.search(r"color: *(#|rgb|[a-z]+;)", css)
