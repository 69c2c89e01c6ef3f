"""What drawings of streams hold: every word while it is shown, what is taken back, true costs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from ptlab._plots import streams as stream_plots
from ptlab._stream.events import Commit, Final, Partial
from ptlab.errors import PtlabError
from ptlab.stream_log import Step, StreamLog
from ptlab.streaming_metrics import streaming_metrics
from ptlab.transcription import Word


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def words(text):
    return tuple(Word(w, i, i + 0.5, 0.9) for i, w in enumerate(text.split()))


def partial(text, stable, at, utterance=0):
    return Partial(words(text), stable, utterance, audio_s=at, emitted_s=at)


def final(text, at, utterance=0):
    return Final(words(text), "", (), utterance, 0.0, at, audio_s=at, emitted_s=at)


EVENTS = (
    partial("a caça", 0, 1.0),
    partial("a casa", 1, 2.0),
    Commit(words("casa"), 0, audio_s=2.5, emitted_s=2.5),
    partial("a casa", 2, 3.0),
    final("a casa", 4.0),
    partial("é", 0, 5.0, utterance=1),
    final("é azul", 6.0, utterance=1),
)
STEPS = tuple(Step(0.5 * n, 0.5, 0.01 * n) for n in range(1, 13))
LOG = StreamLog(EVENTS, STEPS, 6.0, "audio")
TABLE = pd.DataFrame(
    [["naive", "1 s", 0.5, 0.8], ["naive", "2 s", 1.0, 0.6], ["buffered", "0.5 s", 0.8, 0.45]],
    columns=["group", "label", "latency_s", "wer"],
)


def drawings():
    return {
        "timeline": stream_plots.plot_timeline({"one": LOG, "two": LOG}),
        "flicker": stream_plots.plot_flicker({"one": LOG, "two": LOG}),
        "tradeoff": stream_plots.plot_tradeoff(TABLE, offline=0.4),
        "step_cost": stream_plots.plot_step_cost({"one": LOG}),
    }


def test_every_plot_has_a_title_labels_with_units_and_no_need_of_colour():
    assert {f"plot_{name}" for name in drawings()} == set(stream_plots.__all__)
    for name, ax in drawings().items():
        assert ax.get_title() or ax.get_title(loc="left"), name
        assert "(s)" in ax.get_xlabel(), name
        assert ax.get_ylabel() or ax.get_yticklabels()[0].get_text(), name
        for patch in ax.patches:
            assert len(set(to_rgb(patch.get_facecolor()))) == 1, name
        assert all(len(set(to_rgb(line.get_color()))) == 1 for line in ax.lines), name
        looks = [(str(v._dash_pattern), v.get_marker(), v.get_linewidth()) for v in ax.lines]
        if name != "timeline":
            assert len(set(looks)) == len(looks), name  # told apart without colour


def spans(ax):
    """(row, from, to) of every word, and the words in the same order."""
    boxes = [
        (round(p.get_y() + p.get_height() / 2), p.get_x(), round(p.get_x() + p.get_width(), 6))
        for p in ax.patches
    ]
    return dict(zip(boxes, [t.get_text() for t in ax.texts], strict=True))


def test_a_word_is_drawn_from_when_it_is_shown_until_it_changes():
    drawn = spans(stream_plots.plot_timeline({"one": LOG}))
    end = round(1.15 * 6.0, 6)
    assert drawn == {
        (0, 1.0, 2.0): "a", (0, 2.0, 4.0): "a", (0, 4.0, end): "a",
        (1, 1.0, 2.0): "caça", (1, 2.0, 3.0): "casa", (1, 3.0, 4.0): "casa",
        (1, 4.0, end): "casa",
        (2, 5.0, 6.0): "é", (2, 6.0, end): "é", (3, 6.0, end): "azul",
    }  # fmt: skip


def test_what_may_change_what_stays_and_what_was_refined_look_different():
    ax = stream_plots.plot_timeline({"one": LOG})
    looks = {}
    for patch, text in zip(ax.patches, ax.texts, strict=True):
        looks.setdefault((to_rgb(patch.get_facecolor())[0], patch.get_linestyle()), []).append(text)
    assert len(looks) == 3
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "tentative", "committed", "refined",
    ]  # fmt: skip


def test_streams_stand_below_each_other_and_a_word_gone_leaves_its_row():
    shorter = StreamLog((partial("a b", 0, 1.0), partial("a", 0, 2.0)), (), 3.0, "audio")
    ax = stream_plots.plot_timeline({"one": LOG, "two": shorter})
    below = {box: word for box, word in spans(ax).items() if box[0] > 4}
    assert below == {(5, 1.0, 6.9): "a", (6, 1.0, 2.0): "b"}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["one", "two"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first is on top


def test_a_long_word_in_a_short_time_is_shortened_to_fit():
    events = (partial("inconstitucional", 0, 1.0), partial("b", 0, 1.5))
    ax = stream_plots.plot_timeline({"one": StreamLog(events, (), 6.0, "audio")})
    text = ax.texts[0].get_text()
    assert text.endswith("…") and "inconstitucional".startswith(text[:-1])


def test_flicker_ends_at_the_normalised_erasure():
    line = stream_plots.plot_flicker({"one": LOG}).lines[0]
    truth = pd.DataFrame({"text": ["a"], "start_s": [0.0], "end_s": [0.5]})
    erasure = streaming_metrics(LOG, truth, "a").erasure
    assert line.get_ydata()[-1] / 4 == pytest.approx(erasure) != 0  # four words in the finals
    assert line.get_xdata()[-1] == LOG.duration_s
    assert np.all(np.diff(line.get_ydata()) >= 0)
    assert "one: 1" in line.get_label()


def test_tradeoff_has_a_point_for_every_row_and_a_line_for_the_whole_file():
    ax = stream_plots.plot_tradeoff(TABLE, offline=0.4)
    points = [xy for line in ax.lines[:-1] for xy in line.get_xydata().tolist()]
    assert points == [pytest.approx([s, 100 * w]) for s, w in TABLE[["latency_s", "wer"]].values]
    assert set(ax.lines[-1].get_ydata()) == {40.0}
    assert [t.get_text() for t in ax.texts] == ["1 s", "2 s", "0.5 s"]


def test_labels_of_neighbours_can_be_read():
    rows = [["a", "chunk 1 s", 1.04, 0.19], ["b", "right 1 s", 1.25, 0.19], ["b", "", 1.1, 0.19]]
    near = pd.DataFrame([*rows, ["c", "naive 9 s", 2.0, 0.7]], columns=TABLE.columns)
    texts = stream_plots.plot_tradeoff(near).texts
    assert [t.get_text() for t in texts] == ["chunk 1 s", "right 1 s", "naive 9 s"]
    first, second, _ = (t.get_window_extent() for t in texts)
    assert not first.overlaps(second)


def test_real_time_is_a_chunk():
    ax = stream_plots.plot_step_cost({"one": LOG})
    assert ax.lines[0].get_ydata() == pytest.approx([10.0 * n for n in range(1, 13)])
    assert set(ax.lines[-1].get_ydata()) == {500.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stream_plots.plot_timeline({}), "No stream said anything"),
        (
            lambda: stream_plots.plot_timeline({"a": StreamLog((), STEPS, 6.0, "audio")}),
            "No stream said anything",
        ),
        (lambda: stream_plots.plot_flicker({}), "nothing to draw"),
        (
            lambda: stream_plots.plot_step_cost({"a": StreamLog(EVENTS, (), 6.0, "audio")}),
            "nothing to draw",
        ),
        (lambda: stream_plots.plot_tradeoff(TABLE.drop(columns="wer")), "3 rows without .'wer'"),
        (lambda: stream_plots.plot_tradeoff(TABLE[:0]), "table of 0 rows"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(PtlabError, match=message):
        call()
    assert not plt.get_fignums()
