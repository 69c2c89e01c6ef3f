"""What the drawings of layers and voices hold, and the map that can be clicked."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile
from matplotlib.colors import to_rgb
from scipy.stats import norm

from ptlab._plots import probes as probe_plots
from ptlab.audio import load_audio
from ptlab.errors import AudioError, PtlabError
from ptlab.map_widget import sound_map
from ptlab.probes import layer_sweep
from ptlab.verification import make_trials, verify

FRAMES, TIMES = np.random.default_rng(0).normal(size=(40, 6)), 0.0125 + 0.02 * np.arange(40)
WORDS = pd.DataFrame({"text": ["avó", "não"], "start_s": [0.1, 0.4], "end_s": [0.3, 0.8]})
VOICES = np.arange(48) // 4


@pytest.fixture(autouse=True)
def closed():
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


@pytest.fixture(scope="module")
def sweep():
    rng, y = np.random.default_rng(0), np.arange(48) % 2
    layers = rng.normal(size=(48, 3, 4))
    layers[:, 1] += 3 * y[:, None]
    controls = {"MFCC": rng.normal(size=(48, 5)), "random weights": rng.normal(size=(48, 3, 4))}
    without = {"duration": "made up", "loudness": "made up"}
    return layer_sweep(layers, y, VOICES, controls=controls, without=without)


@pytest.fixture(scope="module")
def verified():
    vectors = 2 * np.random.default_rng(1).normal(size=(12, 8))[VOICES]
    vectors = vectors + np.random.default_rng(2).normal(size=(48, 8))
    return verify(vectors, VOICES, make_trials(VOICES), n_resamples=30)


def drawings(sweep, verified):
    return {
        "layers": probe_plots.plot_layers(FRAMES, TIMES, WORDS),
        "frame_similarity": probe_plots.plot_frame_similarity(FRAMES, TIMES, WORDS),
        "layer_sweep": probe_plots.plot_layer_sweep(sweep),
        "det": probe_plots.plot_det({"layer 1": verified}),
        "map": probe_plots.plot_map(FRAMES[:, :2], np.arange(40) % 13),
    }


def test_every_plot_has_a_title_labels_and_no_need_of_colour(sweep, verified):
    made = drawings(sweep, verified)
    assert {f"plot_{name}" for name in made} == set(probe_plots.__all__)
    for name, ax in made.items():
        assert ax.get_title() and ax.get_xlabel() and ax.get_ylabel(), name
        for line in ax.lines:
            assert len(set(np.round(to_rgb(line.get_color()), 6))) == 1, name


def test_heat_map_has_every_number_at_its_time():
    image = probe_plots.plot_layers(FRAMES, TIMES).images[0]
    want = (FRAMES - FRAMES.mean(axis=0)) / FRAMES.std(axis=0)
    np.testing.assert_allclose(image.get_array(), want.T, atol=1e-6)
    assert image.get_extent()[:2] == pytest.approx([0.0025, 0.8025])  # half a frame before, behind


def test_similarity_is_the_cosine_of_centred_frames():
    image = probe_plots.plot_frame_similarity(FRAMES, TIMES).images[0]
    moved = FRAMES - FRAMES.mean(axis=0)
    a, b = moved[3], moved[31]
    want = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert image.get_array()[3, 31] == pytest.approx(want)
    np.testing.assert_allclose(np.diag(np.asarray(image.get_array())), 1)


def test_words_stand_where_they_start():
    ax = probe_plots.plot_frame_similarity(FRAMES, TIMES, WORDS)
    assert [(t.get_text(), t.xy[0]) for t in ax.texts] == [("avó", 0.1), ("não", 0.4)]


def test_sweep_shows_each_layer_and_every_control_with_intervals(sweep):
    ax = probe_plots.plot_layer_sweep(sweep, "accuracy")
    names = {t.get_text() for t in ax.get_legend().get_texts()}
    assert names == {"layer", "majority", "MFCC", "random weights"}
    bars = {c.get_label(): c for c in ax.containers}
    want = [100 * s.accuracy.value for s in sweep.layers.values()]
    assert bars["layer"][0].get_ydata() == pytest.approx(want)
    arms = bars["layer"][2][0].get_segments()[1][:, 1]
    assert arms == pytest.approx([100 * sweep.layers[1].accuracy.low,
                                  100 * sweep.layers[1].accuracy.high])  # fmt: skip
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "2"]


def test_sweep_without_its_controls_is_not_drawn():
    bare = layer_sweep(FRAMES[:, None], np.arange(40) % 2, np.arange(40) // 4)
    with pytest.raises(PtlabError, match="scores withheld"):
        probe_plots.plot_layer_sweep(bare)


def test_det_curve_is_on_normal_deviates(verified):
    ax = probe_plots.plot_det({"layer 1": verified})
    line = ax.lines[0]
    np.testing.assert_allclose(line.get_xdata(), norm.ppf(verified.false_alarms))
    clipped = np.clip(verified.misses, 1e-3, 1 - 1e-3)
    np.testing.assert_allclose(line.get_ydata(), norm.ppf(clipped))
    assert f"{verified.eer.value:.1%}" in ax.get_legend().get_texts()[0].get_text()


def test_names_on_a_map_do_not_cover_each_other():
    crowded = np.random.default_rng(0).normal(size=(60, 2)) + [[0, 0], [9, 9]] * 30
    ax = probe_plots.plot_map(crowded, [f"voice {n}" for n in np.arange(60) % 12])
    ax.figure.canvas.draw()
    boxes = [t.get_bbox_patch().get_window_extent() for t in ax.texts]
    assert len(boxes) == 12
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_map_names_few_labels_in_a_legend_and_many_in_place():
    few = probe_plots.plot_map(FRAMES[:, :2], np.arange(40) % 3)
    assert len(few.get_legend().get_texts()) == 3 and not few.texts
    many = probe_plots.plot_map(FRAMES[:, :2], np.arange(40) % 13)
    assert len(many.texts) == 13 and many.get_legend() is None
    looks = [(c.get_paths()[0].vertices.tobytes(), tuple(c.get_facecolor()[0])) for c in
             many.collections]  # fmt: skip
    assert len(set(looks)) == 13


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: probe_plots.plot_layers(FRAMES, TIMES[:3]), "and 3 times"),
        (lambda: probe_plots.plot_map(FRAMES, np.zeros(40)), "expected .clips, 2."),
        (lambda: probe_plots.plot_det({}), "Nothing to draw"),
        (lambda: probe_plots.plot_layer_sweep(None, "f1"), "choose one of macro_f1"),
    ],
)
def test_refuses(draw, message):
    with pytest.raises(PtlabError, match=message):
        draw()


# -- the map that can be clicked


def clicked(shown, clip):
    """What Python sends back when a point is clicked."""
    sent = []
    shown.send = lambda content, buffers=None: sent.append((content, buffers))
    shown._handle_custom_msg({"clip": clip}, [])
    return sent


def test_a_click_sends_the_sound_of_that_clip_only(speechlike):
    sounds = [load_audio(speechlike(0.3, seed), 16_000) for seed in range(3)]
    shown = sound_map(FRAMES[:3, :2], ["a", "b", "a"], sounds.__getitem__)
    [(content, buffers)] = clicked(shown, 1)
    heard, rate = soundfile.read(io.BytesIO(buffers[0]), dtype="float32")
    assert content == {"clip": 1} and rate == 16_000
    assert np.abs(heard - sounds[1].waveform).max() <= 1 / 32768


def test_points_fill_the_square_and_the_notebook_keeps_no_sound():
    asked = []
    shown = sound_map(10 + 5 * FRAMES[:, :2], VOICES[:40], asked.append, ["x"] * 40)
    places = np.array([(p["x"], p["y"]) for p in shown.points])
    assert places.min(axis=0) == pytest.approx([0, 0]) and places.max() == pytest.approx(1)
    np.testing.assert_allclose(np.corrcoef(places[:, 0], FRAMES[:, 0])[0, 1], 1)
    assert not asked and set(shown.points[0]) == {"x", "y", "label", "title"}


def test_a_sound_that_cannot_be_read_is_told_beside_the_map():
    def broken(number):
        raise AudioError("No file x.wav.")

    assert clicked(sound_map(np.eye(2), "ab", broken), 0) == [({"error": "No file x.wav."}, None)]


def test_a_map_of_wrong_shape_is_refused():
    with pytest.raises(PtlabError, match="3 labels and 3 titles"):
        sound_map(np.eye(2), "abc", str)
