"""Audio to words with times: the pipeline's road and ours, long recordings, known texts."""

import itertools
import json
import shutil

import numpy as np
import pytest
import soundfile
from conftest import save_tiny
from fakes import FIELD, HOP, RATE, Speller, peak_of, sound_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ptlab import ctc
from ptlab._speech.windows import stitched_log_probs
from ptlab.audio import load_audio
from ptlab.confidence import Calibrator, path_confidence
from ptlab.errors import AlignmentError, AudioError, PtlabError, TextError
from ptlab.models import load_model
from ptlab.text import VOCABULARY
from ptlab.transcribe import Transcriber, hf_pipeline, transcribe


def texts(result):
    return [w.text for w in result.words]


def times(result):
    return [(w.text, w.start_s, w.end_s) for w in result.words]


@pytest.fixture(scope="module")
def clips(speechlike):
    return [speechlike(s, seed) for seed, s in enumerate((2.98, 1.25, 2.0))]


# --- the pipeline's road and ours ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "wav2vec2-bert"])
def test_pipeline_and_direct_use_give_the_same_text(make_tiny, clips, kind):
    model = make_tiny(kind, seed=3)
    pipeline, transcriber = hf_pipeline(model), Transcriber(model)
    for clip in clips:
        if kind == "wav2vec2-bert":  # of an odd number of filter banks the pipeline decodes the
            clip = clip[: (len(clip) - 400) // 320 * 320 + 560 - 320]  # padding even of one clip
        text = pipeline(clip.copy())["text"]
        assert text
        direct = ctc.decode(model.log_probs([clip])[0], model.vocabulary, model.blank)
        assert " ".join(text.split()) == direct == transcriber.transcribe(clip, RATE).text


def test_the_pipeline_decodes_padding_and_we_do_not(tiny_model, clips):
    pipeline = hf_pipeline(tiny_model)
    alone = [pipeline(c.copy())["text"] for c in clips[:2]]
    batch = [r["text"] for r in pipeline([c.copy() for c in clips[:2]], batch_size=2)]
    assert batch[0] == alone[0]  # the longest has no padding
    assert batch[1] != alone[1]
    assert len(batch[1]) > len(alone[1])  # letters that were heard in silence
    ours = tiny_model.log_probs(clips[:2], batch_size=2)
    assert [ctc.decode(m) for m in ours] == [" ".join(t.split()) for t in alone]


def test_nan_is_refused_where_the_pipeline_is_silent(tiny_model):
    broken = np.full(8_000, np.nan, np.float32)
    assert hf_pipeline(tiny_model)(broken.copy())["text"] == ""
    with pytest.raises(AudioError, match="NaN or infinite"):
        Transcriber(tiny_model).transcribe(broken, RATE)


def test_a_row_is_kept_where_the_pipeline_empties_it(tiny_model, clips):
    row = {"array": clips[0], "sampling_rate": RATE}
    Transcriber(tiny_model).transcribe(row)
    assert row.keys() == {"array", "sampling_rate"}
    hf_pipeline(tiny_model)(row)
    assert not row


def test_twins_are_transcribed_alike(tiny_model, clips):
    transcriber = Transcriber(tiny_model)
    counts = np.rint(clips[0] * 2**15).astype(np.int16)
    expected = transcriber.transcribe(counts / 2**15, RATE)
    for twin in (counts, (counts / 2**15).astype(np.float32), np.stack([counts, counts])):
        assert times(transcriber.transcribe(twin, RATE)) == times(expected)


# --- words, times, confidence --------------------------------------------------------------------


def test_times_are_those_of_the_frames():
    path = "__oo_i__ __bb_oo_m" + "_" * 30
    result = Transcriber(Speller()).transcribe(sound_of(path), RATE)
    assert result.text == "oi bom"
    oi, bom = result.words

    def boundary(frame):  # half-way between the centres of a frame and the one before it
        return pytest.approx((frame * HOP + (FIELD - HOP) / 2) / RATE, abs=1e-4)

    assert oi.start_s == boundary(2 - ctc.LEAD_FRAMES)
    assert oi.end_s == boundary(9)  # no further than the middle of the gap from 6 to 11
    assert bom.start_s == boundary(11 - ctc.LEAD_FRAMES)
    assert bom.end_s == boundary(18 + ctc.TAIL_FRAMES)
    assert [c.text for c in result.characters] == list("oibom")
    assert result.duration_s == pytest.approx((len(path) * HOP + FIELD - HOP) / RATE)


def check_times(result):
    """Words in order that never overlap, letters that fill their word, all within the sound."""
    for word in result.words:
        assert 0 <= word.start_s < word.end_s <= result.duration_s
        assert "".join(c.text for c in word.characters) == word.text
        assert 0 <= word.confidence <= 1
        edges = [(c.start_s, c.end_s) for c in word.characters]
        assert (edges[0][0], edges[-1][1]) == (word.start_s, word.end_s)
        assert all(a <= b for a, b in edges)
        assert all(left[1] == right[0] for left, right in itertools.pairwise(edges))
    assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(result.words))
    assert " ".join(texts(result)) == result.text


