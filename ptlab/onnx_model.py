"""A CTC model that is a graph: what `SpeechModel` offers, without torch or transformers.

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

import copy
import hashlib
import json
import logging
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ptlab._export.graph_sessions import (
    RUNTIMES,
    WIDENED,
    OnnxRuntimeSession,
    one_line,
    onnx_device,
    open_session,
)
from ptlab._speech.roads import Road
from ptlab._speech.samples import frame_count
from ptlab._speech.speech_model import log_probs_in_batches, padded
from ptlab.audio import normalize
from ptlab.errors import ModelError
from ptlab.minibatches import CPU_LANES, is_out_of_memory

__all__ = ["OnnxModel", "load_onnx"]

logger = logging.getLogger("ptlab")

GRAPH = "model.onnx"  # in its folder
FORMAT = 1
MOST_BYTES_TWICE = 400e6  # of a graph that may be in memory a second time: XLSR-53 in int8 fits
WAVEFORMS, MASK, LOG_PROBS = "input_values", "attention_mask", "log_probs"


class OnnxModel:
    """A graph in ONNX Runtime or OpenVINO; made by `ptlab.load_onnx` or `ptlab.load_model`.

    It takes the place of a `SpeechModel` wherever text is wanted: `Transcriber`,
    `transcribe_files`, alignment, streaming, the command; and in `ptlab.embed` if it was exported
    with its hidden states.

    Attributes
    ----------
    name : str
    path : Path
        The file; it is gone if the graph was made while the model was loaded.
    folder : Path or None
        Where the model lies, perhaps with a ``calibration.json`` beside it.
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
    size_bytes : int
        Of the graph.
    device : str
        ``"cpu"`` or ``"cuda"``.
    runtime : str
        ``"onnxruntime"`` or ``"openvino"``.
    dtype : str
        What it computes in, but for integers of the graph: ``"float32"`` or ``"bfloat16"``.
    road : Road or None
        Why it is run so, if ``load_model(..., runtime="auto")`` chose.

    `ptlab.export_onnx` has an example.
    """

    def __init__(self, name: str, path: Path, session: Any, facts: dict[str, Any], device: str):
        self.name, self.path, self.device = name, path, device
        self.folder: Path | None = path.parent
        self.vocabulary: tuple[str, ...] = tuple(facts["vocabulary"])
        self.blank, self.word_delimiter = int(facts["blank"]), str(facts["word_delimiter"])
        self.sampling_rate = int(facts["sampling_rate"])
        self.encoder_hop, self._merged = int(facts["encoder_hop"]), int(facts["adapter_stride"])
        self.hop = self.encoder_hop * self._merged
        self.receptive_field = int(facts["receptive_field"])
        self.pads_exactly, self.normalizes = bool(facts["pads_exactly"]), bool(facts["normalizes"])
        self.precision, self.num_parameters = str(facts["precision"]), int(facts["num_parameters"])
        self.facts, self._session = facts, session
        self.runtime, self.dtype = session.runtime, session.dtype
        self.inputs_of_graph: frozenset[str] = frozenset(session.inputs)
        self.size_bytes = path.stat().st_size
        self._written_ns = _written_ns(path)
        self.road: Road | None = None
        self._lane: OnnxModel | None = None
        self._one_at_a_time = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"OnnxModel({self.name!r}, {self.facts['model_type']}, "
            f"{self.num_parameters / 1e6:.1f} M parameters, {self.precision}, "
            f"{self.size_bytes / 1e6:.1f} MB, {self.runtime} in {self.dtype}, {self.device})"
        )

    @property
    def model(self) -> Any:
        """What a graph does not have, told clearly: the torch module of a `SpeechModel`."""
        raise self.has_no_layers()

    @property
    def num_layers(self) -> int:
        """Transformer layers, if the graph gives them."""
        if "num_layers" not in self.facts:
            raise self.has_no_layers()
        return int(self.facts["num_layers"])

    @property
    def hidden_size(self) -> int:
        """Width of a frame's representation, if the graph gives its layers."""
        if "hidden_size" not in self.facts:
            raise self.has_no_layers()
        return int(self.facts["hidden_size"])

    def has_no_layers(self) -> ModelError:
        """The error for those who want more than text of it."""
        return ModelError(
            f"{self.name!r} is an ONNX graph: it gives text, but no hidden states, and nothing to "
            f"train. Load the model that it was made from ({self.facts['source']!r}) for that, or "
            "export it with hidden_states=True to embed with it."
        )

    @cached_property
    def digest(self) -> str:
        """Hash of the file: a journal goes on only with the model that began it."""
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
        return found if self.dtype == "float32" else f"{found}-{self.dtype}"

    def stand_for(self, name: str, folder: Path | None, digest: str) -> None:
        """Take the name and the place of the model that the graph was made of, to be deleted."""
        self.name, self.folder = name, folder
        self.__dict__["digest"] = f"{digest}-{self.dtype}"

    @property
    def lanes(self) -> int:
        """Mini-batches that may be run at once: two, if there are threads and memory to share.

        The graph is then loaded a second time, with half of the threads. Two cores, each with clips
        of its own, were 1.2 to 1.7 times as fast as both on one clip at a time (mini in int8;
        XLSR-53 in int8 1.0 to 1.2; measured several times).
        """
        threads = getattr(self._session, "threads", 1) if self.device == "cpu" else 1
        same = _written_ns(self.path) == self._written_ns  # neither gone nor written anew since
        return min(CPU_LANES, threads) if same and self.size_bytes <= MOST_BYTES_TWICE else 1

    def of_a_lane(self) -> OnnxModel:
        """The same model, to be run beside itself: it has its share of the threads."""
        with self._one_at_a_time:
            if self._lane is None:
                threads = self._session.threads // CPU_LANES
                session = OnnxRuntimeSession(self.path, self.device, threads)
                self._lane = copy.copy(self)
                self._lane._session = session
        return self._lane

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
            As there, and if the runtime fails.
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
        return {WAVEFORMS: waves} | ({MASK: mask} if MASK in self.inputs_of_graph else {})

    def hidden_states(
        self, prepared: Sequence[np.ndarray], layers: Sequence[int | str]
    ) -> list[np.ndarray]:
        """Layers of waveforms that are normalised, (layers, frames, hidden) of each."""
        found = self._outputs([layer_output(x) for x in layers], self.inputs([*prepared], True))
        stacked = np.stack(found, axis=1)
        counts = (frame_count(len(p), self.receptive_field, self.encoder_hop) for p in prepared)
        return [s[:, :n].copy() for s, n in zip(stacked, counts, strict=True)]

    def _run(self, arrays: list[np.ndarray], normalized: bool) -> list[np.ndarray]:
        (log_probs,) = self._outputs([LOG_PROBS], self.inputs(arrays, normalized))
        return [m[: self.frames(len(a))].copy() for m, a in zip(log_probs, arrays, strict=True)]

    def _outputs(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return self._session.run(names, inputs)
        except Exception as error:  # the runtimes' own kinds have no root but this
            if is_out_of_memory(RuntimeError(str(error))):
                raise MemoryError(str(error)) from error
            raise ModelError(
                f"{self.runtime} cannot run {self.name!r}: {one_line(error)}."
            ) from error


def _written_ns(file: Path) -> int | None:
    """When a file was written; None if it is gone."""
    return file.stat().st_mtime_ns if file.is_file() else None


def layer_output(layer: int | str) -> str:
    """The name of a graph's output that is a layer, as `ptlab.hidden_states` names them."""
    return f"layer.{layer}"


def load_onnx(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    runtime: str = "onnxruntime",
    dtype: str = "auto",
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
    runtime : {"onnxruntime", "openvino"}
        What runs it. OpenVINO is an extra, and runs on CPUs. It keeps memory for the lengths of
        clips that it has met: a process with mini had 178 MB after one length and 473 MB after 121;
        with ONNX Runtime 102 and 106 (measured).
    dtype : {"auto", "float32", "bfloat16"}
        For OpenVINO: what it computes in, whatever the weights are stored as. By default float32;
        bfloat16 is faster where the CPU has AVX512-BF16 or AMX.

    Returns
    -------
    OnnxModel

    Raises
    ------
    ModelError
        If there is no such file, it is damaged or not from ptlab, or the device or the runtime is
        missing.

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
    if runtime not in RUNTIMES:
        raise ModelError(f"runtime={runtime!r}; a graph is run by {' or '.join(RUNTIMES)}.")
    device = onnx_device(device, runtime)
    session = open_session(file, runtime, device, threads, str(dtype).removeprefix("torch."))
    facts = _facts(session, os.fspath(path))
    if runtime == "openvino" and facts["precision"].split("+")[0] in WIDENED:
        logger.warning(
            "OpenVINO computes %s in floats: ONNX Runtime is faster here, and int8_static is what "
            "OpenVINO multiplies.", facts["precision"],
        )  # fmt: skip
    return OnnxModel(os.fspath(path), file, session, facts, device)


def _facts(session: Any, name: str) -> dict[str, Any]:
    facts = json.loads(session.metadata) if session.metadata else {}
    if facts.get("format") != FORMAT:
        raise ModelError(
            f"{name!r} is an ONNX graph without ptlab's metadata (vocabulary, sampling rate, grid "
            "of frames) of this version: export the model with ptlab.export_onnx."
        )
    return facts
