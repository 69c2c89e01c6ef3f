"""Probes: against scikit-learn, brute force, and made-up data with a known answer."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ptlab
from ptlab._probe.controls import CONTROLS, duration, loudness, mfcc_statistics, sound_controls
from ptlab._probe.fit import guess, make_classifier
from ptlab._probe.folds import closed_folds, group_folds, join_groups, shuffled_labels
from ptlab._probe.mix import LayerMix
from ptlab._probe.near_duplicates import near_duplicates
from ptlab._probe.scores import compare_guesses, score_guesses
from ptlab.errors import PtlabError
from ptlab.probe_leaks import find_leaks
from ptlab.probes import layer_sweep, learning_curve, probe

WITHOUT = dict.fromkeys(("duration", "loudness", "MFCC", "random weights"), "no sound in this test")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def planted(rng, voices=16, clips=10, layers=4, at=2, size=6, shift=2.0):
    """Layers (clips, layers, size) of noise, one of which knows the label of the voice."""
    groups = np.repeat(np.arange(voices), clips)
    y = groups % 2
    x = rng.normal(size=(voices * clips, layers, size))
    x[:, at, 0] += shift * (2 * y - 1)
    return x, y, groups


class TestScores:
    def test_values_are_those_of_scikit_learn(self, rng):
        for classes in (2, 3, 5):
            y, guesses = rng.integers(0, classes, (2, 60))
            scores = score_guesses(y, guesses, np.arange(60), classes)
            assert scores.macro_f1.value == pytest.approx(f1_score(y, guesses, average="macro"))
            want = balanced_accuracy_score(y, guesses)
            assert scores.balanced_accuracy.value == pytest.approx(want)
            assert scores.accuracy.value == pytest.approx(accuracy_score(y, guesses))
            assert np.array_equal(scores.confusion, confusion_matrix(y, guesses))

    def test_intervals_are_those_of_a_loop_that_draws_groups(self, rng):
        y, guesses = rng.integers(0, 3, (2, 80))
        groups = rng.integers(0, 9, 80)
        scores = score_guesses(y, guesses, groups, 3, n_resamples=400, seed=5)
        draws = np.random.default_rng(5).multinomial(9, np.full(9, 1 / 9), 400)
        f1 = []
        for draw in draws:
            clips = np.concatenate(
                [np.repeat(np.flatnonzero(groups == g), draw[g]) for g in range(9)]
            )
            f1.append(f1_score(y[clips], guesses[clips], average="macro"))
        ends = np.quantile(f1, [(1 - 0.95) / 2, (1 + 0.95) / 2], method="inverted_cdf")
        np.testing.assert_allclose([scores.macro_f1.low, scores.macro_f1.high], ends)

    def test_clips_of_one_group_are_not_counted_as_many(self):
        """Twenty copies of each clip are no more evidence than one."""
        y, guesses = np.arange(20) % 2, np.array([0, 1, 0, 0] * 5)
        once = score_guesses(y, guesses, range(20), 2)
        copies = score_guesses(
            np.repeat(y, 20), np.repeat(guesses, 20), np.repeat(range(20), 20), 2
        )
        naive = score_guesses(np.repeat(y, 20), np.repeat(guesses, 20), range(400), 2)
        width = [s.accuracy.high - s.accuracy.low for s in (once, copies, naive)]
        assert width[0] == width[1] > 3 * width[2]

    def test_a_comparison_draws_the_same_for_both(self, rng):
        y = rng.integers(0, 2, 100)
        guesses = np.where(rng.random(100) < 0.6, y, 1 - y)
        same = compare_guesses(y, guesses, guesses, range(100), 2)
        assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
        better = compare_guesses(y, guesses, y, range(100), 2, metric="accuracy")
        assert better.difference == pytest.approx(1 - (guesses == y).mean())
        assert better.low > 0.25 and better.p_value <= 0.002


class TestFolds:
    def test_groups_are_apart_and_each_clip_is_tested_once(self, rng):
        groups = rng.integers(0, 20, 200)
        y = rng.integers(0, 3, 200)
        made = group_folds(y, groups, 5)
        assert sorted(np.concatenate([t for _, t in made])) == list(range(200))
        for train, test in made:
            assert not set(groups[train]) & set(groups[test])
            assert set(y[train]) == {0, 1, 2}

    def test_fewer_groups_of_a_class_make_fewer_folds(self):
        y, groups = np.array([0] * 10 + [1] * 4), np.array([*range(10), 20, 20, 21, 21])
        assert len(group_folds(y, groups, 5)) == 2

    def test_a_label_that_is_its_own_group_is_refused(self):
        voices = ["ana", "ana", "rui", "rui"]
        with pytest.raises(PtlabError, match=r"fewest groups is in 1.*group by text or session"):
            probe(np.zeros((4, 2)), voices, voices)
        with pytest.raises(PtlabError, match="1 class among 4 clips"):
            probe(np.zeros((4, 2)), ["ana"] * 4, voices)

    def test_joined_groups_against_a_walk(self, rng):
        columns = rng.integers(0, 12, (2, 20))
        joined = join_groups(*columns)
        for start in range(20):
            reached, edge = {start}, [start]
            while edge:
                at = edge.pop()
                near = np.flatnonzero((columns == columns[:, [at]]).any(axis=0))
                edge += [n for n in near if n not in reached]
                reached |= set(near)
            assert reached == set(np.flatnonzero(joined == joined[start]))

    @pytest.mark.parametrize("crossed", [True, False])
    def test_closed_folds_share_nothing_and_twins_are_as_large(self, rng, crossed):
        voices = np.repeat(np.arange(12), 10)
        y = voices % 3
        texts = np.tile(np.arange(10), 12) if crossed else rng.integers(0, 500, 120)
        closed, twins = closed_folds(y, voices, texts, 4)
        assert sorted(np.concatenate([t for _, t in closed])) == list(range(120))
        for (train, test), (twin, same) in zip(closed, twins, strict=True):
            assert np.array_equal(test, same)
            assert not set(texts[train]) & set(texts[test])
            assert not set(voices[train]) & set(voices[test])
            assert not set(voices[twin]) & set(voices[test])
            assert np.array_equal(np.bincount(y[train]), np.bincount(y[twin]))

    def test_a_leak_that_goes_with_the_label_cannot_be_closed(self):
        y = np.arange(20) % 2
        with pytest.raises(PtlabError, match=r"cannot be closed: .* It goes with the label"):
            closed_folds(y, np.arange(20), y, 2)

    def test_shuffling_keeps_one_label_a_group_or_the_labels_of_each_group(self, rng):
        groups = np.repeat(np.arange(30), 4)
        shuffled = shuffled_labels(groups % 3, groups, rng)
        assert all(len(set(shuffled[groups == g])) == 1 for g in range(30))
        assert not np.array_equal(shuffled, groups % 3)
        mixed = rng.integers(0, 3, 120)
        shuffled = shuffled_labels(mixed, groups, rng)
        for g in range(30):
            assert sorted(shuffled[groups == g]) == sorted(mixed[groups == g])
        assert not np.array_equal(shuffled, mixed)


class TestGuesses:
    def test_one_layer_is_cross_val_predict(self, rng):
        """The scaler is fitted in the fold: scikit-learn's pipeline as the reference."""
        x, y, groups = planted(rng, layers=1, at=0, shift=0.4)
        folds = group_folds(y, groups, 4)
        head = LogisticRegression(class_weight="balanced", max_iter=2000, tol=1e-3)
        want = cross_val_predict(make_pipeline(StandardScaler(), head), x[:, 0], y, cv=folds)
        assert np.array_equal(guess(x, y, groups, folds, make_classifier(), 0).guesses, want)

    @pytest.mark.parametrize("classifier", ["logistic", "svm", "lda"])
    def test_the_planted_layer_is_chosen_in_every_fold(self, rng, classifier):
        x, y, groups = planted(rng)
        result = probe(
            x, y, groups, classifier=classifier, without=WITHOUT, n_permutations=1, n_resamples=50
        )
        assert result.layers == (2,) * 5 and result.scores.accuracy.value > 0.9

    def test_the_layer_is_chosen_without_the_tested_clips(self, rng):
        """Noise only, 60 layers: the best of them looks good, the nested choice stays at chance."""
        groups = np.repeat(np.arange(12), 4)
        y = groups % 2
        x = rng.normal(size=(48, 60, 3))
        sweep = layer_sweep(x, y, groups, n_resamples=10)
        best = max(s.accuracy.value for s in sweep.layers.values())
        result = probe(x, y, groups, without=WITHOUT, n_permutations=1, n_resamples=10)
        assert best > 0.65 > result.scores.accuracy.value

    def test_mixed_layers_find_the_planted_one(self, rng):
        x, y, groups = planted(rng)
        mix = LayerMix().fit(x, y)
        assert mix.layer_weights_.argmax() == 2 and mix.layer_weights_.sum() == pytest.approx(1)
        assert mix.layer_weights_[2] > 0.6
        result = probe(
            x, y, groups, classifier=LayerMix(), without=WITHOUT, n_permutations=1, n_resamples=50
        )
        assert result.layers == () and result.scores.accuracy.value > 0.9

    def test_a_mix_of_one_layer_is_logistic_regression(self, rng):
        x, y, _ = planted(rng, layers=1, at=0, shift=0.5)
        y = y + (x[:, 0, 1] > 1)  # three classes, not balanced
        scaled = StandardScaler().fit_transform(x[:, 0])
        head = LogisticRegression(class_weight="balanced", tol=1e-8, max_iter=1000).fit(scaled, y)
        ours, theirs = LayerMix().fit(x, y).decision_function(x), head.decision_function(scaled)
        centred = ours - ours.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(centred, theirs - theirs.mean(axis=1, keepdims=True), atol=0.02)


