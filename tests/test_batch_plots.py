"""What the drawings of a batch hold: every second of sound and padding, and the right order."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from ptlab._plots import batch as batch_plots
from ptlab.errors import PtlabError

BATCHES = [[1.0, 4.0, 2.5], [3.0, 3.0]]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def widths(ax, hatched):
    return [p.get_width() for p in ax.patches if bool(p.get_hatch()) is hatched]


def drawings():
    return {
        "padding": batch_plots.plot_padding(BATCHES),
        "bars": batch_plots.plot_bars(["a", "b"], {"sound": [3, 3], "padding": [2, 0]}),
        "listening_order": batch_plots.plot_listening_order([0.9, 0.2], [1, 3], [2, 4]),
        "throughput": batch_plots.plot_throughput([1, 2, 60], [0.1, 0.3, 5]),
    }


def test_every_plot_has_a_title_labels_with_units_and_no_need_of_colour():
    assert {f"plot_{name}" for name in drawings()} == set(batch_plots.__all__)
    for name, ax in drawings().items():
        assert ax.get_title() or ax.get_title(loc="left"), name
        assert "(" in ax.get_xlabel(), name
        assert ax.get_ylabel() or ax.get_yticklabels()[0].get_text(), name
        for patch in ax.patches:
            assert len(set(to_rgb(patch.get_facecolor()))) == 1, name
        assert all(len(set(to_rgb(line.get_color()))) == 1 for line in ax.lines), name


def test_padding_is_what_is_missing_to_the_longest_of_the_batch():
    ax = batch_plots.plot_padding(BATCHES)
    assert widths(ax, hatched=False) == [1.0, 4.0, 2.5, 3.0, 3.0]
    assert widths(ax, hatched=True) == [3.0, 0.0, 1.5, 0.0, 0.0]
    rectangles = sum(len(b) * max(b) for b in BATCHES)
    sound = sum(map(sum, BATCHES))
    assert sum(widths(ax, True)) + sum(widths(ax, False)) == rectangles
    assert f"{100 * (rectangles - sound) / rectangles:.0f} %" in ax.get_title()
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == ["batch 1", "batch 2"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first is on top


def test_bars_are_stacked_and_their_sum_is_written():
    ax = batch_plots.plot_bars(["a", "b"], {"x": [3, 1], "y": [2, 0.5], "z": [0, 0.25]})
    assert [t.get_text() for t in ax.texts] == ["5.0", "1.8"]
    assert [p.get_x() for p in ax.patches] == [0, 0, 3, 1, 5, 1.5]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["x", "y", "z"]
    fills = {(to_rgb(p.get_facecolor()), p.get_hatch()) for p in ax.patches}
    assert len(fills) == 3
    assert max(t.xy[0] for t in ax.texts) < ax.get_xlim()[1]
    assert batch_plots.plot_bars(["a"], {"x": [1]}).get_legend() is None
    frame = pd.DataFrame({"x": [3, 1], "y": [2, 0.5]}, index=["a", "b"])
    assert [t.get_text() for t in batch_plots.plot_bars(frame.index, frame).texts] == ["5.0", "1.5"]


def test_order_of_listening_is_that_of_the_scores_and_the_best_is_never_worse():
    rng = np.random.default_rng(0)
    scores, errors, seconds = rng.random(30), rng.integers(0, 9, 30), 1 + 9 * rng.random(30)
    ours, best, average = batch_plots.plot_listening_order(scores, errors, seconds).lines
    first = np.argmin(scores)
    assert ours.get_xdata()[1] == pytest.approx(100 * seconds[first] / seconds.sum())
    assert ours.get_ydata()[1] == pytest.approx(100 * errors[first] / errors.sum())
    for line in (ours, best, average):
        assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (pytest.approx(100),) * 2
    at = np.linspace(0, 100, 50)
    reached = [np.interp(at, line.get_xdata(), line.get_ydata()) for line in (ours, best, average)]
    assert (reached[1] >= reached[0] - 1e-9).all() and (reached[1] >= reached[2] - 1e-9).all()


def test_line_of_the_speed_is_all_audio_by_all_time():
    ax = batch_plots.plot_throughput([2, 6], [1, 1])
    line = ax.lines[1]
    assert "4 times real time" in line.get_label()
    np.testing.assert_allclose(line.get_xdata() / line.get_ydata(), 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_plots.plot_padding([[], []]), "no batches"),
        (lambda: batch_plots.plot_bars(["a"], {"x": [1, 2]}), "1 labels and parts of .2. numbers"),
        (lambda: batch_plots.plot_bars([], {}), "one to 4 parts"),
        (lambda: batch_plots.plot_bars(["a"], {n: [1] for n in "vwxyz"}), "one to 4 parts"),
        (lambda: batch_plots.plot_listening_order([1], [1, 2], [1]), "1 scores, 2 errors"),
        (lambda: batch_plots.plot_listening_order([1], [0], [1]), "at least one error"),
        (lambda: batch_plots.plot_throughput([1, 2], [1]), "2 lengths and 1 times"),
        (lambda: batch_plots.plot_throughput([1], [0]), "all above 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(PtlabError, match=message):
        call()
    assert not plt.get_fignums()
