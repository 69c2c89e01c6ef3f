"""Streams: every frame once, settled text that stays, the same whatever the packets."""

import math

import numpy as np
import pytest
from fakes import FIELD, HOP, RATE, Clock, Speller, in_packets, sound_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ptlab._stream.refinement import STEP_S
from ptlab.data import load_corpus, load_story
from ptlab.errors import AudioError, ModelError, PtlabError
from ptlab.metrics import cer
from ptlab.models import load_model
from ptlab.streaming import (
    BufferedCTC,
    Commit,
    Endpointing,
    Final,
    LocalAgreement,
    NaiveChunks,
    Partial,
    StreamingRecognizer,
)
from ptlab.text import VOCABULARY
from ptlab.transcribe import Transcriber

SHORT = BufferedCTC(chunk_s=0.1, left_s=0.3, right_s=0.1)
POLICIES = [SHORT, LocalAgreement(chunk_s=0.1, left_s=0.3), NaiveChunks(chunk_s=0.1)]
PAUSE = "_" * 100  # 2 s
TALK = "__bb_o_m|_dd_i_a__|aa_t_é__|" + PAUSE + "|ll_o_g_o" + PAUSE + "|e_|r_e" + "_" * 9


def run(waveform, policy=SHORT, sizes=(1600,), model=None, **options):
    options = {"clock": None, **options}
    recognizer = StreamingRecognizer(model or Speller(), policy, **options)
    return list(recognizer.stream(in_packets(waveform, sizes), RATE))


def of(kind, events):
    return [e for e in events if isinstance(e, kind)]


def text_of(kind, events):
    return " ".join(e.text for e in of(kind, events) if e.text)


class Tape:
    """A model that notes the frames that a stream settles, seen through `StreamText`."""

    def __init__(self, monkeypatch):
        from ptlab._stream.text import StreamText

        self.rows, add = [], StreamText.add

        def note(text, rows, tail):
            self.rows.append(rows)
            return add(text, rows, tail)

        monkeypatch.setattr(StreamText, "add", note)

    @property
    def log_probs(self):
        return np.concatenate(self.rows)


