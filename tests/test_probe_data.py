"""The probe sets are what data/README.md says, and other people's folders are read with labels."""

from __future__ import annotations

import doctest
import sys
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import soundfile
from rapidfuzz.distance import Levenshtein

from ptlab.data import data_dir, load_corpus
from ptlab.errors import DataError
from ptlab.probe_data import PROBE_SETS, load_emouerj, load_labelled_folder, load_probe_set

DATA = data_dir()
sys.path.insert(0, str(DATA / "recipes"))
import make_corpus  # noqa: E402
import make_probe_sets  # noqa: E402
import phonemes  # noqa: E402
import styles  # noqa: E402


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return {name: load_probe_set(name).frame for name in PROBE_SETS}


# -- what is there


def test_speakers_are_20_voices_with_30_sentences_in_6_sessions(frames):
    speakers = frames["speakers"]
    assert speakers.speaker.nunique() == 20 and (speakers.speaker.value_counts() == 30).all()
    assert (speakers.groupby("speaker").group.nunique() == 6).all()
    assert (speakers.groupby("group").speaker.nunique() == 1).all()
    assert (speakers.label == speakers.speaker).all() and speakers.text.is_unique


def test_every_voice_speaks_every_language(frames):
    table = pd.crosstab(frames["languages"].speaker, frames["languages"].language)
    assert table.shape == (12, 7) and set(table.to_numpy().ravel()) == {3}
    assert (frames["languages"].label == frames["languages"].language).all()


def test_every_sentence_is_in_all_styles_of_its_voice(frames):
    table = frames["styles"].groupby(["speaker", "text"]).label.agg(["nunique", "size"])
    assert len(table) == 56 and (table == 4).all(axis=None)


def test_no_sentence_is_spoken_by_two_voices_or_is_in_two_sets(frames):
    everything = pd.concat(frames.values())
    assert (everything.groupby("text").speaker.nunique() == 1).all()
    assert (everything.groupby("text")["set"].nunique() == 1).all()
    assert not set(everything.text) & set(load_corpus().frame.text)


@pytest.mark.parametrize("name", PROBE_SETS)
def test_all_clips_have_one_loudness_and_the_recorded_bytes(frames, name):
    for row in frames[name].itertuples():
        waveform, rate = soundfile.read(row.file, dtype="float32")
        level = 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)))
        assert abs(level - make_probe_sets.LEVEL_DB) < 0.51, row.id
        assert rate == 16_000 and waveform.ndim == 1 and np.abs(waveform).max() < 1.0
        assert abs(len(waveform) / rate - row.duration_s) < 0.001
        assert make_corpus.checksum(DATA / "probes" / row.path) == row.sha256


def test_the_sets_are_small_and_nothing_is_left_over(frames):
    minutes = {name: frame.duration_s.sum() / 60 for name, frame in frames.items()}
    assert 15 < minutes["speakers"] < 30 and 8 < minutes["languages"] < 15
    assert 6 < minutes["styles"] < 16
    there = [p for p in (DATA / "probes").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in there) < 12e6
    listed = {DATA / "probes" / p for frame in frames.values() for p in frame.path}
    assert set(there) - listed == {DATA / "probes" / "metadata.csv"}


def test_the_table_is_what_the_recipe_plans(frames):
    planned = pd.DataFrame(make_probe_sets.plan())
    found = pd.concat(frames.values(), ignore_index=True)
    for column in ("id", "label", "group", "speaker", "text", "speed"):
        assert found[column].tolist() == planned[column].tolist(), column


def test_sentences_of_a_language_are_no_near_copies_of_each_other():
    for texts in make_probe_sets.foreign().values():
        assert all(Levenshtein.normalized_distance(a, b) > 0.25 for a, b in combinations(texts, 2))


# -- how it is made


@pytest.mark.parametrize("recipe", [make_probe_sets, styles])
def test_examples_in_the_recipes(recipe):
    found = doctest.testmod(recipe)
    assert found.failed == 0 and found.attempted > 0


def test_every_language_has_phonemes_that_kokoro_knows():
    assert phonemes.to_kokoro("d^ʒˈän t̪ˈe̞") == "ʤˈan tˈe"  # marks that its table lacks are left out
    assert phonemes.to_kokoro("kˈɐ̃") == "kˈɐ̃"  # the tilde is in it


def test_a_level_is_the_same_whatever_comes_in():
    rng = np.random.default_rng(0)
    for gain in (0.01, 1.0):
        out = make_probe_sets.levelled(gain * rng.normal(size=8_000).astype(np.float32))
        assert 10 * np.log10(np.mean(out**2)) == pytest.approx(make_probe_sets.LEVEL_DB, abs=0.01)


def test_a_session_has_one_microphone():
    """The same session colours two sounds alike, another session otherwise."""
    rng = np.random.default_rng(1)
    sounds = [rng.normal(size=32_000).astype(np.float32) for _ in range(2)]

    def gains(sound, session):
        heard = make_probe_sets.recorded(sound, "pm_alex", session)
        power = [np.abs(np.fft.rfft(x)).reshape(-1)[1:16_001] ** 2 for x in (sound, heard)]
        bands = [p.reshape(32, -1).mean(axis=1) for p in power]
        return 10 * np.log10(bands[1] / bands[0])

    first, again, other = gains(sounds[0], 1), gains(sounds[1], 1), gains(sounds[0], 2)
    assert np.abs(first - again).max() < 1.0 < np.abs(first - other).max()