class TestProbe:
    def test_labels_that_the_features_do_not_know_give_chance(self, rng):
        """Over 12 sets of noise the mean accuracy is half, and p is not small too often."""
        accuracies, ps = [], []
        for _ in range(12):
            x, y, groups = planted(rng, voices=12, clips=5, layers=1, at=0, shift=0.0)
            result = probe(x, y, groups, without=WITHOUT, n_permutations=9, n_resamples=10)
            accuracies.append(result.scores.accuracy.value)
            ps.append(result.p_value)
        assert abs(np.mean(accuracies) - 0.5) < 0.1
        assert sum(p <= 0.1 for p in ps) <= 4  # of 12 at 0.1: more than 4 in 0.4 % of cases

    def test_a_voice_that_stands_in_for_its_label_is_no_evidence(self, rng):
        """Clips of a voice are alike, and labels are drawn by voice: an ungrouped split learns the
        voices and is nearly always right; whole groups, in folds and in shuffles, show chance."""
        voices = np.repeat(np.arange(14), 8)
        y = rng.permutation(np.arange(14) % 2)[voices]
        x = rng.normal(size=(14, 30))[voices] + 0.1 * rng.normal(size=(112, 30))
        grouped = probe(x, y, voices, without=WITHOUT, n_permutations=19, n_resamples=50)
        single = probe(x, y, range(112), without=WITHOUT, n_permutations=1, n_resamples=50)
        assert single.scores.accuracy.value > 0.95
        assert grouped.scores.accuracy.value < 0.8 and grouped.p_value > 0.05

    def test_what_is_there_is_found_and_beats_the_controls(self, rng):
        x, y, groups = planted(rng)
        noise = {name: rng.normal(size=(len(y), 3)) for name in WITHOUT}
        result = probe(x, y, groups, controls=noise, n_permutations=19)
        assert result.p_value == 1 / 20 and result.missing == ()
        assert set(result.gains) == {"majority", *WITHOUT}
        assert all(gain.low > 0.2 for gain in result.gains.values())
        assert abs(result.controls["shuffled labels"].accuracy.value - 0.5) < 0.1
        assert np.array_equal(result.confusion().to_numpy(), confusion_matrix(y, result.guesses))
        table = result.to_frame()
        assert table.features.tolist()[0] == "probe" and len(table) == 1 + len(CONTROLS)
        f1 = result.scores.macro_f1
        assert table.iloc[0][["macro_f1", "macro_f1_low", "macro_f1_high"]].tolist() == [
            f1.value, f1.low, f1.high,
        ]  # fmt: skip

    def test_majority_is_the_share_of_the_largest_class(self, rng):
        groups = np.arange(50)
        y = (groups < 15).astype(int)
        result = probe(
            rng.normal(size=(50, 2)), y, groups, without=WITHOUT, n_permutations=1, n_resamples=50
        )
        majority = result.controls["majority"]
        assert majority.accuracy.value == 0.7 and majority.balanced_accuracy.value == 0.5

    def test_scores_are_not_shown_without_their_controls(self, rng):
        x, y, groups = planted(rng, voices=8, layers=2, at=1)
        result = probe(x, y, groups, n_permutations=1, n_resamples=50)
        assert result.missing == ("duration", "loudness", "MFCC", "random weights")
        for text in (repr(result), str(result), f"{result}"):
            assert "withheld" in text and "%" not in text
        for show in (result.to_frame, result.confusion):
            with pytest.raises(PtlabError, match=r"withheld.*duration, loudness, MFCC, random"):
                show()
        none = probe(x, y, groups, without=WITHOUT, n_permutations=0, n_resamples=50)
        assert none.missing == ("shuffled labels",)
        sweep = layer_sweep(x, y, groups, n_resamples=50)
        assert "withheld" in repr(sweep) and "%" not in repr(sweep)
        with pytest.raises(PtlabError, match="withheld"):
            sweep.to_frame()
        allowed = probe(x, y, groups, without=WITHOUT, n_permutations=1, n_resamples=50)
        assert "without MFCC: no sound in this test" in repr(allowed) and "%" in repr(allowed)

    def test_a_table_fits_a_notebook_on_a_laptop(self, rng):
        x, y, groups = planted(rng, voices=8)
        shown = repr(probe(x, y, groups, without=WITHOUT, n_permutations=1, n_resamples=50))
        head, row = shown.splitlines()[1:3]
        assert head.split() == ["macro-F1", "balanced", "accuracy", "accuracy"]
        starts = (head.index("macro-F1"), head.index("balanced"), head.rindex("accuracy"))
        assert all(row[i - 1] == " " != row[i] for i in starts)
        assert all(len(line) <= 100 for line in shown.splitlines())

    def test_wrong_parts(self, rng):
        x, y, groups = planted(rng, voices=8)
        for options, message in [
            ({"classifier": "forest"}, "classifier='forest'; choose 'logistic', 'svm'"),
            ({"without": {"MFCC": " "}}, "each with its reason"),
            ({"without": {"mfcc": "tired"}}, "controls among majority, shuffled labels, duration"),
            ({"controls": {"majority": x}}, "'majority' is made of the labels"),
            ({"controls": {"MFCC": x[1:]}}, r"MFCC has the shape \(79, 4, 6\) for 80 clips"),
        ]:
            with pytest.raises(PtlabError, match=message):
                probe(x, y, groups, **options)
        with pytest.raises(PtlabError, match="79 labels for 80 clips"):
            probe(x, y[1:], groups)
        with pytest.raises(PtlabError, match="1 of the groups are missing, the first of clip 3"):
            probe(x, y, [None if i == 3 else g for i, g in enumerate(groups)])
        x[5, 0, 0] = np.nan
        with pytest.raises(PtlabError, match="X holds NaN"):
            probe(x, y, groups)

    def test_few_groups_can_be_shuffled(self, rng):
        """A shuffle can leave one class to learn from; that is a guess as any other."""
        groups = np.repeat(np.arange(4), 6)
        x = rng.normal(size=(24, 2, 3))
        result = probe(x, groups % 2, groups, without=WITHOUT, n_permutations=8, n_resamples=10)
        assert 0 < result.p_value <= 1