@settings(max_examples=60)
@given(st.text(alphabet="aoãl-'  ___", min_size=1, max_size=80))
def test_words_never_overlap_and_their_letters_fill_them(path):
    result = Transcriber(Speller()).transcribe(sound_of(path), RATE)
    check_times(result)
    # the definition of CTC: repeats merged, then blanks dropped
    merged = "".join(c for c, _ in itertools.groupby(path)).replace("_", "")
    assert result.text == " ".join(merged.split())


def test_a_real_network_gives_ordered_times_too(tiny_model, speechlike):
    result = Transcriber(tiny_model).transcribe(speechlike(6, 5), RATE)
    assert result.words
    check_times(result)


def test_times_go_on_over_the_seams():
    path = "_ab_ c__d_" * 400
    result = Transcriber(Speller(), window_s=7, overlap_s=1).transcribe(sound_of(path), RATE)
    assert result.windows > 10
    check_times(result)
    starts = np.array([w.start_s for w in result.words])
    assert len(starts) == 401
    assert np.diff(starts)[1:-1] == pytest.approx(10 * HOP / RATE, abs=0.021)


def test_too_short_and_silent_sounds_have_no_words(tiny_model):
    for samples in (1, 100, 399):
        result = Transcriber(tiny_model).transcribe(np.ones(samples), RATE)
        assert (result.text, result.words, result.windows) == ("", (), 1)
    assert Transcriber(Speller()).transcribe(np.zeros(RATE), RATE).text == ""


def test_a_calibration_beside_the_weights_is_used(tiny_folder, tmp_path, speechlike):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    calibrator = Calibrator((0.0, 1.0), (0.25, 0.75), "max_prob", 0.5, "mean")
    fitted = {"words": calibrator.to_dict(), "offset_s": 2.0}
    (folder / "calibration.json").write_text(json.dumps(fitted))
    clip = speechlike(4, 2)
    raw = Transcriber(load_model(tiny_folder, device="cpu")).transcribe(clip, RATE)
    result = Transcriber(load_model(folder, device="cpu")).transcribe(clip, RATE)
    assert (raw.calibrated, result.calibrated) == (False, True)
    assert result.text == raw.text
    for before, after in zip(raw.words, result.words, strict=True):
        assert after.start_s == pytest.approx(min(before.start_s + 2, 4.0), abs=1e-3)
        assert after.end_s == pytest.approx(min(before.end_s + 2, 4.0), abs=1e-3)
        letters = np.mean([c.confidence for c in after.characters])
        assert after.confidence == pytest.approx(0.25 + 0.5 * letters)
    check = [w for w in result.words if w.start_s < w.end_s]
    assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(check))


def test_the_score_of_a_word_may_hold_the_path_over_its_gaps(tiny_model):
    logits = np.random.default_rng(3).normal(size=(99, len(VOCABULARY)))
    logits[:, VOCABULARY.index("|")] += 2
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    transcriber = Transcriber(tiny_model)
    plain = transcriber.from_log_probs(log_probs, 2.0)
    transcriber.calibrator = Calibrator((0.0, 1.0), (0.0, 1.0), path=0.1)
    result = transcriber.from_log_probs(log_probs, 2.0)
    letters = ctc.char_segments(log_probs, None, VOCABULARY)
    paths = path_confidence(log_probs, [word for word, _ in ctc.word_segments(letters)])
    assert len(paths) == len(result.words) > 5
    for word, before, path in zip(result.words, plain.words, paths, strict=True):
        assert word.confidence == pytest.approx(before.confidence * path**0.1)
        assert word.confidence < before.confidence and word.characters == before.characters