def test_pitch_and_its_range_are_changed_in_semitones():
    pitch = np.array([0.0, 100.0, 0.0, 200.0, 400.0])
    changed = styles.changed_pitch(pitch, styles.Style(2.0, 0.5, 1, 1, 0))
    voiced = 12 * np.log2(changed[changed > 0])
    assert (changed > 0).tolist() == (pitch > 0).tolist()
    assert np.ptp(voiced) == pytest.approx(0.5 * 24)  # two octaves, halved
    assert voiced.mean() == pytest.approx(12 * np.log2(200) + 2)


def test_tilt_and_dynamics_are_in_db():
    envelope = np.outer([1.0, 1e-2], np.ones(513))  # two frames, 20 dB apart
    style = styles.Style(0, 1, 1, 1.5, 3.0)
    changed = 10 * np.log10(styles.changed_envelope(envelope, 16_000, style))
    # from 500 Hz to 8 kHz are four octaves
    assert changed[0, -1] - changed[0, 0] == pytest.approx(12.0)
    assert changed[0, 0] - changed[1, 0] == pytest.approx(30.0, abs=0.6)


def test_neutral_changes_nothing_before_the_vocoder():
    envelope = np.random.default_rng(0).random((5, 33)) + 0.1
    still = styles.STYLES["neutral"]
    np.testing.assert_allclose(styles.changed_envelope(envelope, 16_000, still), envelope)
    np.testing.assert_allclose(styles.changed_pitch(np.array([0, 120.0]), still), [0, 120])


# -- other people's folders


def save(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(800, 0.1), 16_000)


def test_emouerj_is_read_by_its_names(tmp_path):
    save(tmp_path, "w04a11.wav", "m01h02.wav", "emoUERJ/m01s10.wav", "w02n01.wav")
    (tmp_path / "._w04a11.wav").write_bytes(b"macOS")
    (tmp_path / "README.txt").write_text("about")
    corpus = load_emouerj(tmp_path)
    frame = corpus.frame.set_index("id")
    want = {"w04a11": ("anger", "w04", "f", 11), "m01h02": ("happiness", "m01", "m", 2)}
    want |= {"emoUERJ/m01s10": ("sadness", "m01", "m", 10), "w02n01": ("neutral", "w02", "f", 1)}
    assert set(frame.index) == set(want)
    for name, row in want.items():
        assert tuple(frame.loc[name, ["label", "speaker", "sex", "take"]]) == row
    assert (frame.group == frame.speaker).all() and corpus.audio(0).duration_s == 0.05


def test_a_file_that_is_not_emouerjs_is_not_left_out_silently(tmp_path):
    save(tmp_path, "w04a11.wav", "w04x11.wav")
    with pytest.raises(DataError, match=r"1 of 2 recordings .* the first is 'w04x11.wav'"):
        load_emouerj(tmp_path)


def test_folders_are_labels_and_the_folders_in_them_speakers(tmp_path):
    save(tmp_path, "anger/ana/01.wav", "anger/rui/01.wav", "joy/ana/02.wav")
    frame = load_labelled_folder(tmp_path).frame
    assert frame.label.tolist() == ["anger", "anger", "joy"]
    assert frame.group.tolist() == ["ana", "rui", "ana"] and frame.id.is_unique


def test_without_speakers_there_is_no_group(tmp_path):
    save(tmp_path, "anger/01.wav", "joy/02.wav")
    assert {"group", "speaker"}.isdisjoint(load_labelled_folder(tmp_path).frame)


def test_a_pattern_for_coraa_ser(tmp_path):
    save(tmp_path, "bfamcv01_001_neutral.wav", "bfamdl02_017_non-neutral-female.wav")
    frame = load_labelled_folder(tmp_path, r"(?P<id>.*)_(?P<label>[^_]+)\.wav").frame
    assert frame.label.tolist() == ["neutral", "non-neutral-female"]
    assert frame.id.tolist() == ["bfamcv01_001", "bfamdl02_017"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [(r"(?P<who>.*)", "no named group 'label'"), (r"(?P<label>\d+)", "do not match")],
)
def test_refuses_a_pattern(tmp_path, pattern, message):
    save(tmp_path, "anger/01.wav")
    with pytest.raises(DataError, match=message):
        load_labelled_folder(tmp_path, pattern)


def test_refuses_what_is_not_there(tmp_path):
    with pytest.raises(DataError, match="No recordings in"):
        load_labelled_folder(tmp_path)
    with pytest.raises(DataError, match="No probe set 'emotions'; there are speakers, languages"):
        load_probe_set("emotions")
    (tmp_path / "metadata.csv").write_text("id\n")
    with pytest.raises(DataError, match=r"No probe sets in .*make_probe_sets\.py"):
        load_probe_set("styles", tmp_path)
