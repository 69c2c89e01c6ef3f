"""What the drawings hold: labels, every word and token, the path of CTC, and no need of colour."""

import warnings
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch

from ptlab import ctc, plots
from ptlab._plots import errors as error_plots
from ptlab._plots import probes as probe_plots
from ptlab._plots import runtimes as runtime_plots
from ptlab._plots import streams as stream_plots
from ptlab._plots.figures import axes_width_in
from ptlab.audio import load_audio
from ptlab.errors import AlignmentError, PtlabError
from ptlab.metrics import align_words, confusions, ece, reliability
from ptlab.text import VOCABULARY, encode
from ptlab.transcription import Timing, Transcription, Word

WORDS = (Word("avó", 0.1, 0.4, 0.9), Word("não", 0.45, 0.8, 0.7), Word("coração", 0.8, 1.5, 0.5))
TIMES = [(w.text, w.start_s, w.end_s) for w in WORDS]
XLSR = SimpleNamespace(conv_kernel=(10, 3, 3, 3, 3, 2, 2), conv_stride=(5, 2, 2, 2, 2, 2, 2))
SCORES, CORRECT = np.linspace(0.05, 0.95, 60), np.arange(60) % 3 > 0


@pytest.fixture(autouse=True)
def untouched():
    """No figure is left open, no global setting changed, nothing shown, no glyph missing."""
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
    plt.close("all")
    assert dict(matplotlib.rcParams) == before


def matrix_of(text, frames=40, seed=0):
    """Log-probs whose greedy text is ``text``: each letter two frames, blanks between."""
    logits = np.random.default_rng(seed).normal(size=(frames, len(VOCABULARY)))
    logits[:, 0] += 7
    for i, token in enumerate(encode(text)):
        logits[2 + 3 * i : 4 + 3 * i, token] += 14
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def ticks(ax):
    return [t.get_text() for t in ax.get_yticklabels()]


def drawings(waveform):
    matrix = matrix_of("não é")
    return {
        "waveform": plots.plot_waveform(waveform, WORDS),
        "spectrogram": plots.plot_spectrogram(waveform, WORDS),
        "log_probs": plots.plot_log_probs(matrix, VOCABULARY),
        "alignment": plots.plot_alignment(matrix, encode("não é"), VOCABULARY),
        "confusions": plots.plot_confusions(confusions(["avó a"], ["avô"])),
        "reliability": plots.plot_reliability(SCORES, CORRECT),
        "intervals": plots.plot_intervals(["a"], [1], [0], [2]),
        "receptive_field": plots.plot_receptive_field(XLSR),
    }


def test_every_plot_with_axes_has_a_title_and_labels_with_units(speechlike):
    for name, ax in drawings(speechlike(2)).items():
        assert ax.get_title(), name
        assert ax.get_xlabel(), name
        assert "(" in ax.get_xlabel() or name == "confusions", name
        assert ax.get_ylabel() or ticks(ax), name
        assert all(a.get_ylabel() for a in ax.figure.axes if a is not ax), name  # colour bars


def test_every_function_draws_on_the_axes_that_it_is_given(speechlike):
    calls = {
        plots.plot_waveform: (speechlike(1), WORDS),
        plots.plot_spectrogram: (speechlike(1),),
        plots.plot_log_probs: (matrix_of("oi"), VOCABULARY),
        plots.plot_alignment: (matrix_of("oi"), encode("oi"), VOCABULARY),
        plots.plot_errors: ("a b", "a c"),
        plots.plot_confusions: (confusions(["avó"], ["avô"]),),
        plots.plot_reliability: (SCORES, CORRECT),
        plots.plot_intervals: (["a"], [1], [0], [2]),
        plots.plot_receptive_field: (XLSR,),
        plots.plot_pretraining: (),
        plots.plot_asr_overview: (),
        plots.plot_padding: ([[1.0, 2.0]],),
        plots.plot_bars: (["a"], {"sound": [1.0]}),
        plots.plot_listening_order: ([0.5, 0.9], [1, 0], [2.0, 2.0]),
        plots.plot_throughput: ([1.0, 2.0], [0.1, 0.2]),
        plots.plot_transfer: ({"cells": [{"start": "a", "minutes": 1, "wer": [9, 8, 10]}]},),
    }
    on_two_axes = {"plot_training"}
    elsewhere = {n for room in (probe_plots, runtime_plots, stream_plots) for n in room.__all__}
    assert {f.__name__ for f in calls} | on_two_axes | elsewhere == set(plots.__all__)
    for function, arguments in calls.items():
        figure, ax = plt.subplots()
        assert function(*arguments, ax=ax) is ax
        assert plt.get_fignums() == [figure.number]
        assert ax.has_data() or ax.texts or ax.patches
        plt.close(figure)


