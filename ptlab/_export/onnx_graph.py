"""The graph of a loaded model, as ONNX: what is traced, and the facts that lie inside the file."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._embed.hidden_states import CONV, FINAL, Layer, hook_layers
from ptlab._export.graph_sessions import METADATA
from ptlab._speech.speech_model import SpeechModel, digest_of_model
from ptlab.errors import ModelError
from ptlab.onnx_model import (
    FORMAT,
    GRAPH,
    LOG_PROBS,
    MASK,
    WAVEFORMS,
    OnnxModel,
    layer_output,
    load_onnx,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "as_graph",
    "check_clips",
    "check_exportable",
    "require_onnx",
    "write_graph",
    "write_with_facts",
]

OPSET = 17  # the first with LayerNormalization as one operator, which TensorRT keeps in float32
LARGEST_BYTES = 2**31 - 2**24  # of a protobuf, 2 GiB, with room for the graph around the weights


def require_onnx() -> None:
    """Raise `ModelError` if the package onnx, which writes graphs, is not installed."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "Writing ONNX files needs the package onnx (running them does not): "
            'pip install "ptlab[export]".'
        ) from error


def check_exportable(model: SpeechModel) -> None:
    """Raise `ModelError` if a model is of a kind, number type or size that is not written."""
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


def write_graph(model: SpeechModel, file: Path, hidden_states: bool = False) -> None:
    """Write a model's graph, with what belongs to it as metadata; `check_exportable` comes before.

    The model itself is not changed. Its weight norm becomes plain weights.
    """
    layers = (CONV, *range(model.num_layers + 1), FINAL) if hidden_states else ()
    _trace(model, file, layers)
    _add_facts(model, file, bool(layers))


def as_graph(model: SpeechModel, runtime: str, device: str, dtype: str) -> OnnxModel:
    """A model in another runtime, by a graph that is kept nowhere.

    Raises
    ------
    ModelError
        If it cannot be written, or the runtime cannot run it.
    """
    require_onnx()
    check_exportable(model)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        write_graph(model, Path(folder, GRAPH))
        made = load_onnx(folder, device=device, runtime=runtime, dtype=dtype)
    made.stand_for(model.name, model.folder, digest_of_model(model))
    return made


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


def write_with_facts(graph: Any, file: Path, facts: dict[str, Any]) -> None:
    """Write a graph with the facts in its metadata, in the place of those that are there."""
    import onnx

    kept = {p.key: p.value for p in graph.metadata_props if p.key != METADATA}
    del graph.metadata_props[:]
    for key, value in (kept | {METADATA: json.dumps(facts, ensure_ascii=False)}).items():
        graph.metadata_props.add(key=key, value=value)
    onnx.save(graph, file)


def _trace(model: SpeechModel, file: Path, layers: Sequence[Layer]) -> None:
    import torch

    clips = check_clips(model)[-2:]  # unlike in length: the mask must not be all ones
    if not model.pads_exactly:
        clips = [clips[0], clips[0]]
    inputs = model._inputs(clips)
    names = [WAVEFORMS, MASK] if model.pads_exactly else [WAVEFORMS]
    axes = {name: {0: "batch", 1: "samples"} for name in names}
    outputs = [LOG_PROBS, *map(layer_output, layers)]
    axes |= {name: {0: "batch", 1: "frames"} for name in outputs}
    with torch.no_grad(), _plain_attention(model.model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of branches that depend on lengths
        torch.onnx.export(
            _spelling(model.model, layers),
            tuple(inputs[name] for name in names),
            str(file),
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs onnxscript, and gives the same numbers
        )


@contextmanager
def _plain_attention(network: Any) -> Iterator[None]:
    """While it lasts, attention is two products around a softmax.

    Torch's fused one is written with a search for NaN behind every softmax, for frames that may
    look at no other; none is so here, and the search takes a tenth of the time of XLSR-53 in int8.
    """
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(before)


def _spelling(network: torch.nn.Module, layers: Sequence[Layer]) -> torch.nn.Module:
    """The network with log-probs as its output, and layers after them."""
    import torch

    found: dict[Layer, torch.Tensor] = {}

    class Spelling(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, waves: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
            hooks = hook_layers(self.network.base_model, layers, found.__setitem__)
            log_probs = self.network(waves, attention_mask=mask).logits.log_softmax(-1)
            for hook in hooks:
                hook.remove()
            return (log_probs, *(found[layer] for layer in layers)) if layers else log_probs

    return Spelling().eval()  # else the exporter would leave the network in training mode


def _add_facts(model: SpeechModel, file: Path, hidden_states: bool) -> None:
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
    if hidden_states:
        facts |= {"num_layers": model.num_layers, "hidden_size": model.hidden_size}
    write_with_facts(onnx.load(file), file, facts)
