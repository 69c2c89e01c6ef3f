"""Error rates against hand counts, intervals against coverage, calibration against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptlab import metrics
from ptlab.errors import PtlabError

WORD = st.sampled_from(["a", "bola", "caiu", "de", "novo", "ontem"])
WORDS = st.lists(WORD, max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("references", "hypotheses", "expected"),
    [
        (["a b", "c"], ["a b", "d"], 1 / 3),  # errors of all over words of all, not a mean of rates
        (["", "a b"], ["x y z", "a b"], 3 / 2),  # an empty reference adds its insertions
        (["", ""], ["", ""], 0.0),
        ([""], ["a"], float("inf")),
        (["a b c"], [""], 1.0),
    ],
)
def test_word_error_rate_by_hand(references, hypotheses, expected):
    assert metrics.wer(references, hypotheses) == pytest.approx(expected)


@given(WORDS, WORDS)
def test_alignment_spells_both_texts_and_counts_as_jiwer_does(reference, hypothesis):
    edits = metrics.align_words(reference, hypothesis)
    assert [e.reference for e in edits if e.op != "I"] == reference.split()
    assert [e.hypothesis for e in edits if e.op != "D"] == hypothesis.split()
    rates = metrics.error_rates(reference, hypothesis)
    errors = rates.substitutions + rates.deletions + rates.insertions
    assert sum(e.op != "=" for e in edits) == errors
    assert len(metrics.word_correctness(reference, hypothesis)) == len(hypothesis.split())


def test_bootstrap_covers_the_true_rate_and_clusters_widen_it():
    rng = np.random.default_rng(1)
    speakers = np.repeat(np.arange(10), 40)
    wrong = rng.random(400) < np.repeat(rng.uniform(0, 0.6, 10), 40)  # some voices are harder
    references = ["palavra"] * 400
    hypotheses = ["outra" if w else "palavra" for w in wrong]
    plain = metrics.bootstrap(references, hypotheses)
    clustered = metrics.bootstrap(references, hypotheses, groups=speakers)
    assert plain.low < wrong.mean() < plain.high
    half_width = 1.96 * np.sqrt(wrong.mean() * (1 - wrong.mean()) / 400)  # binomial
    assert (plain.high - plain.low) / 2 == pytest.approx(half_width, rel=0.15)
    assert clustered.high - clustered.low > 1.5 * (plain.high - plain.low)


def simulated(rng, speakers, clips, spread):
    """Utterances of eight words; each speaker has a rate of wrong words around 0.3."""
    rates = np.repeat(rng.uniform(0.3 - spread, 0.3 + spread, speakers), clips)
    wrong = rng.random((len(rates), 8)) < rates[:, None]
    hypotheses = [" ".join("y" if w else "x" for w in row) for row in wrong]
    return ["x " * 8] * len(rates), hypotheses, np.repeat(np.arange(speakers), clips)


def coverage(spread, clustered, experiments=80):
    """Share of experiments whose interval holds the true rate, 0.3."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(experiments):
        references, hypotheses, speakers = simulated(rng, 30, 5, spread)
        interval = metrics.bootstrap(
            references, hypotheses, groups=speakers if clustered else None, n_resamples=400
        )
        held += interval.low <= 0.3 <= interval.high
    return held / experiments


def test_intervals_hold_the_truth_as_often_as_they_say():
    # 80 experiments at 0.95 give 0.95 with a standard deviation of 0.024
    assert 0.89 <= coverage(spread=0, clustered=False) <= 1
    assert 0.89 <= coverage(spread=0.28, clustered=True) <= 1
    assert coverage(spread=0.28, clustered=False) < 0.85  # what clustering is for


def test_intervals_of_empty_references_are_what_the_rate_is():
    interval = metrics.bootstrap(["", ""], ["a", "b"])
    assert (interval.value, interval.low, interval.high) == (np.inf, np.inf, np.inf)
    assert metrics.bootstrap(["", ""], ["", ""]).high == 0


def test_the_same_seed_gives_the_same_interval_and_a_higher_level_a_wider_one():
    references, hypotheses, _ = simulated(np.random.default_rng(0), 10, 5, 0.2)
    narrow = metrics.bootstrap(references, hypotheses, level=0.8, metric="cer")
    assert narrow == metrics.bootstrap(references, hypotheses, level=0.8, metric="cer")
    wide = metrics.bootstrap(references, hypotheses, level=0.99, metric="cer")
    assert wide.low < narrow.low <= narrow.value <= narrow.high < wide.high


@given(WORDS, WORDS)
def test_character_rates_agree_with_jiwer(reference, hypothesis):
    import jiwer

    if reference:
        assert metrics.cer(reference, hypothesis) == pytest.approx(jiwer.cer(reference, hypothesis))
        assert metrics.wer(reference, hypothesis) == pytest.approx(jiwer.wer(reference, hypothesis))


