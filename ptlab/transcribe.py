"""Audio to `Transcription`, short or of any length.

A long recording is run in windows that overlap. In every overlap the two windows are joined at
the frame where both are surest that nothing is being said (blank or space), so a seam does not
cut a word; the joined log-probs are decoded as one. Memory for the model is that of
``batch_size`` windows, whatever the length.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ptlab import ctc
from ptlab.audio import load_audio
from ptlab.confidence import Calibrator, frame_confidence, segment_confidence, word_confidence
from ptlab.errors import PtlabError
from ptlab.models import SpeechModel, load_model, read_calibration
from ptlab.transcription import Character, Timing, Transcription, Word

__all__ = ["Transcriber", "hf_pipeline", "transcribe"]

PIECE_FRAMES = 1500  # longest stretch aligned at once; cut only at blanks


def transcribe(
    audio: Any, sampling_rate: int | None = None, model: str | SpeechModel | None = None
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
        model: str | os.PathLike | SpeechModel | None = None,
        *,
        window_s: float = 20.0,
        overlap_s: float = 4.0,
        batch_size: int = 4,
        device: str = "auto",
        dtype: str = "auto",
    ):
        if not 0 < 2 * overlap_s < window_s:
            raise PtlabError(
                f"window_s={window_s} and overlap_s={overlap_s}: the overlap must be above zero "
                "and under half of the window."
            )
        loaded = hasattr(model, "log_probs")
        self.model = model if loaded else load_model(model, device=device, dtype=dtype)
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
        """
        start = time.perf_counter()
        sound = load_audio(audio, sampling_rate, target_rate=self.model.sampling_rate)
        loaded = time.perf_counter()
        log_probs, windows = self.log_probs(sound.waveform)
        done = time.perf_counter()
        words = self._words(log_probs, sound.duration_s)
        text = " ".join(w.text for w in words)
        timing = Timing(loaded - start, done - loaded, time.perf_counter() - start)
        return Transcription(
            text, words, sound.duration_s, self.model.name, windows, timing,
            self.calibrator is not None,
        )  # fmt: skip

    def log_probs(self, waveform: np.ndarray) -> tuple[np.ndarray, int]:
        """Log-probs ``(frames, vocab)`` of a waveform of any length, and the windows it took."""
        starts = self._window_starts(len(waveform))
        if len(starts) == 1:
            return self.model.log_probs([waveform])[0], 1
        window = self._samples(self.window_s)
        pieces: list[np.ndarray] = []
        frame = 0  # the first frame that is not yet kept
        held: tuple[int, np.ndarray] | None = None
        for start, matrix in self._run_windows(waveform, starts, window):
            first = start // self.model.hop
            if held is not None:
                seam = self._seam(held, (first, matrix))
                pieces.append(held[1][frame - held[0] : seam - held[0]])
                frame = seam
            held = (first, matrix)
        pieces.append(held[1][frame - held[0] :])
        return np.concatenate(pieces), len(starts)

    def _samples(self, seconds: float) -> int:
        """Whole hops, so that the frames of all windows lie on one grid."""
        return int(seconds * self.model.sampling_rate) // self.model.hop * self.model.hop

    def _window_starts(self, samples: int) -> list[int]:
        window, overlap = self._samples(self.window_s), self._samples(self.overlap_s)
        if samples <= window:
            return [0]
        return list(range(0, samples - overlap, window - overlap))

    def _run_windows(
        self, waveform: np.ndarray, starts: list[int], window: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        rest = self.model.receptive_field - self.model.hop  # what the last frame needs beyond it
        for i in range(0, len(starts), self.batch_size):
            chosen = starts[i : i + self.batch_size]
            cut = [waveform[s : s + window + rest] for s in chosen]
            matrices = self.model.log_probs(cut, batch_size=self.batch_size)
            yield from zip(chosen, matrices, strict=True)

    def _seam(self, left: tuple[int, np.ndarray], right: tuple[int, np.ndarray]) -> int:
        """Frame of the overlap at which both windows are surest of a blank or a space.

        The outer quarters of the overlap, where one window has little context, are left out.
        """
        begin, end = right[0], left[0] + len(left[1])
        margin = (end - begin) // 4
        begin, end = begin + margin, max(begin + margin + 1, end - margin)
        quiet = self._quiet(left[1][begin - left[0] : end - left[0]])
        quiet = quiet + self._quiet(right[1][begin - right[0] : end - right[0]])
        return begin + int(quiet.argmax())

    def _quiet(self, matrix: np.ndarray) -> np.ndarray:
        space = self.model.vocabulary.index(self.model.word_delimiter)
        return np.logaddexp(matrix[:, self.model.blank], matrix[:, space])

    def _words(self, log_probs: np.ndarray, duration_s: float) -> tuple[Word, ...]:
        characters = list(_characters(log_probs, self.model.vocabulary, self.model.blank))
        scores = frame_confidence(log_probs, **self._method)
        words = []
        for word, letters in ctc.word_segments(characters):
            marks = [segment_confidence(scores, c) for c in letters]
            score = word_confidence(marks, self._aggregate)
            sure = float(self.calibrator(score)) if self.calibrator else score
            spelled = tuple(
                Character(c.text, *self._times(c, duration_s), mark)
                for c, mark in zip(letters, marks, strict=True)
            )
            words.append(Word(word.text, *self._times(word, duration_s), sure, spelled))
        return tuple(words)

    @property
    def _method(self) -> dict[str, Any]:
        if self.calibrator is None:
            return {}
        return {"method": self.calibrator.method, "alpha": self.calibrator.alpha}

    @property
    def _aggregate(self) -> str:
        return self.calibrator.aggregate if self.calibrator else "min"

    def _times(self, segment: ctc.Segment, duration_s: float) -> tuple[float, float]:
        grid = (self.model.hop, self.model.receptive_field, self.model.sampling_rate)
        ends = (ctc.frame_boundary(f, *grid) for f in (segment.start_frame, segment.end_frame))
        start, end = (min(max(t + self.offset_s, 0.0), duration_s) for t in ends)
        return round(start, 4), round(end, 4)


def _characters(
    log_probs: np.ndarray, vocabulary: Sequence[str], blank: int
) -> Iterator[ctc.Segment]:
    """Characters of the greedy text, aligned piece by piece so that memory stays small."""
    path = ctc.greedy_path(log_probs)
    for start, end in _pieces(path, blank):
        tokens = ctc.collapse(path[start:end], blank)
        for s in ctc.char_segments(log_probs[start:end], tokens, vocabulary, blank):
            frames = (s.start_frame, s.end_frame, s.first_frame, s.last_frame)
            yield ctc.Segment(s.text, *(f + start for f in frames))


def _pieces(path: np.ndarray, blank: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most about `PIECE_FRAMES` frames, each but the first beginning at a blank."""
    blanks, start = np.flatnonzero(path == blank), 0
    while len(path) - start > PIECE_FRAMES:
        ahead = blanks[blanks > start]
        near = ahead[ahead <= start + PIECE_FRAMES]
        if not len(ahead):
            break
        end = int(near[-1] if len(near) else ahead[0])
        yield start, end
        start = end
    yield start, len(path)


def hf_pipeline(model: SpeechModel, **options: Any) -> Any:
    """The Transformers pipeline ``automatic-speech-recognition`` around a loaded model.

    For comparison and for people who know it. Given several clips with a ``batch_size`` above
    one it also decodes their padding: see notebook 01. `Transcriber` does not.
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
