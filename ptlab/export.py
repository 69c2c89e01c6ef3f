"""A loaded model to a folder with one ONNX graph, checked against torch before it is kept.

>>> import ptlab
>>> from tempfile import TemporaryDirectory
>>> clip = ptlab.load_corpus("test").frame.file[0]
>>> with TemporaryDirectory() as folder:
...     made = ptlab.export_onnx("mini", f"{folder}/onnx")
...     text = ptlab.transcribe(clip, model=made.load()).text  # neither torch nor transformers
>>> made.difference < 1e-3, text == ptlab.transcribe(clip, model="mini").text
(True, True)
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab.errors import ModelError
from ptlab.models import SpeechModel, load_model
from ptlab.onnx_model import FORMAT, GRAPH, LOG_PROBS, MASK, METADATA, WAVEFORMS, load_onnx

if TYPE_CHECKING:
    import torch

    from ptlab.onnx_model import OnnxModel

__all__ = ["Export", "export_onnx"]

OPSET = 17  # the first with LayerNormalization as one operator, which TensorRT keeps in float32
LARGEST_BYTES = 2**31 - 2**24  # of a protobuf, 2 GiB, with room for the graph around the weights
BELONGINGS = (  # what may lie beside a graph
    "config.json", "vocab.json", "tokenizer.json", "tokenizer_config.json", "added_tokens.json",
    "special_tokens_map.json", "preprocessor_config.json", "calibration.json",
)  # fmt: skip
TOLERANCE = 1e-3  # of a log-probability; float32 on another runtime moved mini's by 2e-5


@dataclass(frozen=True)
class Export(os.PathLike):
    """A folder that `ptlab.load_model` loads; made by `export_onnx` and `ptlab.quantize`.

    Attributes
    ----------
    folder : Path
        Holds ``model.onnx``, and beside it what other tools ask for: configuration, tokenizer,
        feature extractor, and the calibration of confidences if the model has one.
    precision : str
        How the weights are stored.
    size_bytes : int
        Of the graph with its weights.
    difference : float
        Largest difference in log-probability to what it was made from, on noise of several
        lengths, alone and padded. What it means for words, `ptlab.compare` says.

    Examples
    --------
    >>> print(Export(Path("runs/int8"), "int8", 9_390_564, 1.25))
    int8: int8, 9.4 MB, log-probs within 1.2 of what it was made from
    """

    folder: Path
    precision: str
    size_bytes: int
    difference: float

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def __str__(self) -> str:
        return (
            f"{self.folder.name}: {self.precision}, {self.size_bytes / 1e6:.1f} MB, log-probs "
            f"within {self.difference:.2g} of what it was made from"
        )

    def load(self, **options: Any) -> OnnxModel:
        """The model, as `ptlab.load_onnx` loads it."""
        return load_onnx(self, **options)

    def to_dict(self) -> dict[str, Any]:
        """The fields, with the folder as text."""
        return asdict(self) | {"folder": str(self.folder)}


def export_onnx(
    model: str | os.PathLike | SpeechModel, path: str | os.PathLike, *, overwrite: bool = False
) -> Export:
    """Write a model as ONNX, for any number of clips of any length, and check it against torch.

    The model itself is not changed. Its weight norm becomes plain weights in the graph, and the
    graph takes an attention mask where that makes padded batches exact; other models are run clip
    by clip, as they are in torch.

    Parameters
    ----------
    model : str, path or SpeechModel
        Of wav2vec2, HuBERT, WavLM or data2vec-audio, with a CTC head, in float32 on the CPU.
    path : path
        The folder to make.
    overwrite : bool
        Whether a folder that is there is replaced, once the new one has passed the check.

    Returns
    -------
    Export

    Raises
    ------
    ModelError
        If the package onnx is missing, the folder is there, the model is of another kind or too
        large for one file, or the graph does not give what torch gives.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as parent:
    ...     made = export_onnx("mini", parent + "/mini-onnx")
    ...     model = made.load()
    >>> made.difference < 1e-3, model.frames(16_000), model.vocabulary[:2]
    (True, 49, ('<pad>', '<s>'))
    """
    require_onnx()
    if not isinstance(model, SpeechModel):
        model = load_model(model, device="cpu", dtype="float32")
    _check_model(model)
    with new_folder(path, overwrite) as folder:
        _write_graph(model, folder / GRAPH)
        _add_facts(model, folder / GRAPH)
        _save_belongings(model, folder)
        difference = check_parity(model, load_onnx(folder, device="cpu"), TOLERANCE)
        size = (folder / GRAPH).stat().st_size
    return Export(Path(path).expanduser(), "float32", size, difference)


def require_onnx() -> None:
    """Raise `ModelError` if the package onnx, which writes graphs, is not installed."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "Writing ONNX files needs the package onnx (running them does not): "
            'pip install "ptlab[export]".'
        ) from error


def check_clips(model: Any) -> list[np.ndarray]:
    """Noise of odd lengths, from the shortest that gives a frame to some seconds.

    Loudness rises and falls, so that frames differ; the lengths are no multiples of the hop.
    """
    rng, hop, field = np.random.default_rng(0), model.hop, model.receptive_field
    lengths = (field, field + 1, field + hop - 1, 24 * hop + 97, 111 * hop + 1, 150 * hop - 1)
    return [
        (np.sin(np.arange(n) / 997) * rng.standard_normal(n) / 10).astype(np.float32)
        for n in lengths
    ]