class TestSweepAndCurve:
    def test_each_layer_is_scored_by_itself(self, rng):
        x, y, groups = planted(rng, shift=1.0)
        random = rng.normal(size=x.shape)
        controls = {"random weights": random, "MFCC": x[:, 0]}
        waived = dict.fromkeys(("duration", "loudness"), "not here")
        sweep = layer_sweep(x, y, groups, controls=controls, without=waived, n_resamples=50)
        for layer in range(4):
            one = probe(x[:, layer], y, groups, without=WITHOUT, n_permutations=1, n_resamples=50)
            assert sweep.layers[layer].accuracy == one.scores.accuracy
        table = sweep.to_frame()
        assert table.groupby("features").size().to_dict() == {
            "probe": 4, "random weights": 4, "MFCC": 1, "majority": 1,
        }  # fmt: skip
        assert table.macro_f1.idxmax() == 2

    def test_more_clips_learn_more_and_classes_take_turns(self, rng):
        x, y, groups = planted(rng, voices=20, layers=2, at=1, size=30, shift=0.7)
        curve = learning_curve(
            x,
            y,
            groups,
            [1, 2, 10, 100, 10_000],
            layer=1,
            controls={"MFCC": x[:, 0]},
            n_resamples=50,
        )
        ours = curve[curve.features == "probe"]
        assert ours.clips.tolist() == [2, 10, 100]
        assert ours.macro_f1.is_monotonic_increasing
        assert ours.macro_f1.iloc[-1] > curve[curve.features == "MFCC"].macro_f1.iloc[-1] + 0.1
        with pytest.raises(PtlabError, match="layer=None; choose one of 0, 1"):
            learning_curve(x, y, groups)
        with pytest.raises(PtlabError, match=r"sizes=\[1\]; give sizes from 2"):
            learning_curve(x, y, groups, [1], layer=0)