def test_a_history_is_drawn_on_the_two_axes_that_are_given():
    figure, axes = plt.subplots(1, 2)
    assert plots.plot_training([{"step": 1, "loss": 3.0, "wer": 0.5}], axes=axes) is axes
    assert plt.get_fignums() == [figure.number]
    assert all(ax.has_data() for ax in axes)
    plt.close(figure)


def test_a_title_of_your_own_takes_the_place_of_ours(speechlike):
    assert plots.plot_waveform(speechlike(1), title="Minha voz").get_title() == "Minha voz"
    assert plots.plot_errors("a", "b", title="").get_title() == ""
    assert "Minha" in plots.plot_reliability(SCORES, CORRECT, title="Minha").get_title()


@pytest.mark.parametrize("plot", [plots.plot_waveform, plots.plot_spectrogram])
@pytest.mark.parametrize(
    "words",
    [
        WORDS,
        Transcription("avó não coração", WORDS, 2.0, "m", 1, Timing(0, 0, 0)),
        pd.DataFrame(TIMES, columns=["text", "start_s", "end_s"]),
        TIMES,
    ],
    ids=["words", "transcription", "frame", "tuples"],
)
def test_words_of_every_kind_stand_above_their_middle_with_both_ends_marked(
    plot, words, speechlike
):
    ax = plot(speechlike(2), words)
    assert [t.get_text() for t in ax.texts] == ["avó", "não", "coração"]
    middles = [(w.start_s + w.end_s) / 2 for w in WORDS]
    assert [t.xy[0] for t in ax.texts] == pytest.approx(middles)
    for style, times in (
        ("--", [w.start_s for w in WORDS]),
        (":", [w.end_s for w in WORDS]),
    ):
        lines = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == style]
        assert lines == pytest.approx(times)


def test_segments_get_their_times_from_their_frames(speechlike):
    pairs = ctc.word_segments(ctc.char_segments(matrix_of("oi tu"), None, VOCABULARY))
    expected = [ctc.frame_boundary((w.start_frame + w.end_frame) / 2) for w, _ in pairs]
    for words in (pairs, [w for w, _ in pairs]):
        ax = plots.plot_waveform(speechlike(1), words)
        assert [t.get_text() for t in ax.texts] == ["oi", "tu"]
        assert [t.xy[0] for t in ax.texts] == pytest.approx(expected)


@pytest.mark.parametrize("width", [4, 9])
def test_crowded_words_do_not_overlap(width, speechlike):
    words = [(text, i * 0.11, i * 0.11 + 0.1) for i, text in enumerate(["intercomunicação"] * 9)]
    _, ax = plt.subplots(figsize=(width, 3), layout="constrained")
    plots.plot_waveform(speechlike(1), words, ax=ax)
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in [*ax.texts, ax.title]]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_long_wave_keeps_its_extremes_and_is_drawn_with_few_points():
    waveform = np.zeros(3_000_000, np.float32)
    waveform[1_234_567], waveform[2_222_222] = 0.75, -0.5  # single samples
    line = plots.plot_waveform(waveform).lines[0]
    assert len(line.get_ydata()) < 20_000
    assert (line.get_ydata().max(), line.get_ydata().min()) == (0.75, -0.5)
    peak = line.get_xdata()[np.argmax(line.get_ydata())]
    assert peak == pytest.approx(1_234_567 / 16_000, abs=0.05)


def test_the_time_axis_of_an_audio_is_that_of_its_own_rate():
    audio = load_audio(np.ones(4_000, np.float32) * 0.1, 8_000, target_rate=8_000)
    assert plots.plot_waveform(audio).get_xlim() == (0, 0.5)


@pytest.mark.parametrize("hz", [500, 3000])
def test_a_tone_is_darkest_at_its_frequency(hz):
    tone = np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000)
    image = plots.plot_spectrogram(tone).images[0]
    level, (_, _, bottom, top) = image.get_array(), image.get_extent()
    row = level.mean(axis=1).argmax()
    height = (top - bottom) / len(level)
    assert abs(bottom + (row + 0.5) * height - hz) <= height
    assert level.max() == 0


