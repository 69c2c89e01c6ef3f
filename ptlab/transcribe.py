"""Audio to `Transcription`, short or of any length; and known texts to times.

>>> import ptlab
>>> corpus = ptlab.load_corpus("test")
>>> transcriber = ptlab.Transcriber("mini")
>>> result = transcriber.transcribe(corpus.audio(0))  # or the path of a file
>>> result.to_frame().columns.tolist()
['text', 'start_s', 'end_s', 'confidence']
>>> known = transcriber.align(corpus.audio(0), corpus.row(0)["text"])  # when was each word said?
>>> [word.text for word in known.words[:3]]
['na', 'minha', 'época']
>>> bool(abs(known.words[2].start_s - corpus.words(0).start_s[2]) < 0.2)
True

A long recording is run in windows (`ptlab._speech.windows` has the rule of the seams) and decoded
as one. A file is read as it is run: of an hour no more than a few windows are in memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab import ctc
from ptlab._speech.frame_readings import read_frames
from ptlab._speech.sound_stream import SoundStream, encoded
from ptlab._speech.windows import (
    check_windows,
    join_windows,
    stitched_log_probs,
    window_log_probs,
)
from ptlab.audio import load_audio
from ptlab.confidence import Calibrator, path_confidence, segment_confidence, word_confidence
from ptlab.errors import PtlabError
from ptlab.models import SpeechModel, as_model, read_calibration
from ptlab.text import encode, writable_text
from ptlab.transcription import Character, Timing, Transcription, Word

if TYPE_CHECKING:
    from ptlab._speech.speech_model import CTCModel

__all__ = ["Transcriber", "hf_pipeline", "transcribe"]

UNTIMED = Timing(0.0, 0.0, 0.0)
RAW = Calibrator((0.0, 1.0), (0.0, 1.0))  # scores as they are


def transcribe(
    audio: Any, sampling_rate: int | None = None, model: str | CTCModel | None = None
) -> Transcription:
    """Transcribe one recording: `Transcriber` in one line, for one-off use.

    Examples
    --------
    >>> import numpy as np
    >>> transcribe(np.zeros(16_000, "float32"), 16_000).duration_s
    1.0
    """
    return Transcriber(model).transcribe(audio, sampling_rate)


class Transcriber:
    """A loaded model and how to run it.

    Parameters
    ----------
    model
        A `SpeechModel`, or what `load_model` takes.
    window_s, overlap_s : float
        Longest piece that is run at once, and what two pieces share. A recording of up to
        ``window_s`` is run whole.
    batch_size : int
        Windows that are run at once.
    device, dtype
        As in `load_model`.

    Examples
    --------
    >>> import numpy as np
    >>> transcriber = Transcriber("mini")
    >>> transcriber.transcribe(np.zeros(8_000, "float32"), 16_000).words
    ()
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | CTCModel | None = None,
        *,
        window_s: float = 20.0,
        overlap_s: float = 4.0,
        batch_size: int = 4,
        device: str = "auto",
        dtype: str = "auto",
    ):
        self.model = as_model(model, device=device, dtype=dtype)
        if isinstance(self.model, SpeechModel):  # another runtime has a head by what it is
            self.model.require_head()
        check_windows(self.model, window_s, overlap_s)
        self.window_s, self.overlap_s, self.batch_size = window_s, overlap_s, batch_size
        fitted = read_calibration(getattr(self.model, "folder", None)) or {}
        words = fitted.get("words")
        self.calibrator = Calibrator.from_dict(words) if words else None
        self.offset_s = float(fitted.get("offset_s", 0.0))

    def __repr__(self) -> str:
        return f"Transcriber({self.model!r}, window_s={self.window_s}, overlap_s={self.overlap_s})"

    def transcribe(self, audio: Any, sampling_rate: int | None = None) -> Transcription:
        """Transcribe one recording.

        Parameters
        ----------
        audio
            Whatever `ptlab.load_audio` reads: a path, bytes, an array, a tensor, a dict.
        sampling_rate : int, optional
            For arrays.

        Returns
        -------
        Transcription
            Without words where nothing is recognised.

        Raises
        ------
        AudioError
            If the audio cannot be read or used.

        Examples
        --------
        >>> import numpy as np
        >>> Transcriber("mini").transcribe(np.zeros(8_000, "int16"), 16_000).duration_s
        0.5
        """
        return self._run(audio, sampling_rate, self._recognized, self.read)

    def align(self, audio: Any, text: str, sampling_rate: int | None = None) -> Transcription:
        """Find out when each word of a known text was said (forced alignment).

        Parameters
        ----------
        audio
            As in `transcribe`.
        text : str
            What was said. It is brought to the vocabulary's letters by
            `ptlab.text.writable_text`: numbers are spelled out, punctuation is dropped.
        sampling_rate : int, optional
            For arrays.

        Returns
        -------
        Transcription
            Of that text. The confidence of a letter is the mean probability that the model gives
            it in its frames, that of a word the least of its letters: low where the text is not
            what was said. It is not calibrated.

        Raises
        ------
        TextError
            If the text has letters that the vocabulary lacks, or none at all.
        AlignmentError
            If it is too long for the audio.

        Examples
        --------
        >>> import numpy as np
        >>> aligned = Transcriber("mini").align(np.zeros(16_000, "float32"), "Olá!", 16_000)
        >>> aligned.text, 0 <= aligned.words[0].start_s < aligned.words[0].end_s <= 1
        ('olá', True)
        """
        tokens = encode(writable_text(text, self.model.vocabulary), self.model.vocabulary)
        return self._run(audio, sampling_rate, lambda m, s: self._aligned(m, s, tokens))

    def log_probs(self, waveform: np.ndarray) -> tuple[np.ndarray, int]:
        """Log-probs ``(frames, vocab)`` of a waveform of any length, and the windows it took.

        Examples
        --------
        >>> import numpy as np
        >>> log_probs, windows = Transcriber("mini").log_probs(np.zeros(16_000, "float32"))
        >>> log_probs.shape, windows
        ((49, 46), 1)
        """
        return stitched_log_probs(
            self.model,
            waveform,
            window_s=self.window_s,
            overlap_s=self.overlap_s,
            batch_size=self.batch_size,
        )

    def read(self, log_probs: np.ndarray) -> np.ndarray:
        """What `from_log_probs` needs of log-probs ``(frames, vocab)``: ``(frames,)``, smaller.

        Pieces that are read and then put together are the whole that is read.

        Examples
        --------
        >>> import numpy as np
        >>> transcriber = Transcriber("mini")
        >>> log_probs, _ = transcriber.log_probs(np.zeros(16_000, "float32"))
        >>> transcriber.read(log_probs).shape
        (49,)
        """
        how = self.calibrator or RAW
        return read_frames(self.model, np.asarray(log_probs), how.method, how.alpha)

    def from_log_probs(
        self,
        log_probs: np.ndarray,
        duration_s: float,
        *,
        windows: int = 1,
        timing: Timing = UNTIMED,
    ) -> Transcription:
        """The transcription of log-probs ``(frames, vocab)`` that the model gave for a sound.

        They may also be what `read` made of them.

        Examples
        --------
        >>> import numpy as np
        >>> transcriber = Transcriber("mini")
        >>> log_probs, windows = transcriber.log_probs(np.zeros(16_000, "float32"))
        >>> transcriber.from_log_probs(log_probs, 1.0, windows=windows).duration_s
        1.0
        """
        found = self._recognized(log_probs, duration_s)
        return self._transcription(found, duration_s, windows, timing)

    def _run(
        self,
        audio: Any,
        sampling_rate: int | None,
        words_of: Callable[[np.ndarray, float], tuple[tuple[Word, ...], bool]],
        keep: Callable[[np.ndarray], np.ndarray] = np.asarray,
    ) -> Transcription:
        """Read, run, and let ``words_of(frames, duration_s)`` say words and calibrated.

        ``frames`` are what ``keep`` makes of the log-probs of each window, joined.
        """
        start, sound = time.perf_counter(), _Metered(self._blocks(audio, sampling_rate))
        options = (self.window_s, self.overlap_s, self.batch_size)
        runs = [(s, keep(frames)) for s, frames in window_log_probs(self.model, sound, *options)]
        done = time.perf_counter()
        duration_s = sound.samples / self.model.sampling_rate
        found = words_of(join_windows(self.model, runs), duration_s)
        end = time.perf_counter()
        timing = Timing(sound.seconds, done - start - sound.seconds, end - start)
        return self._transcription(found, duration_s, len(runs), timing)

    def _blocks(self, audio: Any, sampling_rate: int | None) -> Iterator[np.ndarray]:
        """A file block by block; whatever else there is, whole."""
        rate = self.model.sampling_rate
        if sampling_rate is None and isinstance(encoded(audio), str | os.PathLike | bytes):
            yield from SoundStream(audio, rate)
        else:
            yield load_audio(audio, sampling_rate, target_rate=rate).waveform

    def _transcription(
        self, found: tuple[tuple[Word, ...], bool], duration_s: float, windows: int, timing: Timing
    ) -> Transcription:
        words, calibrated = found
        text = " ".join(w.text for w in words)
        return Transcription(text, words, duration_s, self.model.name, windows, timing, calibrated)

    def _recognized(
        self, log_probs: np.ndarray, duration_s: float
    ) -> tuple[tuple[Word, ...], bool]:
        how = self.calibrator or RAW
        frames = log_probs if log_probs.dtype.names else self.read(log_probs)
        best, scores = frames["best"][:, None], frames["sure"].copy()  # as one piece of memory
        path = ctc.path_alignment(frames["token"], float(best.sum()), self.model.blank)

        def judge(words: list[ctc.Segment], marks: list[list[float]]) -> list[float]:
            raw = np.array([word_confidence(m, how.aggregate) for m in marks])
            return how(raw * path_confidence(best, words) ** how.path).tolist()

        words = self._words(
            ctc.alignment_segments(path, self.model.vocabulary),
            duration_s,
            lambda letter: segment_confidence(scores, letter),
            judge,
        )
        return words, self.calibrator is not None

    def _aligned(
        self, log_probs: np.ndarray, duration_s: float, tokens: np.ndarray
    ) -> tuple[tuple[Word, ...], bool]:
        vocabulary, blank = self.model.vocabulary, self.model.blank
        probs, ids = np.exp(log_probs), {token: i for i, token in enumerate(vocabulary)}
        words = self._words(
            ctc.char_segments(log_probs, tokens, vocabulary, blank),
            duration_s,
            lambda letter: segment_confidence(probs[:, ids[letter.text]], letter),
            lambda _, marks: [word_confidence(m) for m in marks],
        )
        return words, False

    def _words(
        self,
        characters: list[ctc.Segment],
        duration_s: float,
        score: Callable[[ctc.Segment], float],
        judge: Callable[[list[ctc.Segment], list[list[float]]], list[float]],
    ) -> tuple[Word, ...]:
        """Words whose letters have the confidence ``score(letter)``; ``judge`` says the words'."""
        found = ctc.word_segments(characters)
        marks = [[score(letter) for letter in letters] for _, letters in found]
        sure = judge([word for word, _ in found], marks)
        words = []
        for (word, letters), of_letters, of_word in zip(found, marks, sure, strict=True):
            spelled = tuple(
                Character(c.text, *self._times(c, duration_s), mark)
                for c, mark in zip(letters, of_letters, strict=True)
            )
            words.append(Word(word.text, *self._times(word, duration_s), of_word, spelled))
        return tuple(words)

    def _times(self, segment: ctc.Segment, duration_s: float) -> tuple[float, float]:
        grid = (self.model.hop, self.model.receptive_field, self.model.sampling_rate)
        edges = (segment.start_frame, segment.end_frame)
        ends = (float(ctc.frame_boundary(f, *grid)) + self.offset_s for f in edges)
        start, end = (min(max(t, 0.0), duration_s) for t in ends)
        return round(start, 4), round(end, 4)