def test_accents_are_errors_and_are_named():
    assert metrics.wer("minha avó", "minha avô") == 0.5
    assert metrics.confusions(["avó"], ["avô"]).values.tolist() == [["ó", "ô", 1]]


def test_errors_stand_below_their_words():
    view = metrics.show_errors("a avó riu muito", "avô riu muito mesmo").split("\n")
    kinds = {view[2].index(kind): kind for kind in view[2].replace(" ", "")}
    for place, kind in kinds.items():
        assert (view[0][place] == "*") == (kind == "I")
        assert (view[1][place] == "*") == (kind == "D")
    assert sorted(kinds.values()) == ["D", "I", "S"]


def test_a_pair_is_told_apart_when_the_same_sentences_are_hard_for_both():
    rng = np.random.default_rng(2)
    hard = rng.random(300) < 0.4
    references = ["um dois três quatro"] * 300
    first = ["um" if h else r for h, r in zip(hard, references, strict=True)]
    better = hard & (rng.random(300) < 0.8)
    second = ["um" if h else r for h, r in zip(better, references, strict=True)]
    compared = metrics.paired_comparison(references, first, second)
    assert compared.high < 0
    assert compared.p_value <= 0.01
    same = metrics.paired_comparison(references, first, first)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_confusions_count_letters_and_words():
    letters = metrics.confusions(["pão", "mão"], ["pau", "mau"])
    assert letters.iloc[0].tolist() in (["ã", "a", 2], ["o", "u", 2])
    words = metrics.confusions(["a casa", "a casa"], ["a caça", "casa"], level="word")
    assert {tuple(row) for row in words.values.tolist()} == {("casa", "caça", 1), ("a", "", 1)}


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9]), st.booleans()), min_size=2))
def test_auroc_is_the_chance_that_a_right_word_scores_above_a_wrong_one(marks):
    scores, correct = zip(*marks, strict=True)
    ours = metrics.auroc(scores, correct)
    if len(set(correct)) < 2:
        assert np.isnan(ours)
    else:
        pairs = [(a, b) for a, x in marks if x for b, y in marks if not y]
        won = sum((a > b) + 0.5 * (a == b) for a, b in pairs)
        assert ours == pytest.approx(won / len(pairs))


def test_ece_is_small_for_honest_scores_and_the_gap_for_boasting_ones():
    rng = np.random.default_rng(3)
    scores = rng.random(20_000)
    honest = rng.random(20_000) < scores
    assert metrics.ece(scores, honest) < 0.02
    boasting = rng.random(20_000) < scores - 0.2 * (scores > 0.2)
    assert metrics.ece(scores, boasting) == pytest.approx(0.16, abs=0.02)  # 0.2 on four fifths
    table = metrics.reliability(scores, honest)
    assert table["count"].sum() == 20_000
    assert table["count"].max() / table["count"].min() < 1.05


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_ece_is_the_formula_over_bins_of_equal_mass(bins):
    rng = np.random.default_rng(bins)
    scores = np.sort(rng.random(200))
    correct = rng.random(200) < 0.6
    pairs = zip(np.split(scores, bins), np.split(correct, bins), strict=True)
    expected = sum(abs(s.mean() - c.mean()) * len(s) for s, c in pairs) / 200
    mixed = rng.permutation(200)
    assert metrics.ece(scores[mixed], correct[mixed], bins) == pytest.approx(expected)


def test_equal_scores_share_a_bin():
    table = metrics.reliability([0.5] * 50 + [0.9] * 50, [True] * 25 + [False] * 25 + [True] * 50)
    assert table.values.tolist() == [[0.5, 0.5, 50], [0.9, 1.0, 50]]


def test_unequal_lists_and_unknown_metrics_are_refused():
    with pytest.raises(PtlabError, match="2 references and 1 hypotheses"):
        metrics.wer(["a", "b"], ["a"])
    with pytest.raises(PtlabError, match="One text and a list of texts"):
        metrics.cer("ab", ["a", "b"])
    with pytest.raises(PtlabError, match="0 references"):
        metrics.wer([], [])
    with pytest.raises(PtlabError, match="3 scores and 1 marks"):
        metrics.auroc([0.1, 0.2, 0.3], [True])
    with pytest.raises(PtlabError, match="choose 'wer' or 'cer'"):
        metrics.bootstrap(["a"], ["a"], metric="mer")
    with pytest.raises(PtlabError, match="3 groups for 2 utterances"):
        metrics.bootstrap(["a", "b"], ["a", "b"], groups=[1, 2, 3])