def test_a_model_with_a_space_for_a_delimiter_and_one_without_any():
    class Spaced(Speller):
        vocabulary, word_delimiter = tuple(" " if t == "|" else t for t in VOCABULARY), " "

    class Bare(Speller):
        word_delimiter = "▁"

    sound = sound_of("_oi__ __bom_" * 20)
    for model in (Spaced(), Bare()):
        long = Transcriber(model, window_s=2, overlap_s=0.5).transcribe(sound, RATE)
        assert long.windows > 1
        assert texts(long) == ["oi", *["bomoi"] * 19, "bom"]
    aligned = Transcriber(Spaced()).align(sound, "oi " + "bomoi " * 19 + "bom", RATE)
    assert len(aligned.words) == 21


def test_upper_case_models_keep_their_letters(tmp_path, speechlike):
    vocabulary = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEÇÃO")
    model = load_model(save_tiny(tmp_path, vocabulary=vocabulary), device="cpu")
    clip = speechlike(3)
    result = Transcriber(model).transcribe(clip, RATE)
    assert result.text == result.text.upper() != ""
    assert Transcriber(model).align(clip, "cada cão", RATE).text == "CADA CÃO"


# --- long recordings -----------------------------------------------------------------------------

WORD = st.text(alphabet="abcdeãçêó", min_size=1, max_size=9)


def path_of(words):
    """A frame a letter, blanks around most, a pause between words: about real density."""
    spelled = ["".join(f"{c}_" for c in w) for w in words]
    return "____ ____".join(spelled)


@settings(max_examples=40)
@given(
    st.lists(WORD, min_size=20, max_size=60),
    st.sampled_from([(2.0, 0.8), (3.0, 1.0), (4.5, 2.0), (2.01, 0.99)]),
    st.integers(1, 5),
)
def test_stitched_windows_are_the_whole_run(words, window, batch_size):
    window_s, overlap_s = window
    waveform = sound_of(path_of(words))
    shared = int(overlap_s * RATE) // HOP - 1
    model = Speller(blind=shared // 4)  # as much as the rule leaves out
    stitched, windows = stitched_log_probs(
        model, waveform, window_s=window_s, overlap_s=overlap_s, batch_size=batch_size
    )
    assert np.array_equal(stitched, model.spell(waveform))
    assert windows == sum(map(len, model.calls))


@settings(max_examples=60)
@given(
    st.integers(400, 160_000), st.sampled_from([(1.0, 0.08), (1.0, 0.1), (2.0, 0.5), (2.0, 0.99)])
)
def test_stitched_frames_are_as_many_as_the_formula_says(samples, window):
    log_probs, _ = stitched_log_probs(
        Speller(), np.zeros(samples), window_s=window[0], overlap_s=window[1]
    )
    assert len(log_probs) == (samples - FIELD) // HOP + 1


def test_a_seam_goes_through_a_pause_and_not_through_a_word():
    """Every other window hears all letters four frames late, as real ones differ a little."""

    class Shifty(Speller):
        def spell(self, waveform):
            return np.roll(super().spell(waveform), 4 * (len(self.calls) % 2 == 0), axis=0)

    # Windows of 150 frames every 80: each overlap has a pause of 20 frames in its inner half.
    path = "_" * 45 + ("n_ã_o_" * 10 + "_" * 20) * 5
    transcriber = Transcriber(Shifty(), window_s=3, overlap_s=1.4, batch_size=1)
    result = transcriber.transcribe(sound_of(path), RATE)
    assert result.windows == 5
    assert result.text == "não" * 50


def test_no_more_windows_are_run_at_once_than_said():
    model = Speller()
    minutes = np.zeros(10 * 60 * RATE, np.float32)
    result = Transcriber(model, window_s=20, overlap_s=4, batch_size=3).transcribe(minutes, RATE)
    assert result.windows == sum(map(len, model.calls)) == pytest.approx(600 / 16, abs=1)
    assert max(map(len, model.calls)) == 3
    assert max(map(max, model.calls)) == 20 * RATE


def test_a_long_file_is_never_in_memory_as_a_whole(tmp_path):
    """Five minutes at 32 kHz in stereo are 77 MB of samples; at 16 kHz one channel is 19 MB."""
    transcriber, peaks = Transcriber(Speller()), {}
    for minutes in (2, 5):
        sound = np.tile(sound_of("o_i_" * 12 + "|" + "_" * 51), minutes * 30)
        path = tmp_path / f"{minutes}.flac"
        soundfile.write(path, np.stack([sound.repeat(2)] * 2, 1), 2 * RATE)
        result, peaks[minutes] = peak_of(lambda path=path: transcriber.transcribe(path))
        assert result.duration_s == pytest.approx(len(sound) / RATE)
    assert peaks[5] < peaks[2] + 8e6, peaks
    assert result.text == transcriber.transcribe(load_audio(path)).text


def test_a_real_network_is_stitched_on_its_own_grid(tiny_model, speechlike):
    waveform = speechlike(11.3, 4)
    whole = tiny_model.log_probs([waveform])[0]
    stitched, windows = Transcriber(tiny_model, window_s=4, overlap_s=1).log_probs(waveform)
    assert stitched.shape == whole.shape
    assert windows == 4
    assert np.exp(stitched).sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "window", [(20, 10), (20, 0), (20, -1), (20, 0.05), (1, 2), (float("nan"), 1)]
)
def test_windows_that_cannot_be_joined_are_refused(window):
    with pytest.raises(PtlabError, match=r"at least 0\.08 s and under half of the window"):
        Transcriber(Speller(), window_s=window[0], overlap_s=window[1])