class TestLeaks:
    def test_a_planted_leak_is_found_and_its_size_is_right(self, rng):
        """Each text has a mark in the sound and one label, as when the prompts of a style are its
        own: known texts are told surely, new ones are at chance."""
        voices, texts = np.divmod(np.arange(320), 20)
        y = texts % 2
        x = 2 * rng.normal(size=(20, 40))[texts] + 0.5 * rng.normal(size=(320, 40))
        report = find_leaks(x, y, voices, {"text": texts, "voice": voices})
        leak = report["text"]
        assert leak.verdict == "leak" and leak.shared == 1.0
        assert leak.open.accuracy.value > 0.95 and leak.closed.accuracy.value < 0.75
        assert leak.fall.high < -0.1
        assert leak.tells.accuracy.value == 1.0
        assert report["voice"].verdict == "none" and report["voice"].shared == 0
        assert "text: leak; 100% of tested clips share it" in repr(report)
        assert report.to_frame().verdict.tolist() == ["leak", "none"]

    def test_what_is_shared_but_not_used_is_no_leak(self, rng):
        """All voices say all texts, and the sound holds the label itself."""
        voices, texts = np.divmod(np.arange(320), 20)
        y = voices % 2
        x = rng.normal(size=(320, 10)) + 2.0 * y[:, None]
        leak = find_leaks(x, y, voices, {"text": texts})["text"]
        assert leak.verdict == "no fall seen" and abs(leak.fall.difference) < 0.03

    def test_less_to_learn_from_is_not_taken_for_a_leak(self, rng):
        """Closing a leak takes clips away, and with few clips any probe falls: the open folds have
        as few, so that only the leak is left between them."""
        voices, texts = np.divmod(np.arange(240), 20)
        y = voices % 2
        x = rng.normal(size=(240, 120))
        x[:, 0] += 1.2 * (2 * y - 1)
        leak = find_leaks(x, y, voices, {"text": texts}, folds=2)["text"]
        assert leak.verdict == "no fall seen"

    def test_a_codec_that_goes_with_the_label_is_told(self, rng):
        y = np.arange(60) % 2
        x = rng.normal(size=(60, 4))
        leak = find_leaks(x, y, np.arange(60) // 2 * 2 + y, {"codec": np.where(y, "mp3", "wav")})
        assert leak["codec"].verdict == "cannot be closed"
        assert leak["codec"].tells.accuracy.value == 1.0
        assert "It goes with the label" in repr(leak)

    def test_grouping_is_worth_what_a_speaker_leak_is(self, rng):
        """Labels drawn by voice, sounds by voice: all of the score is the leak."""
        voices = np.repeat(np.arange(20), 10)
        y = rng.permutation(np.arange(20) % 2)[voices]
        x = rng.normal(size=(20, 40))[voices] + 0.3 * rng.normal(size=(200, 40))
        leak = find_leaks(x, y, range(200), {"voice": voices})["voice"]
        assert leak.verdict == "leak" and leak.open.accuracy.value > 0.9
        assert leak.closed.accuracy.value < 0.75

    def test_wrong_parts(self, rng):
        with pytest.raises(PtlabError, match="No attributes; give at least one"):
            find_leaks(rng.normal(size=(8, 2)), [0, 1] * 4, range(8), {})
        with pytest.raises(PtlabError, match="7 text for 8 clips"):
            find_leaks(rng.normal(size=(8, 2)), [0, 1] * 4, range(8), {"text": range(7)})
        report = find_leaks(rng.normal(size=(8, 2)), [0, 1] * 4, range(8), {"text": range(8)})
        with pytest.raises(PtlabError, match=r"No attribute 'voice'; there are \['text'\]"):
            report["voice"]


class TestNearDuplicates:
    def test_copies_are_found_whatever_was_done_to_them(self, rng):
        corpus = ptlab.load_corpus("test")
        clips = [corpus.audio(i).waveform for i in range(6)]

        def vorbis(wave):
            file = io.BytesIO()
            soundfile.write(file, wave, 16_000, format="OGG", subtype="VORBIS")
            return soundfile.read(io.BytesIO(file.getvalue()))[0]

        changes = [
            lambda w: 0.1 * w,
            lambda w: -w[1_500:],
            lambda w: np.concatenate([np.zeros(8_000), w, np.zeros(4_000)]),
            lambda w: w + 0.1 * w.std() * rng.standard_normal(len(w)),
            lambda w: np.convolve(w, [1, -0.9])[: len(w)],
            vorbis,
        ]
        copies = [change(clip) for change, clip in zip(changes, clips, strict=True)]
        sounds = [ptlab.load_audio(np.asarray(w, np.float32), 16_000) for w in (*clips, *copies)]
        found = near_duplicates(sounds)
        assert found.tolist() == [*range(6), *range(6)]

    def test_silence_and_one_clip(self):
        silence = ptlab.load_audio(np.zeros(16_000, np.float32), 16_000)
        assert near_duplicates([silence]).tolist() == [0]
        assert near_duplicates([silence, silence]).tolist() == [0, 1]  # there is nothing to compare


class TestControls:
    def test_duration_and_loudness_by_formula(self):
        """A sine of amplitude a has a power of a squared over two."""
        sine = 0.5 * np.sin(2 * np.pi * 200 * np.arange(32_000) / 16_000)
        audio = ptlab.load_audio(sine.astype(np.float32), 16_000)
        assert duration(audio) == [2.0]
        assert loudness(audio) == pytest.approx([10 * np.log10(0.125)], abs=1e-3)
        silence = ptlab.load_audio(np.zeros(1_600, np.float32), 16_000)
        assert loudness(silence) == [-100.0] and np.isfinite(mfcc_statistics(silence)).all()

    def test_loudness_moves_one_mfcc_only(self, speechlike):
        """Gain adds a constant to every log band, which is the first cosine."""
        wave = speechlike(1.0)
        quiet, loud = (
            mfcc_statistics(ptlab.load_audio(gain * wave, 16_000)) for gain in (0.2, 0.8)
        )
        change = np.abs(loud - quiet)
        assert change.argmax() == 0 and change[0] > 50 and np.delete(change, 0).max() < 0.05

    def test_all_controls_come_by_themselves(self, speechlike, tiny_model, monkeypatch):
        """From what embed made: sounds, and the same architecture with random weights."""
        sounds = [speechlike(0.3 + 0.01 * i, i) for i in range(16)]
        vectors = ptlab.embed(sounds, tiny_model, pool="mean", sampling_rate=16_000)
        y, groups = np.arange(16) % 2, np.arange(16) // 2
        result = probe(vectors, y, groups, n_permutations=1, n_resamples=20)
        assert result.missing == () and set(result.controls) == set(CONTROLS)
        assert set(result.layers) <= {0, 1, 2}
        found = sound_controls(vectors)
        np.testing.assert_allclose(found["duration"].ravel(), [len(s) / 16_000 for s in sounds])
        assert found["random weights"].shape == (16, 3, 32)
        again = probe(vectors, y, groups, controls=found, n_permutations=1, n_resamples=20)
        assert repr(again) == repr(result)
        assert find_leaks(vectors, y, groups, {})["near-duplicate sound"].verdict

    def test_unpooled_embeddings_are_refused(self, speechlike, tiny_model):
        frames = ptlab.embed([speechlike(0.3)] * 4, tiny_model, sampling_rate=16_000)
        with pytest.raises(PtlabError, match="give pool, such as pool='mean'"):
            probe(frames, [0, 1] * 2, range(4))


def test_folds_of_scikit_learn_hold_what_we_lean_on():
    """StratifiedGroupKFold keeps groups whole, for every seed we might give."""
    y, groups = np.tile([0, 1, 2], 20), np.repeat(np.arange(15), 4)
    for seed, folds in itertools.product(range(5), (2, 5)):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for train, test in splitter.split(y, y, groups):
            assert not set(groups[train]) & set(groups[test])
