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
    "browser": ("BrowserDemo", "browser_demo"),
    "captions": ("caption", "pcm_packets", "show_captions"),
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
    "finetune": (
        "FinetuneResult",
        "FinetuneSettings",
        "checkpoint_activations",
        "finetune",
        "frames_needed",
        "trainable_model",
    ),
    "finetune_audit": ("DataAudit", "audit_data"),
    "fit_size": ("quantize_to_fit",),
    "live_widget": ("LiveCaptions", "live_captions"),
    "machine": ("Machine", "this_machine"),
    "map_widget": ("SoundMap", "sound_map"),
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
    "minibatches": ("MiniBatches", "Outcome", "lanes_for", "plan_minibatches"),
    "models": ("MODELS", "ModelSpec", "SpeechModel", "default_model", "list_models", "load_model"),
    "onnx_model": ("OnnxModel", "load_onnx"),
    "plots": (
        "plot_alignment",
        "plot_asr_overview",
        "plot_bars",
        "plot_confusions",
        "plot_det",
        "plot_errors",
        "plot_flicker",
        "plot_frame_similarity",
        "plot_intervals",
        "plot_layer_sweep",
        "plot_layers",
        "plot_listening_order",
        "plot_log_probs",
        "plot_map",
        "plot_padding",
        "plot_pretraining",
        "plot_receptive_field",
        "plot_reliability",
        "plot_runtimes",
        "plot_sensitivity",
        "plot_spectrogram",
        "plot_step_cost",
        "plot_throughput",
        "plot_timeline",
        "plot_tradeoff",
        "plot_training",
        "plot_transfer",
        "plot_waveform",
    ),
    "probe_data": (
        "PROBE_SETS",
        "load_emouerj",
        "load_labelled_folder",
        "load_probe_set",
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
    "retrieval": ("nearest_clips", "nearest_voices", "unit_vectors"),
    "runtimes": (
        "RuntimeComparison",
        "RuntimeCosts",
        "compare_runtimes",
        "measure_costs",
        "verdict",
    ),
    "sensitivity": ("Sensitivity", "sensitivity"),
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
    "tensorrt": ("EnginePlan", "TensorRTExport", "export_tensorrt", "missing_for_tensorrt"),
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
    "verification": ("Trials", "Verification", "equal_error_rate", "make_trials", "verify"),
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
