"""Packets, levels, events, logs, measures and captions: the parts around a stream."""

import io
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
from fakes import HOP, RATE, Speller, in_packets, sound_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ptlab._stream.audio import PacketReader, RunningLevel, SampleWindow
from ptlab._stream.endpointing import SileroVad
from ptlab._stream.events import Commit, Final, Partial
from ptlab._stream.grid import Grid, Spelling
from ptlab._stream.policies import LocalAgreement
from ptlab.audio import normalize, resample
from ptlab.captions import caption, pcm_packets, show_captions
from ptlab.cli import main
from ptlab.errors import PtlabError
from ptlab.metrics import wer
from ptlab.stream_log import Step, StreamLog, simulate
from ptlab.streaming import BufferedCTC, StreamingRecognizer
from ptlab.streaming_metrics import laal, normalized_erasure, streaming_metrics
from ptlab.text import VOCABULARY
from ptlab.transcription import Word

# Audio -----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000]),
    sizes=st.lists(st.integers(1, 3_000), min_size=1, max_size=4),
    samples=st.integers(50, 9_000),
)
def test_packets_at_any_rate_become_what_the_whole_becomes(rate, sizes, samples):
    waveform = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    reader = PacketReader(RATE)
    parts = [reader.read(rate, packet) for packet in in_packets(waveform, sizes)]
    parts.append(reader.finish())
    assert np.array_equal(np.concatenate(parts), resample(waveform, rate, RATE))


def test_a_window_of_the_past_knows_what_it_has():
    window = SampleWindow()
    for packet in in_packets(np.arange(100.0), [7]):
        window.add(packet)
    window.forget(40)
    assert window.read(40, 100).tolist() == list(range(40, 100))
    for begin, end in ((39, 50), (50, 101)):
        with pytest.raises(PtlabError, match=rf"Samples {begin} to {end} of a window 40 to 100"):
            window.read(begin, end)


def test_the_running_level_becomes_that_of_the_whole(speechlike):
    waveform = 0.3 + speechlike(4)[:63_900]  # no whole number of hops
    level = RunningLevel(HOP, RATE)
    level._fading = 1.0
    for packet in in_packets(waveform, [10 * HOP]):
        level.add(packet)
    np.testing.assert_allclose(level.normalize(waveform), normalize(waveform), atol=1e-4)


def test_silence_is_not_amplified_and_does_not_count(speechlike):
    """By itself a chunk of faint noise would be made as loud as speech."""
    noise = 1e-4 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    level = RunningLevel(HOP, RATE)
    level.add(noise)
    assert np.array_equal(level.normalize(noise), noise)
    level.add(speechlike(2))
    before = level.normalize(noise).std()
    level.add(np.tile(noise, 60))  # a minute
    assert level.normalize(noise).std() == pytest.approx(before)
    assert before < 0.01 < 0.25 < normalize(noise).std()


def test_the_level_follows_a_speaker_who_comes_nearer(speechlike):
    level, sound = RunningLevel(HOP, RATE), speechlike(30)
    for loudness in (0.1, 0.1, 1, 1, 1, 1, 1, 1, 1, 1):
        level.add(loudness * sound)
    assert level.normalize(sound).std() == pytest.approx(1, abs=0.05)


# Policies --------------------------------------------------------------------------------------

GRID, SPELLING = Grid(HOP, 400, RATE), Spelling.of(VOCABULARY, 0)


def rows_of(path):
    return Speller().spell(sound_of(path))


def settle(policy, paths):
    """Frames that each reading of what is not settled yet settles."""
    memory, settled = [], []
    for path in paths:
        settled.append(policy.settle(rows_of(path), SPELLING, GRID, memory))
    return settled


def test_two_readings_must_agree_on_a_word():
    policy = LocalAgreement(n=2)
    assert settle(policy, ["_b_o_m_|_d_i", "_b_o_m_|_d_i_a_|"]) == [0, 8]
    assert settle(policy, ["_b_o_n_|_d_i", "_b_o_m_|_d_i_a_|"]) == [0, 0]
    assert settle(policy, ["_b_o_n_|", "_b_o_m_|", "_b_o_m_|"]) == [0, 0, 8]


def test_a_word_under_way_is_not_agreed_upon():
    """Two readings of *cas* are no reason to settle it: it may become *casa*."""
    assert settle(LocalAgreement(n=2), ["_c_a_s", "_c_a_s_", "_c_a_s_a_|"]) == [0, 0, 0]


def test_one_two_or_three_readings():
    path = "_b_o_m_|_d_i"
    for n in (1, 2, 3, 4):
        assert settle(LocalAgreement(n=n), [path] * n) == [0] * (n - 1) + [8]


