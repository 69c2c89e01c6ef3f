"""What a transcription is, and the formats that it can be written in.

>>> import ptlab
>>> words = (ptlab.Word("bom", 0.1, 0.4, 0.9), ptlab.Word("dia", 0.45, 0.8, 0.7))
>>> result = ptlab.Transcription("bom dia", words, 1.0, "mini", 1, ptlab.Timing(0, 0, 0))
>>> print(result.to_frame())
  text  start_s  end_s  confidence
0  bom     0.10    0.4         0.9
1  dia     0.45    0.8         0.7
>>> print(result.to_srt())
1
00:00:00,100 --> 00:00:00,800
bom dia
<BLANKLINE>
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ptlab.errors import PtlabError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Character", "Cue", "Timing", "Transcription", "Word"]

CUE_MAX_S = 7.0  # the longest that a subtitle stays (BBC subtitle guidelines: 7 s)
CUE_MAX_CHARACTERS = 84  # two lines of 42
CUE_PAUSE_S = 0.7  # a pause from which a new subtitle is due


@dataclass(frozen=True)
class Character:
    """A letter with its times in seconds and its confidence, 0 to 1.

    Examples
    --------
    >>> Character("ã", 0.1, 0.16, 0.9).text
    'ã'
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Word:
    """A word with its times in seconds, its confidence (0 to 1) and its characters.

    Examples
    --------
    >>> word = Word("dia", 0.45, 0.8, 0.7)
    >>> round(word.end_s - word.start_s, 2)
    0.35
    """

    text: str
    start_s: float
    end_s: float
    confidence: float
    characters: tuple[Character, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Seconds spent: reading and resampling, in the model, and in all.

    Examples
    --------
    >>> Timing(load_s=0.01, model_s=0.5, total_s=0.52).model_s
    0.5
    """

    load_s: float
    model_s: float
    total_s: float


@dataclass(frozen=True)
class Cue:
    """A subtitle: a few words that are shown together, with its times in seconds.

    Examples
    --------
    >>> Cue("bom dia", 0.1, 0.8).text
    'bom dia'
    """

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Transcription:
    """What was said, when, and how sure the model is.

    Attributes
    ----------
    text : str
    words : tuple of Word
    duration_s : float
        Length of the audio.
    model : str
        Name of the model.
    windows : int
        Pieces in which a long recording was run; 1 for a short one.
    timing : Timing
    calibrated : bool
        Whether a word's confidence is a fitted probability of being right, or a raw score.

    Examples
    --------
    >>> words = (Word("bom", 0.1, 0.4, 0.9), Word("dia", 0.45, 0.8, 0.7))
    >>> result = Transcription("bom dia", words, 1.0, "mini", 1, Timing(0, 0, 0))
    >>> result
    Transcription('bom dia', 2 words, 1.00 s, confidence 0.80, model 'mini')
    >>> print(result)
    bom dia
    """

    text: str
    words: tuple[Word, ...]
    duration_s: float
    model: str
    windows: int
    timing: Timing
    calibrated: bool = False

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return (
            f"Transcription({self.text!r}, {len(self.words)} words, {self.duration_s:.2f} s, "
            f"confidence {self.confidence:.2f}, model {self.model!r})"
        )

    def _repr_html_(self) -> str:
        spans = (
            f'<span title="{w.start_s:.2f}-{w.end_s:.2f} s, {w.confidence:.0%}"'
            f' style="border-bottom:{3 if w.confidence < 0.5 else 0}px dotted">'
            f"{html.escape(w.text)}</span>"
            for w in self.words
        )
        return f"<p lang='pt'>{' '.join(spans)}</p>"

    @property
    def characters(self) -> tuple[Character, ...]:
        """All letters, without the spaces."""
        return tuple(c for w in self.words for c in w.characters)

    @property
    def confidence(self) -> float:
        """Mean confidence of the words; 0 where nothing was recognised."""
        return sum(w.confidence for w in self.words) / len(self.words) if self.words else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON and the like.

        Examples
        --------
        >>> sorted(_example().to_dict())[:4]
        ['calibrated', 'confidence', 'duration_s', 'model']
        """
        return {**asdict(self), "confidence": self.confidence}

    def to_json(self, indent: int | None = 2) -> str:
        """JSON with Portuguese letters as they are.

        Examples
        --------
        >>> _example().to_json(indent=None)[:20]
        '{"text": "bom dia", '
        """
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)

    def to_frame(self, level: str = "words") -> pd.DataFrame:
        """A row a word (or ``level="characters"``): text, start_s, end_s, confidence.

        Examples
        --------
        >>> _example().to_frame().text.tolist()
        ['bom', 'dia']
        """
        import pandas as pd

        if level not in ("words", "characters"):
            raise PtlabError(f"Level {level!r}; choose 'words' or 'characters'.")
        items: Iterable[Any] = getattr(self, level)
        columns = ["text", "start_s", "end_s", "confidence"]
        return pd.DataFrame([[getattr(i, c) for c in columns] for i in items], columns=columns)

    def cues(self) -> list[Cue]:
        """Subtitles: at most 7 s and 84 characters, a new one after a pause of 0.7 s.

        Examples
        --------
        >>> _example().cues()
        [Cue(text='bom dia', start_s=0.1, end_s=0.8)]
        """
        groups: list[list[Word]] = []
        for word in self.words:
            if groups and _fits(groups[-1], word):
                groups[-1].append(word)
            else:
                groups.append([word])
        return [Cue(" ".join(w.text for w in g), g[0].start_s, g[-1].end_s) for g in groups]

    def to_srt(self) -> str:
        """SubRip subtitles (.srt).

        Examples
        --------
        >>> print(_example().to_srt())
        1
        00:00:00,100 --> 00:00:00,800
        bom dia
        <BLANKLINE>
        """
        return "\n".join(
            f"{n}\n{_clock(c.start_s, ',')} --> {_clock(c.end_s, ',')}\n{c.text}\n"
            for n, c in enumerate(self.cues(), 1)
        )

    def to_vtt(self) -> str:
        """WebVTT subtitles (.vtt).

        Examples
        --------
        >>> print(_example().to_vtt())
        WEBVTT
        <BLANKLINE>
        00:00:00.100 --> 00:00:00.800
        bom dia
        <BLANKLINE>
        """
        cues = "\n".join(
            f"{_clock(c.start_s, '.')} --> {_clock(c.end_s, '.')}\n"
            f"{html.escape(c.text, quote=False)}\n"  # <unk> would be taken for a tag
            for c in self.cues()
        )
        return f"WEBVTT\n\n{cues}"

    def to_textgrid(self) -> str:
        """Praat TextGrid (long format) with a tier of words and one of characters.

        Examples
        --------
        >>> _example().to_textgrid().splitlines()[:2]
        ['File type = "ooTextFile"', 'Object class = "TextGrid"']
        """
        tiers = {"words": self.words, "characters": self.characters}
        head = (
            'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
            f"xmin = 0\nxmax = {self.duration_s:.4f}\ntiers? <exists>\nsize = {len(tiers)}\n"
            "item []:\n"
        )
        return head + "".join(
            _tier(n, name, items, self.duration_s)
            for n, (name, items) in enumerate(tiers.items(), 1)
        )