def test_a_click_is_where_it_was():
    click = np.zeros(16_000, np.float32)
    click[8_000] = 1
    image = plots.plot_spectrogram(click).images[0]
    level, (left, right, _, _) = image.get_array(), image.get_extent()
    time = left + (level.mean(axis=0).argmax() + 0.5) * (right - left) / level.shape[1]
    assert time == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("sound", [np.zeros((2, 100)), np.zeros(0)])
def test_what_is_no_mono_sound_is_refused(sound):
    for plot in (plots.plot_waveform, plots.plot_spectrogram):
        with pytest.raises(PtlabError, match="load_audio"):
            plot(sound)
    assert not plt.get_fignums()  # an error leaves no empty figure behind


def test_words_without_times_are_refused(speechlike):
    with pytest.raises(PtlabError, match="start_s"):
        plots.plot_waveform(speechlike(1), ["avó"])


def test_log_probs_show_the_tokens_that_matter_and_name_blank_and_space():
    ax = plots.plot_log_probs(matrix_of("não é"), VOCABULARY)
    assert ticks(ax) == ["blank", "space", "n", "o", "ã", "é"]


def test_the_path_is_the_greedy_one_in_its_row_and_at_its_time():
    matrix = matrix_of("oi tu", seed=3)
    ax = plots.plot_log_probs(matrix, VOCABULARY, start_s=1.5, hop_s=0.02)
    line = ax.lines[0]
    names = {"blank": "<pad>", "space": "|"}
    rows = [names.get(t, t) for t in ticks(ax)]
    drawn = [rows[int(y)] for y in line.get_ydata()]
    assert drawn == [VOCABULARY[t] for t in ctc.greedy_path(matrix)]
    assert line.get_xdata() == pytest.approx(1.5 + 0.02 * (np.arange(len(matrix)) + 0.5))
    assert ax.get_xlim() == pytest.approx((1.5, 1.5 + 0.02 * len(matrix)))
    assert not plots.plot_log_probs(matrix, VOCABULARY, path=False).lines


def test_a_uniform_matrix_still_shows_its_best_token():
    ax = plots.plot_log_probs(np.full((5, 46), -np.log(46)), VOCABULARY)
    assert ticks(ax) == ["blank"]


@pytest.mark.parametrize("shape", [(0, 46), (5, 45), (1, 5, 46)])
def test_a_matrix_that_does_not_fit_is_refused(shape):
    for call in (
        lambda m: plots.plot_log_probs(m, VOCABULARY),
        lambda m: plots.plot_alignment(m, [7], VOCABULARY),
    ):
        with pytest.raises(PtlabError, match="frames, vocab"):
            call(np.zeros(shape))


def test_the_trellis_has_a_row_a_token_and_the_path_goes_through_the_spans():
    matrix, tokens = matrix_of("carro"), encode("carro")
    ax = plots.plot_alignment(matrix, tokens, VOCABULARY)
    assert ticks(ax) == list("carro")
    rows = ax.lines[0].get_ydata()
    spans = ctc.align(matrix, tokens).spans
    for number, (start, end) in enumerate(spans):
        assert set(rows[start:end]) == {number}
    blanks = set(range(len(matrix))) - {t for a, b in spans for t in range(a, b)}
    assert all(rows[t] % 1 == 0.5 for t in blanks)
    assert (np.diff(rows) >= 0).all()


def test_a_text_that_does_not_fit_its_frames_is_refused():
    with pytest.raises(AlignmentError, match="frames"):
        plots.plot_alignment(matrix_of("oi", frames=10), encode("muito longo"), VOCABULARY)
    with pytest.raises(PtlabError, match="no tokens"):
        plots.plot_alignment(matrix_of("oi"), [], VOCABULARY)
    assert not plt.get_fignums()


REFERENCE = "a avó riu muito do coração de melão que o vizinho trouxe ontem à noite do mercado"
HYPOTHESIS = "avó rio muito do do coração e melão que vizinho trousse onte à noite do a mercado"