def check_parity(model: Any, exported: Any, tolerance: float | None = None) -> float:
    """Largest difference in log-probs between two models, clips alone and in padded batches.

    Parameters
    ----------
    model, exported
        What offers ``log_probs``.
    tolerance : float, optional
        Of a log-probability near zero; far ones, in which nothing is spelled, may differ by as
        much in proportion.

    Raises
    ------
    ModelError
        If shapes differ, a number is not finite, or the tolerance is exceeded.
    """
    clips, worst = check_clips(model), 0.0
    for batch_size in (1, len(clips)):
        expected = model.log_probs(clips, batch_size=batch_size)
        found = exported.log_probs(clips, batch_size=batch_size)
        for clip, a, b in zip(clips, expected, found, strict=True):
            where = f"a clip of {len(clip)} samples in batches of {batch_size}"
            if a.shape != b.shape or not np.isfinite(b).all():
                raise ModelError(
                    f"The new graph gives {b.shape} numbers, not all finite perhaps, where "
                    f"{a.shape} are expected, for {where}; nothing was kept."
                )
            gap = np.abs(a - b)
            if tolerance is not None and (gap > tolerance * np.maximum(1, np.abs(a))).any():
                raise ModelError(
                    f"The new graph differs from the model by {gap.max():.2g} in log-probability "
                    f"(allowed: {tolerance:g}) for {where}; nothing was kept. Run this model in "
                    "torch, and report its kind."
                )
            worst = max(worst, float(gap.max(initial=0)))
    return worst


@contextmanager
def new_folder(path: str | os.PathLike, overwrite: bool) -> Iterator[Path]:
    """A folder to fill, which takes its name only if nothing fails."""
    target = Path(path).expanduser()
    if target.exists() and not overwrite:
        raise ModelError(f"{str(path)!r} is there already: give another path, or overwrite=True.")
    if target.exists() and not (target / GRAPH).is_file():
        raise ModelError(
            f"{str(path)!r} is no folder of an exported model, and is not overwritten: give "
            "another path."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        filling = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be written: {error.strerror}.") from error
    try:
        yield filling
        filling.chmod(0o755)  # mkdtemp makes it for its owner alone
        if target.exists():
            shutil.rmtree(target)
        filling.rename(target)
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def copy_belongings(source: Path, folder: Path) -> None:
    """Copy the small files that lie beside a graph."""
    for name in BELONGINGS:
        if (source / name).is_file():
            shutil.copy(source / name, folder)


def write_with_facts(graph: Any, file: Path, facts: dict[str, Any]) -> None:
    """Write a graph with the facts in its metadata, in the place of those that are there."""
    import onnx

    kept = {p.key: p.value for p in graph.metadata_props if p.key != METADATA}
    del graph.metadata_props[:]
    for key, value in (kept | {METADATA: json.dumps(facts, ensure_ascii=False)}).items():
        graph.metadata_props.add(key=key, value=value)
    onnx.save(graph, file)


def _check_model(model: SpeechModel) -> None:
    import torch

    model.require_head()
    if model.model.main_input_name != WAVEFORMS:
        raise ModelError(
            f"{model.name!r} is a {model.model.config.model_type!r} model, which takes filter "
            "banks; models that take the waveform can be exported."
        )
    if model.dtype != torch.float32 or model.device.type != "cpu":
        raise ModelError(
            f"{model.name!r} is loaded in {model.dtype} on {model.device}; export it from "
            "load_model(..., device='cpu', dtype='float32'). ptlab.quantize makes it smaller."
        )
    size = 4 * model.num_parameters
    if size > LARGEST_BYTES:
        raise ModelError(
            f"{model.name!r} has {size / 1e9:.1f} GB of weights, and an ONNX file holds 2. Export "
            "a smaller model."
        )


def _write_graph(model: SpeechModel, file: Path) -> None:
    import torch

    clips = check_clips(model)[-2:]  # unlike in length: the mask must not be all ones
    if not model.pads_exactly:
        clips = [clips[0], clips[0]]
    inputs = model._inputs(clips)
    names = [WAVEFORMS, MASK] if model.pads_exactly else [WAVEFORMS]
    axes = {name: {0: "batch", 1: "samples"} for name in names}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of branches that depend on lengths
        torch.onnx.export(
            _spelling(model.model),
            tuple(inputs[name] for name in names),
            str(file),
            input_names=names,
            output_names=[LOG_PROBS],
            dynamic_axes=axes | {LOG_PROBS: {0: "batch", 1: "frames"}},
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs onnxscript, and gives the same numbers
        )


def _spelling(network: torch.nn.Module) -> torch.nn.Module:
    """The network with log-probs as its one output."""
    import torch

    class Spelling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, waves: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return self.network(waves, attention_mask=mask).logits.log_softmax(-1)

    return Spelling().eval()  # else the exporter would leave the network in training mode


def _add_facts(model: SpeechModel, file: Path) -> None:
    import onnx

    config = model.model.config
    facts = {
        "format": FORMAT,
        "source": model.name,
        "revision": getattr(config, "_commit_hash", None),
        "model_type": config.model_type,
        "num_parameters": model.num_parameters,
        "precision": "float32",
        "vocabulary": model.vocabulary,
        "blank": model.blank,
        "word_delimiter": model.word_delimiter,
        "sampling_rate": model.sampling_rate,
        "encoder_hop": model.encoder_hop,
        "adapter_stride": model.hop // model.encoder_hop,
        "receptive_field": model.receptive_field,
        "pads_exactly": model.pads_exactly,
        "normalizes": model.normalizes,
    }
    write_with_facts(onnx.load(file), file, facts)


def _save_belongings(model: SpeechModel, folder: Path) -> None:
    """What other tools ask for: they read configuration, tokenizer and feature extractor."""
    model.model.config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    model.feature_extractor.save_pretrained(folder)
    calibration = model.folder / "calibration.json" if model.folder else None
    if calibration and calibration.is_file():
        shutil.copy(calibration, folder)
