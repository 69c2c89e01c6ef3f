"""ptlab: helpers of the course on Portuguese speech recognition, for your own work too.

>>> import ptlab
>>> corpus = ptlab.load_corpus("test")
>>> result = ptlab.transcribe(corpus.audio(0))
>>> isinstance(result.text, str)
True

Names are loaded on first use, so that ``import ptlab`` is quick and needs neither torch nor
transformers. ``help(ptlab.transcribe)`` and ``ptlab.transcribe??`` show what each one does.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "audio": ("SAMPLE_RATE", "Audio", "load_audio", "normalize", "resample"),
    "confidence": ("Calibrator", "frame_confidence", "segment_confidence", "word_confidence"),
    "ctc": (
        "Alignment",
        "Segment",
        "align",
        "char_segments",
        "collapse",
        "decode",
        "forward_log_prob",
        "frame_boundary",
        "frame_times",
        "greedy_path",
        "tokens_to_text",
        "word_segments",
    ),
    "errors": (
        "AlignmentError",
        "AudioError",
        "DataError",
        "ModelError",
        "PtlabError",
        "TextError",
    ),
    "models": ("MODELS", "ModelSpec", "SpeechModel", "default_model", "load_model"),
    "transcribe": ("Transcriber", "hf_pipeline", "transcribe"),
    "transcription": ("Character", "Cue", "Timing", "Transcription", "Word"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'ptlab' has no attribute {name!r}; see ptlab.__all__")
    value = getattr(importlib.import_module(f"ptlab.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