@pytest.mark.parametrize("width", [9, 4])
def test_every_word_and_mark_of_the_alignment_is_written_and_none_overlaps(width):
    _, ax = plt.subplots(figsize=(width, 5))
    plots.plot_errors(REFERENCE, HYPOTHESIS, ax=ax)
    edits = align_words(REFERENCE, HYPOTHESIS)
    written = [t.get_text() for t in ax.texts if t.get_text() not in ("REF", "HYP")]
    marks = [t.get_text() for t in ax.texts if t.get_weight() == "bold"]
    assert marks == [e.op for e in edits if e.op != "="]
    expected = [w for e in edits for w in (e.reference, e.hypothesis, e.op) if w and w != "="]
    assert sorted(written) == sorted(expected)
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    assert all(box.x1 <= ax.figure.bbox.x1 for box in boxes)


def test_kinds_of_errors_differ_without_colour():
    ax = plots.plot_errors("a b c", "a x c d")  # b -> x substituted, d inserted
    frames = {t.get_text(): t.get_bbox_patch() for t in ax.texts if t.get_weight() != "bold"}
    assert frames["a"] is None
    styles = {w: frames[w].get_linestyle() for w in ("b", "x", "d")}
    assert styles["b"] == styles["x"] != styles["d"]
    assert not ax.lines  # nothing is struck through
    struck = plots.plot_errors("a b c", "a c").lines
    assert len(struck) == 1


def test_errors_are_counted_in_the_title():
    assert plots.plot_errors("a b c", "a x c d").get_title() == (
        "2 errors in 3 words: 1 substituted (S), 0 deleted (D), 1 inserted (I)"
    )


def test_confusions_are_bars_whose_hatch_tells_the_kind():
    frame = confusions(["ó ó", "e", "", "pé no"], ["ô ô", "", "a", "péno"])
    ax = plots.plot_confusions(frame)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == frame["count"].tolist()
    labels = dict(zip(ticks(ax), [bar.get_hatch() or "" for bar in ax.patches], strict=True))
    assert set(labels) == {"ó → ô", "e → nothing", "nothing → a", "space → nothing"}
    assert labels["e → nothing"] == labels["space → nothing"]
    assert len(set(labels.values())) == 3
    assert len(ax.get_legend().get_texts()) == 3


def test_no_confusions_is_said_and_a_wrong_frame_refused():
    assert [t.get_text() for t in plots.plot_confusions(confusions(["oi"], ["oi"])).texts] == [
        "no errors"
    ]
    with pytest.raises(PtlabError, match=r"ptlab\.confusions"):
        plots.plot_confusions(pd.DataFrame({"a": [1]}))


def test_the_reliability_curve_is_that_of_metrics_with_the_ece_in_the_title():
    ax = plots.plot_reliability(SCORES, CORRECT, bins=6)
    table = reliability(SCORES, CORRECT, 6)
    curve = next(line for line in ax.lines if line.get_marker() == "o")
    assert curve.get_xdata() == pytest.approx(100 * table.confidence)
    assert curve.get_ydata() == pytest.approx(100 * table.accuracy)
    assert f"ECE {100 * ece(SCORES, CORRECT, 6):.1f} %" in ax.get_title()
    diagonal = next(line for line in ax.lines if line.get_linestyle() == "--")
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())


def test_the_intervals_of_the_reliability_are_wilsons():
    """Against scipy's, which is another's code."""
    from scipy.stats import binomtest

    low, high = error_plots._wilson(np.array([0.0, 0.3, 1.0]), np.array([10, 10, 10]))
    for k, a, b in zip((0, 3, 10), low, high, strict=True):
        interval = binomtest(k, 10).proportion_ci(0.95, "wilson")
        assert (a, b) == pytest.approx((interval.low, interval.high), abs=1e-4)


def test_intervals_have_a_dot_and_a_whisker_a_group_the_first_on_top():
    ax = plots.plot_intervals(["nativo", "inglês"], [10, 20], [8, 17], [12, 24])
    assert ticks(ax) == ["nativo", "inglês"]
    bottom, top = ax.get_ylim()
    assert bottom > top  # row 0 is above row 1
    whiskers = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()]
    assert whiskers == [[8, 12], [17, 24]]
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    assert list(dots.get_xdata()) == [10, 20]
    assert ax.get_xlabel() == "WER (%)"


def test_intervals_below_zero_are_shown_and_bad_lengths_refused():
    low, _ = plots.plot_intervals(["d"], [-1], [-2], [0.5], xlabel="Difference (points)").get_xlim()
    assert low <= -2
    for bad in ((["a"], [1], [0], []), ([], [], [], [])):
        with pytest.raises(PtlabError, match="at least one"):
            plots.plot_intervals(*bad)