# Frames ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 719, 720, 1679, 1680, 12_345, 31_999])
def test_every_frame_is_settled_once(samples, monkeypatch):
    """With contexts that cover the model's blindness, the frames are those of the whole."""
    tape, rng = Tape(monkeypatch), np.random.default_rng(samples)
    waveform = np.repeat(rng.integers(0, 40, samples // HOP + 1), HOP)[:samples] / 64
    run(waveform, BufferedCTC(0.1, left_s=0.1, right_s=0.1), [997], Speller(blind=5), refine_s=0)
    assert np.array_equal(tape.log_probs, Speller(blind=5).spell(waveform))


@pytest.mark.parametrize(("left_s", "right_s"), [(0.08, 0.1), (0.1, 0.08)])
def test_a_context_that_is_too_short_shows_in_the_frames(left_s, right_s, monkeypatch):
    tape, waveform = Tape(monkeypatch), sound_of("_a_b" * 30)
    run(waveform, BufferedCTC(0.1, left_s, right_s), model=Speller(blind=5), refine_s=0)
    assert not np.array_equal(tape.log_probs, Speller(blind=5).spell(waveform))
    assert len(tape.log_probs) == 120  # no more and no less for it


@pytest.mark.parametrize("samples", [16_000, 23_457, 40_119])
def test_with_unlimited_context_frames_are_those_of_the_file(
    samples, tiny_model, speechlike, monkeypatch
):
    """A real encoder with attention over all; the running level has by then heard all as well."""
    tape, waveform = Tape(monkeypatch), speechlike(3)[:samples]
    policy = BufferedCTC(chunk_s=0.7, left_s=math.inf, right_s=math.inf)
    monkeypatch.setattr("ptlab._stream.audio.HALF_LIFE_S", 1e9)
    endpointing = Endpointing(1e9, 1e9, 1e9)
    run(waveform, policy, [1234], tiny_model, refine_s=0, endpointing=endpointing)
    offline = tiny_model.log_probs([waveform])[0]
    np.testing.assert_allclose(tape.log_probs, offline, rtol=1e-3, atol=1e-3)


def test_without_normalisation_they_are_equal_to_rounding(make_tiny, speechlike, monkeypatch):
    tape, waveform = Tape(monkeypatch), speechlike(1.3)[:20_001]
    model = make_tiny(normalize=False)
    policy = BufferedCTC(chunk_s=0.2, left_s=math.inf, right_s=math.inf)
    endpointing = Endpointing(1e9, 1e9, 1e9)
    run(waveform, policy, [777], model, refine_s=0, endpointing=endpointing)
    np.testing.assert_allclose(tape.log_probs, model.log_probs([waveform])[0], atol=1e-5)


def test_a_model_without_a_frame_for_each_hop_is_refused():
    class Merging(Speller):
        def frames(self, samples):
            return super().frames(samples) // 2

    with pytest.raises(ModelError, match="one frame for each hop of 320 samples"):
        StreamingRecognizer(Merging())


# Text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_words_come_with_their_utterances(policy):
    waveform = sound_of(TALK)
    if policy.alone:  # chunks that cut no word of this one
        policy = NaiveChunks(chunk_s=28 * 0.02)
    events = run(waveform, policy)
    assert [e.text for e in of(Final, events)] == ["bom dia até", "logo", "e re"]
    assert [e.utterance for e in of(Final, events)] == [0, 1, 2]
    assert all(e.changes == () for e in of(Final, events))


def test_naive_chunks_break_the_words_that_they_cut():
    events = run(sound_of("_b_o_m__d_i_a"), NaiveChunks(chunk_s=0.1))  # a cut after "bo"
    assert text_of(Commit, events) != "bomdia"
    assert text_of(Commit, run(sound_of("_b_o_m__d_i_a"), SHORT)) == "bomdia"
    assert of(Final, events)[0].text == "bomdia"  # the refinement mends it, and says so
    assert of(Final, events)[0].changes


def test_two_equal_letters_over_a_seam():
    """Frames of the same letter on both sides are one letter, unless a blank is between them."""
    for k in range(10):
        events = run(sound_of("_" * k + "caar_rroo_"), refine_s=0)
        assert text_of(Final, events) == "carro"


def test_times_are_those_of_the_file():
    waveform = sound_of("__bb_o_m_|__dd_i_a__|_aa_t_é__")
    words = Transcriber(Speller()).transcribe(waveform, RATE).words
    final = of(Final, run(waveform))[0]
    for word, exact in zip(final.words, words, strict=True):
        assert (word.start_s, word.end_s) == pytest.approx((exact.start_s, exact.end_s))
    committed = [w for c in of(Commit, run(waveform)) for w in c.words]
    for word, exact in zip(committed, words, strict=True):  # the word after is not known yet
        assert word.start_s == pytest.approx(exact.start_s, abs=0.041)
        assert word.end_s == pytest.approx(exact.end_s, abs=0.081)
        assert word.confidence == pytest.approx(exact.confidence, abs=0.1)


def check(events):
    """What holds for every stream."""
    committed, last_end, position = "", 0.0, 0.0
    for event in events:
        assert event.audio_s >= position
        position = event.audio_s
        if isinstance(event, Commit):
            committed = f"{committed} {event.text}".strip()
            for word in event.words:
                assert last_end <= word.start_s <= word.end_s
                last_end = word.end_s
        elif isinstance(event, Partial):
            assert event.committed == committed
        else:
            assert event.committed == committed
            committed = ""


SIZES = st.lists(st.integers(1, 9000), min_size=1, max_size=4)


@settings(max_examples=40)
@given(
    path=st.lists(st.sampled_from(["a", "bo", "|", "_", "__", PAUSE]), max_size=60).map("".join),
    sizes=SIZES,
    policy=st.sampled_from(POLICIES),
    cut=st.integers(0, HOP - 1),
)
def test_events_are_the_same_whatever_the_packets(path, sizes, policy, cut):
    waveform = sound_of(path)
    waveform = waveform[: len(waveform) - cut]
    events = run(waveform, policy, sizes)
    check(events)
    assert events == run(waveform, policy, [len(waveform)])
    if not policy.alone:  # nothing is lost: all letters are there, in their order
        heard = Transcriber(Speller()).transcribe(waveform, RATE).text if len(waveform) else ""
        for kind in (Commit, Final):
            assert text_of(kind, events).replace(" ", "") == heard.replace(" ", "")


def test_verbs_do_what_the_generator_does():
    stream = StreamingRecognizer(Speller(), SHORT, clock=None).create_stream()
    texts = []
    for packet in in_packets(sound_of(TALK), [3000]):
        stream.accept_waveform(RATE, packet)
        while stream.is_ready:
            stream.decode()
            if stream.is_endpoint:
                texts.append(stream.reset())
    stream.input_finished()
    while stream.is_ready:
        stream.decode()
    assert (stream.result.text, stream.result.stable, stream.is_endpoint) == ("e re", 2, True)
    texts.append(stream.reset())
    assert [t.text for t in texts if t] == ["bom dia até", "logo", "e re"]
    assert (stream.result.text, stream.is_endpoint, stream.is_ready) == ("", False, False)


def test_who_never_resets_loses_nothing():
    stream = StreamingRecognizer(Speller(), SHORT, clock=None).create_stream()
    stream.accept_waveform(RATE, sound_of(TALK))
    stream.input_finished()
    while stream.is_ready:
        stream.decode()
    assert stream.result.text == stream.reset().text == "bom dia até logo e re"


def test_finishing_twice_is_harmless_and_then_nothing_goes_in():
    stream = StreamingRecognizer(Speller(), SHORT, clock=None).create_stream()
    stream.accept_waveform(RATE, sound_of("_b_o_m"))
    stream.input_finished()
    assert [e.text for e in stream.events()][-1] == "bom"
    stream.input_finished()
    assert (list(stream.events()), stream.reset()) == ([], None)
    with pytest.raises(PtlabError, match="finished; create another stream"):
        stream.accept_waveform(RATE, np.zeros(10, np.float32))


def test_streams_together_say_what_each_says_alone():
    waveforms = [sound_of(TALK), sound_of("_o_l_á|" * 9), sound_of(PAUSE), sound_of("|s_i_m")]
    recognizer = StreamingRecognizer(Speller(), SHORT, clock=None)
    streams, events = [recognizer.create_stream() for _ in waveforms], [[] for _ in waveforms]
    for stream, waveform in zip(streams, waveforms, strict=True):
        stream.accept_waveform(RATE, waveform)
        stream.input_finished()
    while any(s.is_ready for s in streams):
        for i, new in enumerate(recognizer.decode(streams)):
            events[i] += new
            if streams[i].is_endpoint:
                events[i] += filter(None, [streams[i].reset()])
    assert events == [run(w) for w in waveforms]
    assert max(map(len, recognizer.setup.model.calls)) == len(waveforms)  # in one batch


def test_streams_of_two_recognisers_are_not_mixed():
    two = [StreamingRecognizer(Speller(), SHORT, clock=None).create_stream() for _ in range(2)]
    for stream in two:
        stream.accept_waveform(RATE, np.zeros(RATE, np.float32))
    from ptlab._stream.speech_stream import decode_together

    with pytest.raises(PtlabError, match="Streams of two recognisers"):
        decode_together(two)


# Ends ------------------------------------------------------------------------------------------


def test_a_stop_in_a_word_ends_nothing_and_a_pause_does():
    """One frame, or a second, of no letter is no end (Kaldi's rule: 1.2 s after something)."""
    for frames, utterances in ((1, 1), (50, 1), (59, 1), (66, 2)):
        events = run(sound_of("_a_b" + "_" * frames + "c_d"), refine_s=0)
        assert len(of(Final, events)) == utterances, frames


def test_silence_gives_nothing_and_utterances_begin_anew_in_it():
    stream = StreamingRecognizer(Speller(), SHORT, clock=None).create_stream()
    stream.accept_waveform(RATE, np.zeros(60 * RATE, np.int16))
    assert list(stream.events()) == []
    assert stream._text.length_s < 3  # Kaldi's rule: 2.4 s of nothing


def test_a_long_utterance_ends_after_a_word_and_never_in_one():
    words = ["ab" * n for n in (3, 5, 7, 4)] * 40
    events = run(sound_of("|".join("_".join(w) for w in words)), refine_s=0)
    finals = of(Final, events)
    assert len(finals) > 1
    assert all(19.5 < f.end_s - f.start_s < 20.6 for f in finals[:-1])
    assert text_of(Final, events).split() == words


def test_a_word_without_an_end_does_not_keep_an_utterance_open():
    events = run(sound_of("_a_b" * 600), refine_s=0)  # 48 s
    assert max(f.end_s - f.start_s for f in of(Final, events)) < 31
    assert text_of(Final, events).replace(" ", "") == "ab" * 600


@pytest.mark.parametrize("field", ["silence_s", "empty_s", "longest_s"])
def test_rules_without_a_duration_are_refused(field):
    with pytest.raises(PtlabError, match=f"{field}=0; it must be above 0"):
        Endpointing(**{field: 0})


class Voice:
    """A detector that hears a voice in all but zeros."""

    def __init__(self, sampling_rate):
        assert sampling_rate == RATE
        self.silence_s = 0.0

    def add(self, samples):
        for hop in np.array_split(samples, range(HOP, len(samples), HOP)):
            self.silence_s = 0.0 if hop.any() else self.silence_s + HOP / RATE


def test_with_a_detector_both_must_be_silent():
    hum = np.where(sound_of("_a" + "_" * 100 + "_b") == 0, 1e-3, sound_of("_a" + "_" * 100 + "_b"))
    assert len(of(Final, run(hum, refine_s=0))) == 2
    with_voice = Endpointing(vad=Voice)
    assert len(of(Final, run(hum, refine_s=0, endpointing=with_voice))) == 1
    assert len(of(Final, run(sound_of(TALK), endpointing=with_voice))) == 3


# Refinement ------------------------------------------------------------------------------------


def test_the_refinement_mends_what_context_would_have_mended_and_says_what():
    waveform = sound_of("_a_b_c_d_|_e_f_g_h_" * 2 + "_" * 10)
    blind = Speller(blind=3)
    events = run(waveform, BufferedCTC(0.1, left_s=0.1, right_s=0.0), model=blind)
    final = of(Final, events)[-1]
    assert "x" in final.committed
    assert final.text == Transcriber(Speller(blind=3)).transcribe(waveform, RATE).text
    assert {edit.op for edit in final.changes} <= {"S", "D", "I"} and final.changes
    off = run(waveform, BufferedCTC(0.1, 0.1, 0.0), model=Speller(blind=3), refine_s=0)
    assert of(Final, off)[-1].text == of(Final, off)[-1].committed == final.committed


class ShortOfBreath(Speller):
    """Of more than a second it hears only *x*, and of that it is not sure."""

    def spell(self, waveform):
        probs = np.exp(super().spell(waveform))
        if len(waveform) > RATE:
            probs[:] = 0.3 / 45
            probs[:, VOCABULARY.index("x")] = 0.7
        return np.log(probs)


def test_a_last_look_that_is_less_sure_changes_nothing():
    waveform = sound_of("_bb_o_m_|_dd_i_a_|" * 4 + "_" * 10)
    model = ShortOfBreath()
    final = of(Final, run(waveform, SHORT, model=model))[-1]
    assert max(map(max, model.calls)) > RATE  # it did look
    assert final.text == final.committed == "bom dia bom dia bom dia bom dia"
    assert final.changes == ()


def test_what_is_looked_at_once_more_has_few_lengths():
    """Torch keeps something for every length: with whole seconds an hour grew by 6 %."""
    rng, model = np.random.default_rng(3), Speller()
    talk = sound_of("".join("_a_b" * n + "|" for n in rng.integers(1, 12, 400)))
    rules = Endpointing(longest_s=3.0)  # utterances begin and end at any frame
    finals = of(Final, run(talk, BufferedCTC(), model=model, endpointing=rules))
    (lengths,) = zip(*model.calls, strict=True)
    assert len(finals) > 50 and len(lengths) > 400
    beyond = [n - (FIELD - HOP) for n in lengths[50:-2]]  # without the first and the last windows
    assert {n % RATE for n in beyond} == {0} and len(set(beyond)) < 4


def test_of_a_long_utterance_only_the_last_part_is_refined():
    waveform = sound_of("_a_b|c_d_|_e_f|g_h_" * 15 + "_" * 10)
    policy = BufferedCTC(0.1, left_s=0.1, right_s=0.0)
    model = Speller(blind=2)
    events = run(waveform, policy, model=model, refine_s=0.5)
    final = of(Final, events)[-1]
    assert max(map(max, model.calls)) <= (0.5 + 0.1 + STEP_S) * RATE + FIELD < len(waveform)
    kept = [w for c in of(Commit, events) for w in c.words if w.start_s < final.end_s - 0.5]
    assert len(kept) > 3 and list(final.words[: len(kept)]) == kept
    assert final.text != final.committed
    times = [t for w in final.words for t in (w.start_s, w.end_s)]
    assert times == sorted(times)


# Packets ---------------------------------------------------------------------------------------


def test_packets_may_be_integers_stereo_tensors_and_empty():
    waveform = sound_of("_o_l_á" + "_" * 9)
    expected = run(waveform)
    integers = np.round(waveform * 32_768).astype(np.int16)
    assert run(integers) == expected
    assert run(np.stack([waveform, waveform], axis=1)) == expected
    stream = StreamingRecognizer(Speller(), SHORT, clock=None).create_stream()
    for packet in ([], np.zeros((0, 2), np.int16), waveform):
        stream.accept_waveform(RATE, packet)
    stream.input_finished()
    assert list(stream.events()) == expected


def test_a_packet_that_is_no_sound_is_refused_and_the_stream_goes_on():
    stream = StreamingRecognizer(Speller(), SHORT, clock=None).create_stream()
    with pytest.raises(AudioError, match="NaN"):
        stream.accept_waveform(RATE, np.full(10, np.nan))
    stream.accept_waveform(RATE, sound_of("_a_"))
    with pytest.raises(AudioError, match="A packet at 8000 Hz in a stream at 16000 Hz"):
        stream.accept_waveform(8_000, np.zeros(10))
    stream.input_finished()
    assert [e.text for e in stream.events()][-1] == "a"


# Late ------------------------------------------------------------------------------------------


def live(late, cost_s, policy=SHORT):
    """A microphone that gives 0.1 s when its time has come, and a model that costs time."""
    clock = Clock()
    model = Speller(clock=clock, cost_s=cost_s)
    recognizer = StreamingRecognizer(model, policy, late=late, clock=clock, max_lag_s=1)
    stream, events, arrives = recognizer.create_stream(), [], clock.now
    for packet in in_packets(sound_of(TALK * 4), [1600]):
        arrives += 0.1
        while stream.is_ready and clock.now < arrives:  # else the packets come first
            events += stream.decode()
            if stream.is_endpoint:
                events += filter(None, [stream.reset()])
        clock.now = max(clock.now, arrives)
        stream.accept_waveform(RATE, packet)
    stream.input_finished()
    return stream, events + list(stream.events())


def test_in_time_the_clock_changes_only_when_things_are_told():
    _, events = live("raise", cost_s=0.05)
    still = run(sound_of(TALK * 4))
    assert [(type(e), e.text, e.audio_s) for e in events] == [
        (type(e), e.text, e.audio_s) for e in still
    ]
    assert all(0 <= e.emitted_s - e.audio_s < 0.35 for e in events)


def test_late_it_takes_several_chunks_at_once_and_loses_nothing():
    stream, events = live("coalesce", cost_s=0.4)  # 0.5 s for 0.1 s: twice too slow
    assert max(map(max, stream.setup.model.calls)) > 0.9 * RATE
    assert stream.dropped_s == 0
    assert text_of(Final, events).replace(" ", "") == "bomdiaatélogoere" * 4
    check(events)


def test_late_it_may_drop_and_counts_what(caplog):
    stream, events = live("drop", cost_s=0.4)
    assert stream.dropped_s > 1
    assert f"{stream.dropped_s:.1f} s so far" in caplog.text
    check(events)
    assert set(text_of(Final, events)) <= set("bomdia até logo e re")
    assert events[-1].audio_s == pytest.approx(len(sound_of(TALK * 4)) / RATE, abs=0.03)


def test_late_it_may_raise():
    with pytest.raises(PtlabError, match=r"behind, more than max_lag_s=1: this machine is too"):
        live("raise", cost_s=0.4)


def test_to_wait_for_a_chunk_is_not_to_be_late():
    """A chunk that is longer than the lag that is allowed is no lag."""
    _, events = live("raise", cost_s=0.05, policy=BufferedCTC(1.5, 0.3, 0.1))
    assert text_of(Final, events).replace(" ", "") == "bomdiaatélogoere" * 4


def test_a_file_given_at_once_is_not_late():
    stream = StreamingRecognizer(Speller(), SHORT, late="raise", clock=Clock()).create_stream()
    stream.accept_waveform(RATE, sound_of(TALK * 4))
    assert stream.lag_s == pytest.approx(0)
    assert list(stream.events())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"late": "hurry"}, "late='hurry'; choose one of coalesce, drop, raise"),
        ({"refine_s": -1}, "refine_s=-1; expected 0 or more"),
        ({"max_lag_s": 0}, "max_lag_s=0; expected more than 0"),
    ],
)
def test_choices_that_make_no_sense_are_refused(options, message):
    with pytest.raises(PtlabError, match=message):
        StreamingRecognizer(Speller(), **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BufferedCTC(chunk_s=0), "chunk_s=0; expected 0.02 to 60"),
        (lambda: BufferedCTC(left_s=-1), "left_s=-1, right_s=0.5; expected 0 or more"),
        (lambda: LocalAgreement(n=0), "n=0; LocalAgreement needs 1"),
        (lambda: NaiveChunks(chunk_s=math.nan), "chunk_s=nan"),
    ],
)
def test_policies_that_make_no_sense_are_refused(make, message):
    with pytest.raises(PtlabError, match=message):
        make()


