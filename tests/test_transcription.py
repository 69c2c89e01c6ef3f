"""Every format that a transcription is written in, read back by its own rules."""

import io
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptlab.errors import PtlabError
from ptlab.transcription import Character, Timing, Transcription, Word


def transcription(words, duration_s):
    text = " ".join(w.text for w in words)
    return Transcription(text, tuple(words), duration_s, "mini", 1, Timing(0.1, 0.2, 0.3))


def spoken(text, start_s, end_s, confidence=0.9):
    """A word whose letters share its time evenly."""
    step = (end_s - start_s) / len(text)
    letters = [
        Character(c, start_s + i * step, start_s + (i + 1) * step, confidence)
        for i, c in enumerate(text)
    ]
    return Word(text, start_s, end_s, confidence, tuple(letters))


@pytest.fixture
def bom_dia():
    words = [spoken("bom", 0.1, 0.4), spoken("dia,", 0.4, 0.8, 0.4), spoken("d'água", 2.0, 2.50004)]
    return transcription(words, 3.00006)


@st.composite
def any_transcription(draw):
    """Words in order with pauses of every length, some of them none."""
    now, words = 0.0, []
    for text in draw(st.lists(st.sampled_from(["não", 'a"b', "<unk>", "é", "fazê-lo" * 6]))):
        start = now + draw(st.sampled_from([0.0, 0.0, 0.02, 0.3, 0.9]))
        now = start + draw(st.floats(0.05, 2))
        words.append(spoken(text, start, now))
    return transcription(words, now + draw(st.sampled_from([0.0, 0.00001, 1.5])) + 0.001)


EMPTY = transcription([], 1.5)


# --- TextGrid ------------------------------------------------------------------------------------


def read_textgrid(text):
    """Duration and {tier: [(xmin, xmax, label)]} of a Praat TextGrid in the long format."""
    head = re.match(
        r'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
        r"xmin = 0\nxmax = ([\d.]+)\ntiers\? <exists>\nsize = (\d+)\nitem \[\]:\n",
        text,
    )
    tiers = {}
    for block in re.split(r"    item \[\d+\]:\n", text[head.end() :])[1:]:
        name = re.search(r'class = "IntervalTier"\n\s+name = "(\w+)"\n', block)[1]
        assert re.search(r"xmin = 0\n\s+xmax = ([\d.]+)\n", block)[1] == head[1]
        found = re.findall(
            r"intervals \[(\d+)\]:\n\s+xmin = ([\d.]+)\n\s+xmax = ([\d.]+)\n"
            r'\s+text = "((?:[^"]|"")*)"\n',
            block,
        )
        assert [int(n) for n, *_ in found] == list(range(1, len(found) + 1))
        assert int(re.search(r"intervals: size = (\d+)", block)[1]) == len(found)
        tiers[name] = [(float(a), float(b), t.replace('""', '"')) for _, a, b, t in found]
    assert len(tiers) == int(head[2])
    return float(head[1]), tiers


@given(any_transcription())
def test_textgrid_has_intervals_without_gaps_from_zero_to_the_end(result):
    duration, tiers = read_textgrid(result.to_textgrid())
    assert duration == pytest.approx(result.duration_s, abs=1e-4)
    for name, intervals in tiers.items():
        assert intervals[0][0] == 0
        assert intervals[-1][1] == duration
        assert all(a[1] == b[0] for a, b in itertools.pairwise(intervals))
        assert all(start < end for start, end, _ in intervals)
        labels = [label for _, _, label in intervals if label]
        assert labels == [i.text for i in getattr(result, name)]


def test_textgrid_has_no_interval_that_rounding_empties():
    duration, tiers = read_textgrid(
        transcription([spoken("fim", 0, 1.00001)], 1.00004).to_textgrid()
    )
    assert (duration, tiers["words"]) == (1.0, [(0, 1.0, "fim")])


def test_textgrid_times_are_those_of_the_words(bom_dia):
    _, tiers = read_textgrid(bom_dia.to_textgrid())
    assert tiers["words"] == [
        (0, 0.1, ""),
        (0.1, 0.4, "bom"),
        (0.4, 0.8, "dia,"),
        (0.8, 2.0, ""),
        (2.0, 2.5, "d'água"),
        (2.5, 3.0001, ""),
    ]


# --- subtitles -----------------------------------------------------------------------------------