def test_series_can_be_told_apart_in_black_and_white(speechlike):
    """No two lines of a plot differ by colour alone, and nothing is light on white by hue."""
    for name, ax in drawings(speechlike(1)).items():
        looks = {}
        for line in ax.lines:
            grey = round(float(np.dot(to_rgb(line.get_color()), (0.299, 0.587, 0.114))), 1)
            look = (line.get_linestyle(), line.get_marker(), line.get_linewidth(), grey)
            looks.setdefault(look, set()).add(to_rgb(line.get_color()))
        assert all(len(colours) == 1 for colours in looks.values()), name
        for image in ax.images:
            shades = image.cmap(np.linspace(0, 1, 32))[:, :3]
            assert np.ptp(shades, axis=1).max() < 1e-6, name  # grey
            assert (np.diff(shades.mean(axis=1)) <= 1e-6).all(), name  # ever darker


@pytest.mark.parametrize(
    ("config", "field", "hop"),
    [
        (XLSR, 400, 320),
        (SimpleNamespace(conv_kernel=(4,), conv_stride=(3,)), 4, 3),
        (SimpleNamespace(conv_kernel=(3, 3), conv_stride=(1, 2)), 5, 2),
    ],
)
def test_the_receptive_field_is_what_one_frame_depends_on(config, field, hop):
    """Against a convolution of ones: the samples that reach frame 0 and frame 1."""
    reach = []
    for frame in (0, 1):
        seen = np.zeros(8)
        seen[frame] = 1
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            below = np.zeros((len(seen) - 1) * stride + kernel)
            for i in np.flatnonzero(seen):
                below[i * stride : i * stride + kernel] = 1
            seen = below
        reach.append(np.flatnonzero(seen))
    assert (len(reach[0]), reach[1][0] - reach[0][0]) == (field, hop)
    ax = plots.plot_receptive_field(config)
    assert f"sees {field} samples" in ax.get_title()
    assert f"begins {hop} samples" in ax.get_title()
    assert len(ticks(ax)) == len(config.conv_kernel) + 1
    assert ticks(ax)[0] == "audio samples"


def test_the_receptive_field_of_a_loaded_model_is_its_own(tiny_model):
    title = plots.plot_receptive_field(tiny_model).get_title()
    assert f"{tiny_model.receptive_field} samples (25 ms)" in title
    assert f"{tiny_model.hop} samples (20 ms)" in title


def test_a_model_without_such_an_encoder_is_refused():
    with pytest.raises(PtlabError, match="wav2vec2-bert"):
        plots.plot_receptive_field(SimpleNamespace(model_type="wav2vec2-bert"))


def test_the_overview_collapses_by_the_rule():
    """The letters drawn in the last rows are what CTC makes of the letters above."""
    from ptlab._plots.diagrams import PATH

    ax = plots.plot_asr_overview()
    ids = [0 if c == "·" else ord(c) for c in PATH]
    word = "".join(map(chr, ctc.collapse(ids)))
    texts = [t.get_text() for t in ax.texts]
    assert word == "carro" and word in texts
    assert "".join(t for t in texts if len(t) == 1)[: len(PATH)] == PATH


@pytest.mark.parametrize("plot", [plots.plot_asr_overview, plots.plot_pretraining])
def test_the_texts_of_a_drawing_are_legible_and_do_not_overlap(plot):
    ax = plot()
    ax.figure.canvas.draw()
    texts = [t for t in ax.texts if t.get_text()]
    assert ax.figure.get_figwidth() == 9  # 900 pixels at 100 dots an inch
    assert min(t.get_size() for t in texts) >= 9
    boxes = [t.get_window_extent() for t in texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), texts[i]
    for patch in (p for p in ax.patches if isinstance(p, FancyBboxPatch)):
        frame = patch.get_window_extent()
        for box in boxes:  # a text is inside a box or outside of it, never across its edge
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1
            assert inside or not frame.overlaps(box)


def test_axes_in_half_of_a_figure_are_half_as_wide():
    """Matplotlib's margins are shares of the part; a part has no width of its own to ask for."""
    half = plt.figure(figsize=(8, 3)).subfigures(1, 2)[0].subplots()
    whole = plt.figure(figsize=(8, 3)).subplots()
    assert axes_width_in(half) == pytest.approx(axes_width_in(whole) / 2)
    assert axes_width_in(whole) == pytest.approx(8 * whole.get_position().width)
    plt.close("all")