# Hours -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "minutes"),
    [(BufferedCTC(chunk_s=2), 120), (LocalAgreement(chunk_s=2), 16), (NaiveChunks(chunk_s=2), 16)],
)
def test_memory_and_the_cost_of_a_step_do_not_grow(policy, minutes):
    """Hours, with pauses and without: what is held and encoded is bounded from the start."""
    model = Speller()
    stream = StreamingRecognizer(model, policy, clock=None).create_stream()
    minute, held = sound_of("_a_b_c|d_e_f__|" * 200)[: 60 * RATE], []
    for n in range(minutes):
        packet = np.zeros(60 * RATE, np.float32) if n % 4 > 1 else minute
        for samples in in_packets(packet, [2 * RATE]):
            stream.accept_waveform(RATE, samples)
            for _ in stream.events():
                rows = len(stream._text._rows) + len(stream._text.tail) + len(stream._text.words)
                held.append((stream._hearing.end - stream._hearing.start, rows))
    bounds = np.array(held[: len(held) // 4]).max(axis=0)
    assert (np.array(held).max(axis=0) <= bounds).all()
    assert bounds[0] < 40 * RATE and bounds[1] < 1500
    assert max(map(max, model.calls)) <= 40 * RATE


def held_by(thing, shared, seen):
    """Bytes that a state keeps in arrays, and eight for each item of a list, a tuple or a dict."""
    if id(thing) in seen or thing is shared:
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        whole = thing.base if isinstance(thing.base, np.ndarray) else None
        return thing.nbytes if whole is None else held_by(whole, shared, seen)
    if isinstance(thing, dict):
        thing = [*thing.values()]
    if isinstance(thing, list | tuple):
        return 8 * len(thing) + sum(held_by(part, shared, seen) for part in thing)
    ours = type(thing).__module__.startswith("ptlab.")
    return held_by(vars(thing), shared, seen) if ours else 0


@pytest.mark.parametrize("policy", [BufferedCTC(), LocalAgreement(), NaiveChunks()])
def test_nothing_that_a_stream_keeps_grows_with_the_audio(policy):
    """Whatever it is called: all that can be reached from a stream, setup and model aside."""
    stream = StreamingRecognizer(Speller(), policy, clock=None).create_stream()
    talk = sound_of("_a_b_c|d_e_f__|" * 60 + "_" * 300)
    assert held_by(stream, stream.setup, set()) < 10_000
    most = []  # in each round
    for _ in range(6):
        sizes = []
        for samples in in_packets(talk, [RATE // 2]):
            stream.accept_waveform(RATE, samples)
            for _ in stream.events():
                sizes.append(held_by(stream, stream.setup, set()))
        most.append(max(sizes))
    assert max(most[2:]) <= 1.05 * max(most[:2]) < 8e6, most


# The real small model --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini():
    return Transcriber(load_model("mini", device="cpu"))


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_a_clip_ends_with_its_surer_reading_whatever_the_packets(mini, clip):
    audio = load_corpus("dev").audio(clip)
    whole = mini.transcribe(audio)
    events = run(audio.waveform, BufferedCTC(), [811, 4000], mini)
    check(events)
    final, words = of(Final, events)[-1], [w for c in of(Commit, events) for w in c.words]
    surer = whole.words if whole.confidence > np.mean([w.confidence for w in words]) else words
    assert (final.text, len(of(Final, events))) == (" ".join(w.text for w in surer), 1)
    assert [w.start_s for w in final.words] == pytest.approx([w.start_s for w in surer])
    # the same events, but that the final look has no neighbour: nothing is run in a batch here
    assert [(type(e), e.text) for e in events] == [
        (type(e), e.text) for e in run(audio.waveform, BufferedCTC(), [len(audio)], mini)
    ]


def test_clips_in_one_batch_say_what_they_say_alone(mini):
    corpus = load_corpus("dev")
    waveforms = [corpus.audio(i).waveform[: 2 * RATE] for i in (1, 2)]
    recognizer = StreamingRecognizer(mini, BufferedCTC(), refine_s=0, clock=None)
    streams = [recognizer.create_stream() for _ in waveforms]
    for stream, waveform in zip(streams, waveforms, strict=True):
        stream.accept_waveform(RATE, waveform)
        stream.input_finished()
    while any(s.is_ready for s in streams):
        recognizer.decode(streams)
    alone = [of(Final, run(w, BufferedCTC(), model=mini, refine_s=0)) for w in waveforms]
    assert [s.result.text for s in streams] == [" ".join(f.text for f in fs) for fs in alone]


def test_utterances_of_a_story_end_between_its_words(mini):
    """Half a minute of two voices, against the true times of its words."""
    story = load_story()
    waveform = story.audio().waveform[: 30 * RATE]
    endpointing = Endpointing(silence_s=0.5)
    events = run(waveform, BufferedCTC(chunk_s=1.0), [4_410], mini, endpointing=endpointing)
    check(events)
    finals = of(Final, events)
    assert len(finals) > 2
    for final in finals[:-1]:
        inside = (story.words.start_s < final.end_s - 0.1) & (story.words.end_s > final.end_s + 0.1)
        assert not inside.any(), story.words[inside]
    heard = story.words[story.words.end_s < 30]
    truth, offline = " ".join(heard.text), mini.transcribe(waveform, RATE).text
    assert cer(truth, text_of(Final, events)) < cer(truth, offline) + 0.05