def _example() -> Transcription:
    """What the examples above are about."""
    words = (Word("bom", 0.1, 0.4, 0.9), Word("dia", 0.45, 0.8, 0.7))
    return Transcription("bom dia", words, 1.0, "mini", 1, Timing(0, 0, 0))


def _fits(group: list[Word], word: Word) -> bool:
    characters = sum(len(w.text) + 1 for w in group) + len(word.text)
    return (
        word.start_s - group[-1].end_s < CUE_PAUSE_S
        and word.end_s - group[0].start_s <= CUE_MAX_S
        and characters <= CUE_MAX_CHARACTERS
    )


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"


def _tier(number: int, name: str, items: Iterable[Any], duration_s: float) -> str:
    """An interval tier without gaps: Praat refuses holes, so silence is an empty interval."""
    intervals, now, duration_s = [], 0.0, round(duration_s, 4)  # as written below
    for item in items:
        start, end = max(round(item.start_s, 4), now), min(round(item.end_s, 4), duration_s)
        if end <= start:
            continue
        if start > now:
            intervals.append((now, start, ""))
        intervals.append((start, end, item.text))
        now = end
    if now < duration_s or not intervals:
        intervals.append((now, duration_s, ""))
    lines = [
        f'    item [{number}]:\n        class = "IntervalTier"\n        name = "{name}"\n'
        f"        xmin = 0\n        xmax = {duration_s:.4f}\n"
        f"        intervals: size = {len(intervals)}\n"
    ]
    for i, (start, end, text) in enumerate(intervals, 1):
        quoted = text.replace('"', '""')
        lines.append(
            f"        intervals [{i}]:\n            xmin = {start:.4f}\n"
            f'            xmax = {end:.4f}\n            text = "{quoted}"\n'
        )
    return "".join(lines)
