"""One group of weights at a time: only it changes, and a budget goes where it helps most."""

from dataclasses import replace
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ptlab import plots
from ptlab.ctc import decode
from ptlab.data import load_corpus
from ptlab.errors import DataError, ModelError
from ptlab.metrics import cer
from ptlab.models import load_model
from ptlab.quantize import calibration_clips, quantize, weight_groups
from ptlab.sensitivity import Sensitivity, sensitivity
from ptlab.text import normalize_text

pytest.importorskip("onnx", reason="quantizing ONNX files: pip install 'ptlab[export]'")


@pytest.fixture(scope="module")
def clips():
    dev = load_corpus("dev")
    shortest = dev.frame.sort_values("duration_s").head(2)
    return replace(dev, frame=shortest.reset_index(drop=True))


@pytest.fixture(scope="module")
def found(tiny_export, clips):
    return sensitivity(tiny_export, clips)


def test_every_group_is_measured_alone(tiny_export, clips, found, tmp_path):
    groups = weight_groups(tiny_export)
    assert found.frame.index.tolist() == list(groups)
    assert found.frame.weights.tolist() == list(groups.values())
    assert (found.frame.difference > 0).all() and (found.frame.agreement <= 1).all()
    others = [g for g in groups if g != "layers.1"]
    alone = quantize(tiny_export, tmp_path / "alone", operators=["MatMul", "Conv"], exclude=others)
    waves = [clips.audio(i).waveform for i in range(len(clips))]
    first, second = tiny_export.load().log_probs(waves), alone.load().log_probs(waves)
    gaps = [
        np.abs(a - b)[np.arange(len(a)), a.argmax(axis=1)]
        for a, b in zip(first, second, strict=True)
    ]
    row = found.frame.loc["layers.1"]
    assert row.difference == pytest.approx(np.concatenate(gaps).mean(), rel=1e-3)
    assert row.saved_mb == pytest.approx((tiny_export.size_bytes - alone.size_bytes) / 1e6)
    model = load_model(tiny_export)
    references = [normalize_text(text, model.vocabulary) for text in clips.frame.text]
    rates = [
        cer(references, [decode(m, model.vocabulary, model.blank) for m in matrices])
        for matrices in (first, second)
    ]
    assert row.cer_change == pytest.approx(rates[1] - rates[0])


def test_groups_without_such_operators_are_left_out(tiny_export, clips):
    left = sensitivity(tiny_export, clips, method="int4", operators=["MatMul"]).frame.index
    assert {"feature_extractor", "pos_conv_embed"}.isdisjoint(left) and "lm_head" in left
    every = sensitivity(tiny_export, clips, method="int4").frame.index
    assert {"feature_extractor", "pos_conv_embed", "lm_head"} <= set(every)


def a_sensitivity(saved, damage):
    names = [f"layers.{i}" for i in range(len(saved))]
    frame = pd.DataFrame({"saved_mb": saved, "difference": damage}, index=names)
    return Sensitivity("int8_dynamic", frame, 3)


def test_a_budget_is_spent_where_it_helps_most():
    made = a_sensitivity([4.0, 1.0, 2.0, 0.5], [0.8, 0.5, 0.1, 0.2])
    assert made.worst(0.0) == []
    assert made.worst(1.5) == ["layers.1", "layers.3"]
    assert made.worst(4.0) == ["layers.1", "layers.3", "layers.2"]  # layers.0 does not fit
    assert set(made.worst(7.5)) == set(made.frame.index)


def test_a_budget_is_kept_and_at_least_half_as_good_as_the_best_choice():
    """Greedy by ratio, if the single best item fits, reaches half of the optimum (Dantzig 1957)."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        saved, damage = rng.uniform(0.1, 3, 7), rng.uniform(0, 1, 7)
        made, budget = a_sensitivity(saved, damage), 4.0
        chosen = made.frame.loc[made.worst(budget)]
        assert chosen.saved_mb.sum() <= budget
        best = max(
            sum(damage[i] for i in some)
            for n in range(8) for some in combinations(range(7), n)
            if sum(saved[i] for i in some) <= budget
        )  # fmt: skip
        assert max(chosen.difference.sum(), damage.max()) >= best / 2


def test_what_is_chosen_on_test_clips_is_refused(tiny_export, clips):
    with pytest.raises(DataError, match="from the test split"):
        sensitivity(tiny_export, load_corpus("test"))
    with pytest.raises(ModelError, match="choose int8_dynamic, int8_static or int4"):
        sensitivity(tiny_export, clips, method="float16")


def test_default_clips_are_32_of_dev_from_its_beginning_to_its_end():
    chosen, dev = calibration_clips(None), load_corpus("dev")
    assert len(chosen) == 32 and set(chosen.frame.split) == {"dev"}
    assert chosen.frame.id.is_unique and chosen.frame.id[0] == dev.frame.id[0]
    places = [dev.frame.id.tolist().index(i) for i in chosen.frame.id]
    assert len(set(np.diff(places))) == 1


def test_it_is_printed_and_drawn(found):
    assert "lm_head" in str(found) and "int8_dynamic, one group at a time, on 2 clips" in str(found)
    ax = plots.plot_sensitivity(found)
    ax.figure.canvas.draw()
    assert [t.get_text() for t in ax.get_yticklabels()] == found.to_frame().index.tolist()
    assert [b.get_width() for b in ax.patches] == pytest.approx(found.frame.difference.tolist())
    assert all(t.get_text().startswith("saves ") for t in ax.texts)
    plt.close(ax.figure)
