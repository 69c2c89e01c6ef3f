"""Verification and retrieval: against scikit-learn, brute force, and the formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import det_curve
from sklearn.neighbors import NearestNeighbors

from ptlab.errors import PtlabError
from ptlab.retrieval import nearest_clips, nearest_voices, unit_vectors
from ptlab.verification import equal_error_rate, make_trials, verify


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def spoken(rng, voices=12, clips=6, size=8, spread=1.0):
    """Vectors of voices, each around its own point, all far from the origin."""
    voice = np.repeat(np.arange(voices), clips)
    return 20 + rng.normal(size=(voices, size))[voice] + spread * rng.normal(
        size=(len(voice), size)
    ), voice


class TestTrials:
    def test_every_pair_once_and_none_that_shares_a_text_or_session(self, rng):
        voice, text, session = (
            rng.integers(0, 4, 30),
            rng.integers(0, 9, 30),
            rng.integers(0, 6, 30),
        )
        trials = make_trials(voice, text, session)
        want = [
            (i, j) for i, j in itertools.combinations(range(30), 2)
            if text[i] != text[j] and session[i] != session[j]
        ]  # fmt: skip
        assert list(zip(trials.first, trials.second, strict=True)) == want
        assert trials.same.tolist() == [bool(voice[i] == voice[j]) for i, j in want]

    def test_a_limit_draws_of_both_kinds(self, rng):
        voice = np.repeat(np.arange(6), 8)
        trials = make_trials(voice, limit=50)
        assert (trials.same.sum(), (~trials.same).sum()) == (50, 50)
        assert (voice[trials.first] == voice[trials.second]).tolist() == trials.same.tolist()

    def test_voices_that_say_one_sentence_each_are_refused(self):
        with pytest.raises(PtlabError, match=r"0 pairs of one voice .* share no text"):
            make_trials(["ana", "ana", "rui"], ["oi", "oi", "tchau"])


class TestEqualErrorRate:
    @pytest.mark.parametrize("seed", range(8))
    def test_lies_where_the_curves_of_scikit_learn_cross(self, seed):
        rng = np.random.default_rng(seed)
        same = rng.random(300) < 0.3
        scores = np.round(rng.normal(size=300) + 1.5 * same, 1 if seed % 2 else 9)  # with ties
        false_alarms, misses, _ = det_curve(same, scores)
        first = int(np.argmax(misses >= false_alarms))
        # The crossing lies between the last point before it and the first behind it.
        rate = equal_error_rate(scores, same)
        before = max(first - 1, 0)
        assert misses[before] - 1e-12 <= rate <= misses[first] + 1e-12
        assert false_alarms[first] - 1e-12 <= rate <= false_alarms[before] + 1e-12

    def test_of_two_bells_is_that_of_the_formula(self, rng):
        """Unit normals whose means differ by d cross at half of d: EER = Phi(-d / 2)."""
        from scipy.stats import norm

        same = np.arange(200_000) % 2 == 0
        scores = rng.normal(size=len(same)) + 2.0 * same
        assert equal_error_rate(scores, same) == pytest.approx(norm.cdf(-1.0), abs=0.004)

    @pytest.mark.parametrize(("scores", "want"), [([3, 2, 1, 0], 0), ([0, 1, 2, 3], 1)])
    def test_of_a_faultless_and_of_an_inverted_order(self, scores, want):
        assert equal_error_rate(scores, [True, True, False, False]) == want

    def test_equal_scores_are_taken_together(self):
        """All trials alike: any threshold takes all or none, half of each is the middle."""
        assert equal_error_rate([1.0] * 6, [True] * 2 + [False] * 4) == 0.5


class TestVerify:
    def test_scores_are_the_cosines_of_centred_vectors(self, rng):
        vectors, voice = spoken(rng)
        trials = make_trials(voice)
        result = verify(vectors, voice, trials, n_resamples=20)
        moved = vectors - vectors.mean(axis=0)
        for t in range(0, len(trials), 97):
            a, b = moved[trials.first[t]], moved[trials.second[t]]
            want = a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)
            assert result.scores[t] == pytest.approx(want)
        assert result.eer.value == equal_error_rate(result.scores, trials.same)

    def test_without_the_centre_voices_are_not_told_apart(self, rng):
        """What all clips share (20 in each number) would be most of every cosine."""
        vectors, voice = spoken(rng, spread=0.8)
        trials = make_trials(voice)
        centred = verify(vectors, voice, trials, n_resamples=5)
        plain = verify(vectors, voice, trials, centre=np.zeros(8), n_resamples=5)
        assert plain.scores.min() > 0.9 and centred.scores.min() < -0.5
        assert centred.eer.value < plain.eer.value - 0.01

    def test_curve_is_that_of_scikit_learn(self, rng):
        vectors, voice = spoken(rng)
        trials = make_trials(voice)
        result = verify(vectors, voice, trials, n_resamples=5)
        false_alarms, misses, _ = det_curve(trials.same, result.scores)
        for rate, miss in zip(result.false_alarms, result.misses, strict=True):
            assert miss == pytest.approx(misses[false_alarms <= rate + 1e-12].min())

    def test_interval_draws_voices_and_not_trials(self, rng):
        """Against a loop; and copies of every clip are no further evidence."""
        vectors, voice = spoken(rng, voices=8, clips=4)
        trials = make_trials(voice)
        result = verify(vectors, voice, trials, n_resamples=60, seed=3)
        drawn = []
        for draw in np.random.default_rng(3).multinomial(8, np.full(8, 1 / 8), 60):
            times = [
                draw[a] if s else draw[a] * draw[b]
                for a, b, s in zip(*voice[[trials.first, trials.second]], trials.same, strict=True)
            ]
            drawn.append(
                equal_error_rate(np.repeat(result.scores, times), np.repeat(trials.same, times))
            )
        low, high = np.quantile(drawn, [(1 - 0.95) / 2, (1 + 0.95) / 2], method="inverted_cdf")
        assert (result.eer.low, result.eer.high) == pytest.approx((low, high))
        assert (result.low <= result.misses).mean() > 0.9 < (result.high >= result.misses).mean()

    def test_says_what_it_is(self, rng):
        vectors, voice = spoken(rng)
        text = repr(verify(vectors, voice, make_trials(voice), n_resamples=20))
        assert "180 of one voice, 2,376 of two" in text and "12 voices): EER " in text


class TestRetrieval:
    def test_neighbours_are_those_of_scikit_learn(self, rng):
        vectors, _ = spoken(rng)
        moved = vectors - vectors.mean(axis=0)
        distance, clips = NearestNeighbors(n_neighbors=6, metric="cosine").fit(moved).kneighbors()
        for query in (0, 17, 71):
            found = nearest_clips(vectors, query, 6)
            assert found.number.tolist() == clips[query].tolist()
            np.testing.assert_allclose(found.cosine, 1 - distance[query], atol=1e-9)

    def test_what_is_left_out_is_not_found(self, rng):
        vectors, voice = spoken(rng)
        found = nearest_clips(vectors, 3, 100, leave_out=voice == voice[3])
        assert len(found) == 66 and not set(voice[found.number]) & {voice[3]}

    def test_nearest_voice_is_by_the_mean_of_its_other_clips(self, rng):
        vectors, voice = spoken(rng)
        names = np.array([f"v{v:02d}" for v in voice])
        unit = unit_vectors(vectors)
        found = nearest_voices(vectors, 10, names, 12)
        for row in found.itertuples():
            rest = np.flatnonzero((names == row.voice) & (np.arange(72) != 10))
            mean = unit[rest].mean(axis=0)
            assert row.cosine == pytest.approx(mean @ unit[10] / np.linalg.norm(mean))
            assert row.number == rest[(unit[rest] @ unit[10]).argmax()]
        assert found.cosine.is_monotonic_decreasing and len(found) == 12

    def test_a_clip_alone_of_its_voice_does_not_find_itself(self):
        vectors = np.array([[1.0, 0.1], [1.0, 0.2], [-1.0, 0.0]])
        assert nearest_voices(vectors, 0, ["ana", "rui", "eva"]).voice.tolist() == ["rui", "eva"]

    def test_lengths_are_one_and_the_mean_is_taken_away(self, rng):
        vectors = 5 + rng.normal(size=(9, 4))
        np.testing.assert_allclose(np.linalg.norm(unit_vectors(vectors), axis=1), 1)
        np.testing.assert_allclose(unit_vectors(vectors), unit_vectors(vectors + 100), atol=1e-9)

    @pytest.mark.parametrize(
        ("vectors", "message"),
        [
            (np.zeros((3, 2, 4)), "expected finite numbers, .clips, numbers."),
            (np.full((3, 2), np.nan), "finite"),
            (np.ones((3, 2)), "the centre itself"),
        ],
    )
    def test_refuses(self, vectors, message):
        with pytest.raises(PtlabError, match=message):
            unit_vectors(vectors)
        with pytest.raises(PtlabError, match="query=9; give the position of a clip, 0 to 2"):
            nearest_clips(np.eye(3), 9)