def test_words_that_agree_one_after_the_other():
    policy, memory = LocalAgreement(n=2), []
    assert policy.settle(rows_of("_a_|_b_|_c"), SPELLING, GRID, memory) == 0
    settled = policy.settle(rows_of("_a_|_b_|_c_|"), SPELLING, GRID, memory)
    assert settled == 8
    # What was settled is left out of the rows, and the words remembered of it too.
    assert policy.settle(rows_of("_c_|"), SPELLING, GRID, memory) == 4


def test_without_agreement_it_does_not_wait_for_ever():
    policy = LocalAgreement(longest_s=0.5)
    assert settle(policy, ["_a_|" * 10]) == [40]
    assert settle(policy, ["a_" * 20]) == [20]  # not one whole word: half of it


# Logs and measures -----------------------------------------------------------------------------

TALK = "__bb_o_m|_dd_i_a__|" + "_" * 100


def test_a_log_by_the_clock_of_the_audio_is_the_stream_itself():
    policy, sound = BufferedCTC(0.1, 0.3, 0.1), sound_of(TALK)
    log = simulate(sound, policy, model=Speller(), sampling_rate=RATE)
    recognizer = StreamingRecognizer(Speller(), policy, clock=None)
    assert list(log.events) == list(recognizer.stream([sound], RATE))
    assert (log.text, log.committed) == ("bom dia", "bom dia")
    assert all(e.emitted_s == e.audio_s for e in log.events)
    assert sum(s.new_s for s in log.steps) == pytest.approx(log.duration_s, abs=0.02)
    assert log.to_frame().kind.value_counts().to_dict()["Final"] == 1


def test_a_log_by_a_real_clock_counts_the_computing():
    log = simulate(sound_of(TALK), BufferedCTC(0.1, 0.3, 0.1), model=Speller(), sampling_rate=RATE,
                   clock="compute", max_lag_s=60)  # fmt: skip
    assert log.text == "bom dia"
    for event in log.events:  # told after the audio had come, and after it was computed
        assert event.emitted_s > event.audio_s - 1e-6
    emitted = [e.emitted_s for e in log.events]
    assert emitted == sorted(emitted)


def test_an_unknown_clock_is_refused():
    with pytest.raises(PtlabError, match="clock='wall'; choose one of audio, compute"):
        simulate(np.zeros(RATE, np.float32), model=Speller(), sampling_rate=RATE, clock="wall")


def words(*texts, start=0.0):
    return tuple(Word(t, start + i, start + i + 0.5, 0.9) for i, t in enumerate(texts))


def test_measures_of_a_log_that_was_written_by_hand():
    a, ab, axc = words("a"), words("a", "b"), words("a", "x", "c")
    log = StreamLog(
        events=(
            Partial(ab, 0, 0, audio_s=1.0, emitted_s=1.2),
            Commit(a, 0, audio_s=2.0, emitted_s=2.5),
            Partial(axc, 1, 0, audio_s=2.0, emitted_s=2.5),  # takes "b" back
            Commit(axc[1:], 0, audio_s=4.0, emitted_s=4.5),
            Final(axc, "a x c", (), 0, start_s=0, end_s=4, audio_s=4.0, emitted_s=5.0),
        ),
        steps=(Step(2.0, 2.0, 0.5), Step(4.0, 2.0, 2.5)),
        duration_s=4.0,
        clock="compute",
    )
    truth = pd.DataFrame(
        {"text": ["a", "b", "c"], "start_s": [0.2, 1.0, 2.0], "end_s": [0.5, 1.5, 3.0]}
    )
    found = streaming_metrics(log, truth, "a b c")
    assert found.wer == found.final_wer == pytest.approx(1 / 3)
    assert found.offline_wer == 0 and found.against_offline.difference == pytest.approx(1 / 3)
    assert found.first_partial.p50 == pytest.approx(1.2 - 0.2)
    assert found.commit.p50 == pytest.approx(np.median([2.5 - 0.5, 4.5 - 1.5, 4.5 - 3.0]))
    assert found.final.p50 == pytest.approx(5.0 - 3.0)
    assert found.erasure == pytest.approx(1 / 3)  # "b" of three words
    assert found.unstable == pytest.approx(1 / 3)
    assert found.rtf == pytest.approx(3.0 / 4.0)
    assert found.late_steps == 1
    # 2.5, 4.5 - 4/3; the second came after all was heard, so that the third does not count
    assert found.laal_s == pytest.approx((2.5 + 4.5 - 4 / 3) / 2)


@pytest.mark.parametrize(
    ("delays", "duration", "words", "expected"),
    [
        ([], 4.0, 4, np.nan),
        ([4.0, 4.0, 4.0, 4.0], 4.0, 4, 4.0),  # an offline system lags by the duration
        ([1.0, 2.0], 4.0, 4, (1.0 + 2.0 - 1.0) / 2),  # too few: the pace is the reference's
        ([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0], 4.0, 4, 0.5),  # too many: their own
    ],
)
def test_laal_by_its_formula(delays, duration, words, expected):
    assert laal(delays, duration, words) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.sampled_from("abc"), max_size=8))
