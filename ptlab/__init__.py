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
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "audio": ("SAMPLE_RATE", "Audio", "load_audio", "normalize", "resample"),
    "batch": ("STATUSES", "BatchReport", "FileResult", "transcribe_files"),
    "collate": ("IGNORED", "CTCCollator"),
    "comparison": ("Comparison", "compare"),
    "confidence": (
        "Calibrator",
        "frame_confidence",
        "path_confidence",
        "segment_confidence",
        "word_confidence",
    ),
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
        "greedy_alignment",
        "greedy_path",
        "tokens_to_text",
        "word_segments",
    ),
    "data": (
        "SPLITS",
        "Corpus",
        "LongRecording",
        "data_dir",
        "load_common_voice",
        "load_corpus",
        "load_folder",
        "load_mls",
        "load_story",
    ),
    "embeddings": ("Embeddings", "embed", "hidden_states", "with_random_weights"),
    "errors": (
        "AlignmentError",
        "AudioError",
        "DataError",
        "ModelError",
        "PtlabError",
        "TextError",
    ),
    "export": ("Export", "export_onnx"),
    "features": ("Wav2Vec2Features",),
    "finetune": ("FinetuneResult", "FinetuneSettings", "finetune"),
    "finetune_audit": ("DataAudit", "audit_data"),
    "metrics": (
        "Edit",
        "ErrorRates",
        "Interval",
        "PairedComparison",
        "align_words",
        "auroc",
        "bootstrap",
        "cer",
        "confusions",
        "ece",
        "error_rates",
        "paired_comparison",
        "reliability",
        "show_errors",
        "wer",
        "word_correctness",
    ),
    "models": ("MODELS", "ModelSpec", "SpeechModel", "default_model", "list_models", "load_model"),
    "onnx_model": ("OnnxModel", "load_onnx"),
    "plots": (
        "plot_alignment",
        "plot_asr_overview",
        "plot_bars",
        "plot_confusions",
        "plot_errors",
        "plot_intervals",
        "plot_listening_order",
        "plot_log_probs",
        "plot_padding",
        "plot_pretraining",
        "plot_receptive_field",
        "plot_reliability",
        "plot_spectrogram",
        "plot_throughput",
        "plot_training",
        "plot_transfer",
        "plot_waveform",
    ),
    "probe_leaks": ("Leak", "LeakReport", "find_leaks", "near_duplicates"),
    "probes": (
        "LayerMix",
        "LayerSweep",
        "ProbeResult",
        "join_groups",
        "layer_sweep",
        "learning_curve",
        "probe",
        "sound_controls",
    ),
    "quantize": ("quantize", "weight_groups"),
    "ray_batch": ("RayTranscriber", "transcribe_files_ray"),
    "stream_log": ("Step", "StreamLog", "simulate"),
    "streaming": (
        "BufferedCTC",
        "Commit",
        "Endpointing",
        "Final",
        "LocalAgreement",
        "NaiveChunks",
        "Partial",
        "SileroVad",
        "Stream",
        "StreamingRecognizer",
    ),
    "streaming_metrics": (
        "Spread",
        "StreamingMetrics",
        "laal",
        "normalized_erasure",
        "streaming_metrics",
    ),
    "text": (
        "VOCABULARY",
        "TextAudit",
        "audit_text",
        "encode",
        "normalize_text",
        "spell_numbers",
        "writable_text",
    ),
    "transcribe": ("Transcriber", "hf_pipeline", "transcribe"),
    "transcription": ("Character", "Cue", "Timing", "Transcription", "Word"),
    "widgets": ("Recorder", "recorder", "transcribe_widget", "uploaded_files", "uploader"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)


class _Package(ModuleType):
    """Keeps ``ptlab.transcribe`` the function, though a room has the same name.

    Python binds a module to its package when the module is first imported, so that after
    ``ptlab.Transcriber`` the name ``ptlab.transcribe`` would be the module.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _ROOM_OF):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'ptlab' has no attribute {name!r}; see ptlab.__all__")
    value = getattr(importlib.import_module(f"ptlab.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