def seconds(clock):
    hours, minutes, rest = clock.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def read_srt(text):
    cues = []
    for number, block in enumerate(filter(None, text.split("\n\n")), 1):
        index, times, *lines = block.strip().split("\n")
        assert int(index) == number
        start, end = re.fullmatch(
            r"(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})", times
        ).groups()
        cues.append((seconds(start), seconds(end), "\n".join(lines)))
    return cues


def read_vtt(text):
    head, *blocks = text.split("\n\n")
    assert head == "WEBVTT"
    cues = []
    for block in filter(None, blocks):
        times, *lines = block.strip().split("\n")
        start, end = re.fullmatch(
            r"(\d\d:\d\d:\d\d\.\d{3}) --> (\d\d:\d\d:\d\d\.\d{3})", times
        ).groups()
        payload = "\n".join(lines)
        assert "-->" not in payload
        assert not re.search(r"<|&(?!amp;|lt;|gt;)", payload)  # what WebVTT would read as markup
        for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            payload = payload.replace(entity, sign)
        cues.append((seconds(start), seconds(end), payload))
    return cues


@given(any_transcription())
def test_subtitles_hold_every_word_once_in_order(result):
    for cues in (read_srt(result.to_srt()), read_vtt(result.to_vtt())):
        assert " ".join(text for *_, text in cues) == result.text
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(cues))


@given(any_transcription())
def test_subtitles_are_short_enough_to_read(result):
    for cue in result.cues():
        one_word = " " not in cue.text
        assert one_word or len(cue.text) <= 84
        assert one_word or cue.end_s - cue.start_s <= 7


def test_a_pause_begins_a_new_subtitle(bom_dia):
    assert read_srt(bom_dia.to_srt()) == [(0.1, 0.8, "bom dia,"), (2.0, 2.5, "d'água")]


def test_clocks_carry_into_minutes_and_hours():
    late = transcription([spoken("fim", 3_599.9996, 3_661.5)], 3_662)
    assert read_srt(late.to_srt()) == [(3_600.0, 3_661.5, "fim")]
    assert "01:00:00,000 --> 01:01:01,500" in late.to_srt()


# --- dict, JSON, frame, print --------------------------------------------------------------------


def test_json_is_the_dict_with_letters_as_they_are(bom_dia):
    values = json.loads(bom_dia.to_json())
    assert values == json.loads(json.dumps(bom_dia.to_dict()))
    assert "água" in bom_dia.to_json()
    assert values["text"] == "bom dia, d'água"
    assert values["words"][1]["characters"][0]["text"] == "d"
    assert values["confidence"] == pytest.approx((0.9 + 0.4 + 0.9) / 3)
    assert Timing(**values["timing"]) == bom_dia.timing


def test_frames_survive_csv(bom_dia):
    import pandas as pd

    for level, items in (("words", bom_dia.words), ("characters", bom_dia.characters)):
        frame = bom_dia.to_frame(level)
        again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
        assert again.text.tolist() == [i.text for i in items]
        assert again.end_s.tolist() == pytest.approx([i.end_s for i in items])
    with pytest.raises(PtlabError, match="choose 'words' or 'characters'"):
        bom_dia.to_frame("phones")


def test_nothing_recognised_is_valid_in_every_format():
    assert (str(EMPTY), EMPTY.characters, EMPTY.confidence, EMPTY.cues()) == ("", (), 0.0, [])
    assert EMPTY.to_frame().columns.tolist() == ["text", "start_s", "end_s", "confidence"]
    assert json.loads(EMPTY.to_json())["words"] == []
    assert read_srt(EMPTY.to_srt()) == read_vtt(EMPTY.to_vtt()) == []
    duration, tiers = read_textgrid(EMPTY.to_textgrid())
    assert tiers == {"words": [(0, duration, "")], "characters": [(0, duration, "")]}
    assert "0 words" in repr(EMPTY)
    assert EMPTY._repr_html_() == "<p lang='pt'></p>"


def test_it_prints_as_text_and_shows_doubt_without_colour(bom_dia):
    assert str(bom_dia) == "bom dia, d'água"
    assert "3 words, 3.00 s, confidence 0.73, model 'mini'" in repr(bom_dia)
    page = transcription([spoken("<b>", 0, 1)], 1)._repr_html_()
    assert "&lt;b&gt;" in page
    assert bom_dia._repr_html_().count("3px dotted") == 1  # the one word below one half


def test_results_cannot_be_changed(bom_dia):
    with pytest.raises(AttributeError):
        bom_dia.text = "boa noite"