def test_a_text_that_only_grows_erases_nothing(letters):
    assert normalized_erasure([" ".join(letters[:n]) for n in range(len(letters) + 1)]) == 0


def test_a_recording_without_a_word_has_no_lagging_and_spoils_no_mean():
    truth = pd.DataFrame({"text": ["a"], "start_s": [0.0], "end_s": [0.5]})
    said = StreamLog((Commit((Word("a", 0, 0.5, 1),), 0, 1.0, 1.0),), (), 2.0, "audio")
    silent = StreamLog((), (), 2.0, "audio")
    found = streaming_metrics([silent, said], [truth, truth], ["", "a"])
    assert found.laal_s == pytest.approx(1.0)


def test_each_log_needs_its_reference():
    with pytest.raises(PtlabError, match="1 logs, 2 references and 1 offline texts"):
        streaming_metrics([StreamLog((), (), 1.0, "audio")], [pd.DataFrame()] * 2, ["a"])


# Captions --------------------------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """Gives what has come, be it half a sample."""

    def __init__(self, content, sizes):
        self.parts = list(in_packets(content, sizes))

    def read1(self, size):
        assert all(len(part) <= size for part in self.parts)
        return self.parts.pop(0) if self.parts else b""


@given(st.lists(st.integers(1, 99), min_size=1, max_size=3), st.integers(0, 200))
def test_raw_sound_comes_through_in_any_pieces(sizes, samples):
    numbers = np.random.default_rng(samples).integers(-(2**15), 2**15, samples).astype("<i2")
    packets = list(pcm_packets(Pipe(numbers.tobytes(), sizes), RATE))
    assert np.array_equal(np.concatenate([np.zeros(0, "<i2"), *packets]), numbers)


def test_a_caption_shows_without_colour_what_may_change_and_fits():
    partial = Partial(words("bom", "dia", "co"), 2, 0, audio_s=1, emitted_s=1)
    assert caption(partial) == "bom dia [co]"
    assert caption(partial, width=8) == "…a [co]"
    assert caption(Partial((), 0, 0, audio_s=1, emitted_s=1)) == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_lines_and_a_terminal_sees_them_grow():
    log = simulate(sound_of(TALK), BufferedCTC(0.1, 0.3, 0.1), model=Speller(), sampling_rate=RATE)
    lines, screen = io.StringIO(), Terminal()
    show_captions(log.events, lines)
    show_captions(log.events, screen)
    assert lines.getvalue() == "bom dia\n"
    shown = screen.getvalue().split("\r\x1b[K")
    assert shown[-1] == "bom dia\n" and len(shown) > 3
    assert any("[" in line for line in shown)


@pytest.fixture
def sound_file(tmp_path, speechlike):
    path = tmp_path / "fala.wav"
    soundfile.write(path, speechlike(2.2, rate=8_000), 8_000, subtype="PCM_16")
    return path


def test_the_command_captions_a_file_and_the_same_sound_piped_in(
    sound_file, tiny_folder, capsys, monkeypatch
):
    options = ["--model", str(tiny_folder), "--device", "cpu"]
    assert main(["stream", str(sound_file), *options]) == 0
    told = capsys.readouterr().out
    assert told.strip()
    content = soundfile.read(sound_file, dtype="int16")[0].tobytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["stream", "-", "--rate", "8000", *options]) == 0
    assert wer(told, capsys.readouterr().out) == 0


def test_the_command_says_what_is_wrong(capsys, tiny_folder):
    assert main(["stream", "fala.wav", "--chunk", "0"]) == 1
    assert "chunk_s=0.0; expected 0.02 to 60" in capsys.readouterr().err
    assert main(["stream", "no such file.wav", "--model", str(tiny_folder)]) == 1
    assert "No file 'no such file.wav'" in capsys.readouterr().err


# silero-vad ------------------------------------------------------------------------------------


def test_without_silero_vad_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "silero_vad", None)  # as if it were not installed
    with pytest.raises(PtlabError, match=r'SileroVad needs.*pip install "ptlab\[vad\]"'):
        SileroVad()


def test_silero_vad_takes_16_khz():
    with pytest.raises(PtlabError, match="hears 16000 Hz, not 8000"):
        SileroVad(8_000)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_silero_vad_hears_speech_and_silence():
    pytest.importorskip("silero_vad", reason='silero-vad: pip install "ptlab[vad]"')
    from ptlab.data import load_corpus

    clip = load_corpus("dev").audio(0).waveform
    detectors = [SileroVad(), SileroVad()]
    for detector, size in zip(detectors, (100, 3_000), strict=True):  # packets do not matter
        for packet in in_packets(clip, [size]):
            detector.add(packet)
        assert detector.silence_s < 0.5  # the clip ends 0.2 s after its last word
        detector.add(np.zeros(RATE, np.float32))
    assert detectors[0].silence_s == detectors[1].silence_s > 0.9