# --- known texts ---------------------------------------------------------------------------------


def test_a_known_text_is_found_where_it_was_said():
    path = "____o_i____ ____b_o_m____ ____d_i_a______"
    transcriber, sound = Transcriber(Speller()), sound_of(path)
    aligned = transcriber.align(sound, "Oi, bom dia!", RATE)
    assert times(aligned) == times(transcriber.transcribe(sound, RATE))
    assert all(w.confidence == pytest.approx(0.9, abs=1e-3) for w in aligned.words)
    assert not aligned.calibrated
    assert aligned.to_srt().endswith("oi bom dia\n")


def test_what_was_not_said_is_placed_but_not_trusted():
    sound = sound_of("____o_i____ ____b_o_m____ ____d_i_a______")
    wrong = Transcriber(Speller()).align(sound, "oi mau dia", RATE)
    assert [w.confidence > 0.5 for w in wrong.words] == [True, False, True]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["não", "é", "avó", "d'água", "fazê-lo"]), min_size=1, max_size=4))
def test_any_text_is_aligned_with_any_network(tiny_model, speechlike, words):
    aligned = Transcriber(tiny_model).align(speechlike(3, 1), " ".join(words), RATE)
    assert texts(aligned) == words
    check_times(aligned)


def test_numbers_are_spelled_before_they_are_aligned(tiny_model, speechlike):
    assert (
        Transcriber(tiny_model).align(speechlike(3), "São 16h.", RATE).text == "são dezesseis horas"
    )


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("El Niño", TextError, "cannot write 'ñ'; spell it as it sounds"),
        ("привет", TextError, "cannot write 'в'"),
        ("?! …", TextError, "has no letters"),
        ("a" * 60, AlignmentError, "60 tokens need at least 119 frames, but there are 49"),
    ],
)
def test_texts_that_cannot_be_aligned_say_why(tiny_model, text, error, message):
    with pytest.raises(error, match=message):
        Transcriber(tiny_model).align(np.zeros(RATE), text, RATE)


def test_a_long_recording_is_aligned_whole():
    words = ["um", "dois", "três", "quatro"] * 40
    sound = sound_of(path_of(words))
    transcriber = Transcriber(Speller(), window_s=5, overlap_s=1)
    aligned = transcriber.align(sound, " ".join(words), RATE)
    assert aligned.windows > 5
    assert texts(aligned) == words
    check_times(aligned)


# --- use -----------------------------------------------------------------------------------------


def test_one_line_use(tiny_model, tiny_folder, clips, monkeypatch):
    expected = Transcriber(tiny_model).transcribe(clips[0], RATE)
    assert transcribe(clips[0], RATE, tiny_model).text == expected.text
    monkeypatch.setenv("PTLAB_MODEL", str(tiny_folder))
    assert transcribe({"array": clips[0], "sampling_rate": RATE}).text == expected.text
    assert "window_s=20.0" in repr(Transcriber(tiny_model))


def test_what_was_done_is_told(tiny_model, clips):
    result = Transcriber(tiny_model).transcribe(clips[0], RATE)
    assert (result.model, result.windows) == (tiny_model.name, 1)
    assert 0 < result.timing.load_s + result.timing.model_s <= result.timing.total_s
