"""Confidence: bounds, order, and a calibrator that gives frequencies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptlab.confidence import (
    Calibrator,
    frame_confidence,
    path_confidence,
    segment_confidence,
    word_confidence,
)
from ptlab.ctc import Segment
from ptlab.errors import PtlabError
from ptlab.metrics import auroc, ece


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=46), st.sampled_from([1 / 3, 0.5, 2.0]))
def test_bounds_are_reached_by_certainty_and_by_ignorance(logits, alpha):
    row = np.array(logits) - np.logaddexp.reduce(logits)
    sure = np.where(np.arange(len(row)) == 0, 0.0, -np.inf)
    uniform = np.full(len(row), -np.log(len(row)))
    for method in ("tsallis", "max_prob"):
        low, middle, high = frame_confidence(np.stack([uniform, row, sure]), method, alpha)
        assert low == pytest.approx(0, abs=1e-9)
        assert high == pytest.approx(1)
        assert -1e-9 <= middle <= 1 + 1e-9


def test_tsallis_is_the_formula_of_the_paper():
    p, alpha = np.array([0.7, 0.2, 0.1]), 0.5
    entropy = (sum(p**alpha) - 1) / (1 - alpha)
    highest = (3 ** (1 - alpha) - 1) / (1 - alpha)
    expected = (np.exp(-entropy) - np.exp(-highest)) / (1 - np.exp(-highest))
    assert frame_confidence(np.log(p)[None], alpha=alpha)[0] == pytest.approx(expected)


def test_max_prob_is_stretched_from_chance_to_one():
    rows = np.log([[0.7, 0.2, 0.1], [0.4, 0.3, 0.3]])
    expected = [(0.7 - 1 / 3) / (2 / 3), (0.4 - 1 / 3) / (2 / 3)]
    assert frame_confidence(rows, "max_prob") == pytest.approx(expected)


def test_a_letter_is_scored_where_it_is_emitted_and_not_in_the_blanks_around():
    scores = np.array([0.0, 0.8, 0.6, 0.0, 0.0])
    assert segment_confidence(scores, Segment("a", 0, 5, 1, 3)) == pytest.approx(0.7)


@given(
    st.lists(
        st.tuples(st.integers(0, 1_000), st.booleans()), min_size=4, unique_by=lambda mark: mark[0]
    )
)
def test_calibrator_is_the_isotonic_regression_of_scikit_learn(marks):
    from sklearn.isotonic import IsotonicRegression

    scores, correct = map(np.array, zip(*marks, strict=True))
    if len(set(correct)) < 2:
        return
    fitted = Calibrator.fit(scores, correct, knots=len(scores))
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, correct)
    assert fitted(scores) == pytest.approx(theirs.predict(scores))


def test_calibration_on_one_set_makes_scores_honest_on_another():
    rng = np.random.default_rng(1)
    scores = rng.random((2, 5_000)) ** 0.3  # most are high, as raw scores are
    correct = rng.random((2, 5_000)) < scores**4  # and boast
    calibrated = Calibrator.fit(scores[0], correct[0])(scores[1])
    assert ece(scores[1], correct[1]) > 0.15
    assert ece(calibrated, correct[1]) < 0.03
    assert auroc(calibrated, correct[1]) == pytest.approx(auroc(scores[1], correct[1]), abs=0.01)


def test_a_small_alpha_feels_the_tail_that_max_prob_cannot_see():
    two, many = np.full(46, 1e-9), np.full(46, 0.4 / 45)
    two[:2], many[0] = (0.6, 0.4), 0.6
    rows = np.log(np.stack([two / two.sum(), many]))
    assert np.ptp(frame_confidence(rows, "max_prob")) == pytest.approx(0, abs=1e-6)
    two_way, spread = frame_confidence(rows, alpha=1 / 3)
    assert two_way > spread


def test_aggregates():
    scores = [0.5, 0.8, 0.2]
    assert word_confidence(scores, "prod") == pytest.approx(0.08)
    assert word_confidence(scores, "mean") == pytest.approx(0.5)
    with pytest.raises(PtlabError, match="choose one of min, mean, prod"):
        word_confidence(scores, "max")


def test_calibrator_finds_the_frequency_behind_the_score():
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    correct = rng.random(20_000) < scores**2
    calibrator = Calibrator.fit(scores, correct)
    inside = np.linspace(0.05, 0.95, 19)
    assert np.abs(calibrator(inside) - inside**2).max() < 0.04


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60))
def test_calibrator_never_falls_and_survives_json(marks):
    scores, correct = zip(*marks, strict=True)
    if len(set(correct)) < 2:
        with pytest.raises(PtlabError, match="right and wrong words"):
            Calibrator.fit(scores, correct)
        return
    calibrator = Calibrator.fit(scores, correct, method="max_prob")
    values = calibrator(np.linspace(0, 1, 50))
    assert (np.diff(values) >= -1e-12).all()
    assert ((values >= 0) & (values <= 1)).all()
    assert Calibrator.from_dict(calibrator.to_dict()) == calibrator


def test_bad_arguments_say_what_is_accepted():
    with pytest.raises(PtlabError, match="choose one of tsallis, max_prob"):
        frame_confidence(np.zeros((1, 2)), "entropy")
    with pytest.raises(PtlabError, match="above 0 and not 1"):
        frame_confidence(np.zeros((1, 2)), alpha=1)
    with pytest.raises(PtlabError, match="2 scores but 1 marks"):
        Calibrator.fit([0.1, 0.2], [True])


def test_a_path_runs_from_the_word_before_to_the_word_after():
    rng = np.random.default_rng(5)
    log_probs = np.log(rng.dirichlet(np.ones(4), 12))
    best = log_probs.max(axis=1)
    words = [Segment("a", 0, 3, 1, 3), Segment("b", 3, 8, 5, 7), Segment("c", 8, 12, 9, 10)]
    expected = [best[0:5].sum(), best[3:9].sum(), best[7:12].sum()]
    np.testing.assert_allclose(np.log(path_confidence(log_probs, words)), expected)
    assert path_confidence(log_probs, []).shape == (0,)


def test_a_path_sees_a_doubtful_break_that_the_letters_do_not():
    sure, doubtful = np.log([[0.9, 0.05, 0.05]] * 6), np.log([[0.9, 0.05, 0.05]] * 6)
    doubtful[3] = np.log([0.4, 0.3, 0.3])  # between the words
    words = [Segment("a", 0, 3, 1, 3), Segment("b", 3, 6, 4, 5)]
    assert (path_confidence(doubtful, words) < path_confidence(sure, words)).all()
