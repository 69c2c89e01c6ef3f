"""A CTC model that ONNX Runtime runs: what `SpeechModel` offers, without torch or transformers.

>>> import ptlab
>>> from tempfile import TemporaryDirectory
>>> sound = ptlab.load_corpus("test").audio(0)
>>> with TemporaryDirectory() as folder:
...     ptlab.export_onnx("mini", f"{folder}/onnx").folder.name
...     model = ptlab.load_onnx(f"{folder}/onnx", threads=1)
...     log_probs = model.log_probs([sound.waveform])[0]
'onnx'
>>> ptlab.decode(log_probs, model.vocabulary) == ptlab.transcribe(sound, model="mini").text
True

`ptlab.export_onnx` makes the file. All that belongs to the model (vocabulary, normalisation, grid
of frames) lies inside it as metadata, so that ``model.onnx`` alone transcribes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ptlab.audio import normalize
from ptlab.errors import ModelError
from ptlab.minibatches import is_out_of_memory
from ptlab.samples import frame_count
from ptlab.speech_model import log_probs_in_batches, padded

__all__ = ["OnnxModel", "load_onnx"]

GRAPH = "model.onnx"  # in its folder
METADATA = "ptlab"  # the key of the facts inside the file
FORMAT = 1
WAVEFORMS, MASK, LOG_PROBS = "input_values", "attention_mask", "log_probs"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxModel:
    """A model of ONNX Runtime; made by `ptlab.load_onnx`, or by `ptlab.load_model` of its folder.

    It takes the place of a `SpeechModel` wherever text is wanted: `Transcriber`,
    `transcribe_files`, alignment, streaming, the command. It has no hidden states.

    Attributes
    ----------
    name : str
    folder : Path
        Where the file lies, perhaps with a ``calibration.json`` beside it.
    vocabulary : tuple of str
    blank : int
    word_delimiter : str
    sampling_rate : int
        In Hz.
    hop, encoder_hop, receptive_field : int
        In samples, as in `SpeechModel`.
    pads_exactly, normalizes : bool
        As in `SpeechModel`.
    precision : str
        Of the weights, such as ``"float32"`` or ``"int8"``.
    num_parameters : int
    device : str
        ``"cpu"`` or ``"cuda"``.

    `ptlab.export_onnx` has an example.
    """

    def __init__(self, name: str, path: Path, session: Any, facts: dict[str, Any], device: str):
        self.name, self.path, self.folder, self.device = name, path, path.parent, device
        self.vocabulary: tuple[str, ...] = tuple(facts["vocabulary"])
        self.blank, self.word_delimiter = int(facts["blank"]), str(facts["word_delimiter"])
        self.sampling_rate = int(facts["sampling_rate"])
        self.encoder_hop, self._merged = int(facts["encoder_hop"]), int(facts["adapter_stride"])
        self.hop = self.encoder_hop * self._merged
        self.receptive_field = int(facts["receptive_field"])
        self.pads_exactly, self.normalizes = bool(facts["pads_exactly"]), bool(facts["normalizes"])
        self.precision, self.num_parameters = str(facts["precision"]), int(facts["num_parameters"])
        self.facts, self._session = facts, session
        self._takes_mask = MASK in {i.name for i in session.get_inputs()}

    def __repr__(self) -> str:
        return (
            f"OnnxModel({self.name!r}, {self.facts['model_type']}, "
            f"{self.num_parameters / 1e6:.1f} M parameters, {self.precision}, "
            f"{self.size_bytes / 1e6:.1f} MB, {self.device})"
        )

    @property
    def size_bytes(self) -> int:
        """Size of the file on disk."""
        return self.path.stat().st_size

    @property
    def model(self) -> Any:
        """What a graph does not have, told clearly: the torch module of a `SpeechModel`."""
        raise ModelError(
            f"{self.name!r} is an ONNX graph: it gives text, but no hidden states, and nothing to "
            f"train. Load the model that it was made from ({self.facts['source']!r}) for that."
        )

    num_layers = hidden_size = model

    @cached_property
    def digest(self) -> str:
        """Hash of the file: a journal goes on only with the model that began it."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()[:32]

    def frames(self, samples: int) -> int:
        """Frames that the model gives for so many samples; 0 below the receptive field."""
        encoder_frames = frame_count(samples, self.receptive_field, self.encoder_hop)
        return -(-encoder_frames // self._merged)

    def log_probs(
        self,
        waveforms: Sequence[np.ndarray],
        *,
        batch_size: int | None = None,
        normalized: bool = False,
    ) -> list[np.ndarray]:
        """Log-probabilities of the tokens, one matrix a waveform; see `SpeechModel.log_probs`.

        Parameters
        ----------
        waveforms : sequence of ndarray (samples,)
        batch_size : int, optional
        normalized : bool

        Returns
        -------
        list of ndarray (frames, vocab), float32

        Raises
        ------
        ModelError
            As there, and if ONNX Runtime fails.
        MemoryError
            If it has no memory left.
        """
        return log_probs_in_batches(
            self, waveforms, batch_size, lambda arrays: self._run(arrays, normalized)
        )

    def inputs(self, arrays: list[np.ndarray], normalized: bool = False) -> dict[str, np.ndarray]:
        """What the graph is given for waveforms: normalised, padded, masked."""
        if self.normalizes and not normalized:
            arrays = [normalize(a) for a in arrays]
        waves, mask = padded(arrays)
        return {WAVEFORMS: waves} | ({MASK: mask} if self._takes_mask else {})

    def _run(self, arrays: list[np.ndarray], normalized: bool) -> list[np.ndarray]:
        try:
            (log_probs,) = self._session.run([LOG_PROBS], self.inputs(arrays, normalized))
        except Exception as error:  # ONNX Runtime's own kinds have no root but this
            if is_out_of_memory(RuntimeError(str(error))):
                raise MemoryError(str(error)) from error
            raise ModelError(f"ONNX Runtime cannot run {self.name!r}: {_line(error)}.") from error
        return [m[: self.frames(len(a))].copy() for m, a in zip(log_probs, arrays, strict=True)]


def load_onnx(
    path: str | os.PathLike, *, device: str = "auto", threads: int | None = None
) -> OnnxModel:
    """Load a model that `ptlab.export_onnx` or `ptlab.quantize` has written.

    Parameters
    ----------
    path : path
        Its folder, or a ``.onnx`` file.
    device : {"auto", "cpu", "cuda"}
        ``"auto"`` is CUDA where ONNX Runtime was built for it (``onnxruntime-gpu``), else the CPU.
    threads : int, optional
        That compute one step of the graph; by default ``$OMP_NUM_THREADS``, as for torch, else as
        many as there are cores.

    Returns
    -------
    OnnxModel

    Raises
    ------
    ModelError
        If there is no such file, it is damaged or not from ptlab, or the device is missing.

    Examples
    --------
    >>> load_onnx("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ptlab.errors.ModelError: No ONNX model at 'nowhere': ... ptlab.export_onnx makes one.
    """
    given = Path(path).expanduser()
    file = given / GRAPH if given.is_dir() else given
    if not file.is_file():
        raise ModelError(
            f"No ONNX model at {os.fspath(path)!r}: give a folder that holds {GRAPH}, or a .onnx "
            "file. ptlab.export_onnx makes one."
        )
    device = _find_device(device)
    session = _session(file, device, threads)
    facts = _facts(session, os.fspath(path))
    return OnnxModel(os.fspath(path), file, session, facts, device)


def _find_device(device: str) -> str:
    import onnxruntime

    device, built_for = str(device), onnxruntime.get_available_providers()
    if device == "auto":
        return "cuda" if _PROVIDERS["cuda"] in built_for else "cpu"
    if device not in _PROVIDERS:
        raise ModelError(f"device={device!r}; ONNX models run on 'auto', 'cpu' or 'cuda'.")
    if _PROVIDERS[device] not in built_for:
        raise ModelError(
            "This ONNX Runtime cannot use CUDA: install onnxruntime-gpu in the place of "
            "onnxruntime, or give device='cpu'."
        )
    return device


def _session(file: Path, device: str, threads: int | None) -> Any:
    import onnxruntime

    if threads is not None and threads < 1:
        raise ModelError(f"threads={threads}; expected 1 or more, or None.")
    options = onnxruntime.SessionOptions()
    set_outside = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(set_outside) if set_outside.isdigit() else 0)
    options.log_severity_level = 3  # errors; they are raised as well
    providers = [_PROVIDERS["cuda"]] if device == "cuda" else []
    try:
        return onnxruntime.InferenceSession(str(file), options, [*providers, _PROVIDERS["cpu"]])
    except Exception as error:  # ONNX Runtime's own kinds have no root but this
        raise ModelError(
            f"ONNX Runtime cannot load {file.name!r}: {_line(error)}. The file is damaged, cut "
            "short, or needs a newer onnxruntime; export it again with ptlab.export_onnx."
        ) from error


def _facts(session: Any, name: str) -> dict[str, Any]:
    found = session.get_modelmeta().custom_metadata_map.get(METADATA)
    facts = json.loads(found) if found else {}
    if facts.get("format") != FORMAT:
        raise ModelError(
            f"{name!r} is an ONNX graph without ptlab's metadata (vocabulary, sampling rate, grid "
            "of frames) of this version: export the model with ptlab.export_onnx."
        )
    return facts


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