class _Metered:
    """Blocks of a sound; how many samples they had, and how long it took to get them."""

    def __init__(self, blocks: Iterable[np.ndarray]):
        self.blocks, self.samples, self.seconds = blocks, 0, 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        start = time.perf_counter()
        for block in self.blocks:
            self.samples += len(block)
            self.seconds += time.perf_counter() - start
            yield block
            start = time.perf_counter()
        self.seconds += time.perf_counter() - start


def as_transcriber(
    model: str | os.PathLike[str] | CTCModel | Transcriber | None = None,
    *,
    window_s: float | None = None,
    overlap_s: float | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Transcriber:
    """A `Transcriber` as it is, or one of what it takes; None is its own default.

    Raises
    ------
    PtlabError
        If windows are given for a `Transcriber`, which has its own.
    """
    given = {"window_s": window_s, "overlap_s": overlap_s}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not isinstance(model, Transcriber):
        return Transcriber(model, device=device, dtype=dtype, **options)
    if options:
        raise PtlabError("window_s and overlap_s are those of the Transcriber; set them there.")
    return model


def hf_pipeline(model: SpeechModel, **options: Any) -> Any:
    """The Transformers pipeline ``automatic-speech-recognition`` around a loaded model.

    For comparison and for people who know it. Given several clips with a ``batch_size`` above
    one it also decodes their padding: see notebook 01. `Transcriber` does not.

    Parameters
    ----------
    model : SpeechModel
    **options
        What `transformers.pipeline` takes besides.

    Examples
    --------
    >>> import numpy as np
    >>> import ptlab
    >>> pipeline = hf_pipeline(ptlab.load_model("mini", device="cpu"))
    >>> sorted(pipeline(np.zeros(16_000, "float32")))
    ['text']
    """
    from transformers import pipeline

    return pipeline(
        "automatic-speech-recognition",
        model=model.model,
        tokenizer=model.tokenizer,
        feature_extractor=model.feature_extractor,
        device=model.device,
        **options,
    )
