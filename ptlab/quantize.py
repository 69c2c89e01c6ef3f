"""An exported graph with smaller weights: half precision for the disk, int8 for the disk and speed.

Half precision changes how weights are stored; ONNX Runtime widens them when it loads the graph and
computes in float32 as before: few CPUs would be faster in float16. int8 changes how matrices are
multiplied. Convolutions are left alone: with them in int8 the graph of XLSR-53 ran at 0.91 times
the speed of float32, without them at 1.82 times (measured on its 315 M graph with random weights,
two cores with AVX512-VNNI, clips of 5 s), and they hold 4 % of its weights.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ptlab.audio import load_audio
from ptlab.data import Corpus, load_corpus
from ptlab.errors import DataError, ModelError
from ptlab.export import (
    Export,
    check_parity,
    copy_belongings,
    new_folder,
    require_onnx,
    write_with_facts,
)
from ptlab.onnx_model import GRAPH, OnnxModel, load_onnx

__all__ = ["quantize", "weight_groups"]

METHODS = ("float16", "bfloat16", "int8_dynamic", "int8_static")
OPERATORS = ("MatMul", "Conv")  # which have nearly all weights
CALIBRATION_CLIPS = 32
LARGEST_FLOAT16 = 65_504.0
_LAYER = re.compile(r"(?:^|/)layers\.(\d+)/")
_PARTS = ("feature_extractor", "feature_projection", "pos_conv_embed", "lm_head")


def quantize(
    source: str | os.PathLike,
    path: str | os.PathLike,
    method: str = "int8_dynamic",
    *,
    operators: Sequence[str] = ("MatMul",),
    exclude: Sequence[str] = (),
    calibration: Corpus | Iterable[Any] | None = None,
    per_channel: bool = True,
    reduce_range: bool = False,
    overwrite: bool = False,
) -> Export:
    """Write a smaller copy of an exported model.

    Parameters
    ----------
    source : path
        What `ptlab.export_onnx` has made. An int8 graph may be stored in half precision as well,
        which halves the weights that int8 has left alone.
    path : path
        The folder to make.
    method : {"int8_dynamic", "int8_static", "float16", "bfloat16"}
        The range of the activations is found anew for every input (dynamic), or on calibration
        clips once (static). float16 is finer, bfloat16 has the range of float32.
    operators : sequence of {"MatMul", "Conv"}
        What int8 multiplies; half precision stores the weights of both.
    exclude : sequence of str
        Groups of weights that stay as they are; `weight_groups` names them.
    calibration : Corpus, or sequence of sounds, optional
        For int8_static: what `ptlab.load_audio` reads, never the test split. By default 32 clips
        of the corpus's dev split.
    per_channel : bool
        One scale for each output of a matrix, not one for all of it.
    reduce_range : bool
        7 bits instead of 8, for CPUs without VNNI, whose 16-bit sums may overflow.
    overwrite : bool
        As in `ptlab.export_onnx`.

    Returns
    -------
    Export

    Raises
    ------
    ModelError
        If there is no exported graph, an option is not known or does not fit, no weight is left to
        change, or the new graph does not run.
    DataError
        If calibration clips are missing, or are from a test split.

    Examples
    --------
    >>> quantize("nowhere", "somewhere", "int3")
    Traceback (most recent call last):
    ptlab.errors.ModelError: method='int3'; choose one of float16, bfloat16, int8_dynamic, int8_static.
    """  # noqa: E501
    require_onnx()
    _check_options(method, operators, calibration)
    model = load_onnx(source, device="cpu")
    graph, kinds = _graph(model), operators if method.startswith("int8") else OPERATORS
    nodes = _chosen(graph, model, kinds, exclude)
    if method.startswith("int8"):
        options = {
            "per_channel": per_channel,
            "reduce_range": reduce_range,
            "op_types_to_quantize": list(kinds),
            "nodes_to_quantize": [node.name for node in nodes],
        }
        graph = _int8(graph, model, method, calibration, options)
    else:
        _store(graph, nodes, method)
    kept = model.precision
    precision = method if kept == "float32" else f"{kept}+{method}"
    with new_folder(path, overwrite) as folder:
        write_with_facts(graph, folder / GRAPH, model.facts | {"precision": precision})
        copy_belongings(model.folder, folder)
        difference = check_parity(model, load_onnx(folder, device="cpu"))
        size = (folder / GRAPH).stat().st_size
    return Export(Path(path).expanduser(), precision, size, difference)


def weight_groups(source: str | os.PathLike) -> dict[str, int]:
    """Groups of weights of an exported model that `quantize` can leave out, and their sizes.

    Parameters
    ----------
    source : path
        What `ptlab.export_onnx` has made.

    Returns
    -------
    dict of str to int
        Numbers in the matrices and convolutions of ``"feature_extractor"``,
        ``"feature_projection"``, ``"pos_conv_embed"``, ``"layers.0"`` and so on, ``"lm_head"``.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    require_onnx()
    graph = _graph(load_onnx(source, device="cpu"))
    weights, sizes = _weights(graph), {}
    for node in _weighted(graph, OPERATORS):
        group = _group(node.name)
        sizes[group] = sizes.get(group, 0) + int(np.prod(weights[node.input[1]].dims))
    return sizes


def _check_options(method: str, operators: Sequence[str], calibration: Any) -> None:
    if method not in METHODS:
        raise ModelError(f"method={method!r}; choose one of {', '.join(METHODS)}.")
    if isinstance(operators, str) or not operators or set(operators) - set(OPERATORS):
        raise ModelError(f"operators={operators!r}; choose from {', '.join(OPERATORS)}, in a list.")
    if calibration is not None and method != "int8_static":
        raise ModelError(f"Calibration clips are for int8_static; {method} takes none.")


def _graph(model: OnnxModel) -> Any:
    import onnx

    return onnx.load(model.path)


def _weights(graph: Any) -> dict[str, Any]:
    """Float32 weights by name."""
    import onnx

    return {i.name: i for i in graph.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}


def _weighted(graph: Any, operators: Sequence[str]) -> list[Any]:
    """Nodes whose second input is a weight."""
    weights = _weights(graph)
    return [
        n for n in graph.graph.node
        if n.op_type in operators and len(n.input) > 1 and n.input[1] in weights
    ]  # fmt: skip


def _group(node: str) -> str:
    layer = _LAYER.search(node)
    if layer:
        return f"layers.{layer.group(1)}"
    return next((part for part in _PARTS if part in node), "other")


def _chosen(
    graph: Any, model: OnnxModel, operators: Sequence[str], exclude: Sequence[str]
) -> list[Any]:
    found = _weighted(graph, operators)
    groups = dict.fromkeys(_group(n.name) for n in _weighted(graph, OPERATORS))
    unknown = [e for e in ([exclude] if isinstance(exclude, str) else exclude) if e not in groups]
    if unknown:
        raise ModelError(
            f"No group {unknown[0]!r} of float32 weights to exclude, in a list; there are: "
            f"{', '.join(groups) or 'none'}."
        )
    nodes = [n for n in found if _group(n.name) not in exclude]
    if not nodes:
        raise ModelError(
            f"Nothing to do: {model.name!r} has no float32 weights in {', '.join(operators)} that "
            f"are not excluded (its precision is {model.precision}). Quantize the float32 export."
        )
    return nodes


# -- half precision


def _store(graph: Any, nodes: list[Any], method: str) -> None:
    """Put the nodes' weights in half precision, each behind a cast that has its old name."""
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT16 if method == "float16" else TensorProto.BFLOAT16
    weights, casts = _weights(graph), []
    for name in dict.fromkeys(node.input[1] for node in nodes):
        half = _half(weights[name], kind, method)
        graph.graph.initializer.remove(weights[name])
        graph.graph.initializer.append(half)
        casts.append(helper.make_node("Cast", [half.name], [name], name, to=TensorProto.FLOAT))
    rest = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*casts, *rest])


def _half(weight: Any, kind: int, method: str) -> Any:
    from onnx import helper, numpy_helper

    values = numpy_helper.to_array(weight)
    if method == "float16":
        largest = float(np.abs(values).max(initial=0))
        if largest > LARGEST_FLOAT16:
            raise ModelError(
                f"A weight of {largest:.3g} does not fit into float16, which ends at 65,504; use "
                "method='bfloat16'."
            )
        content = values.astype("<f2").tobytes()
    else:
        content = bfloat16_bits(values).astype("<u2").tobytes()
    name = f"{weight.name}_{method}"
    return helper.make_tensor(name, kind, weight.dims, content, raw=True)


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """Finite float32 numbers as bfloat16, the nearest and of two equally near the even one.

    Examples
    --------
    >>> [hex(bits) for bits in bfloat16_bits(np.array([1.0, -2.0, 1.0 + 2**-8], np.float32))]
    ['0x3f80', '0xc000', '0x3f80']
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


# -- int8


def _int8(
    graph: Any, model: OnnxModel, method: str, calibration: Any, options: dict[str, Any]
) -> Any:
    from onnxruntime import quantization as ort

    if model.precision != "float32":
        raise ModelError(
            f"{model.name!r} has {model.precision} weights; int8 is made from the float32 export."
        )
    options["weight_type"] = ort.QuantType.QInt8
    if method == "int8_dynamic":
        return _written(lambda file: ort.quantize_dynamic(graph, file, **options))
    clips = _Clips(_calibration(model, calibration))
    return _written(
        lambda file: ort.quantize_static(
            graph,
            file,
            clips,
            quant_format=ort.QuantFormat.QDQ,
            activation_type=ort.QuantType.QUInt8,
            # the products of attention have no weights, and their ranges differ from clip to clip
            extra_options={"MatMulConstBOnly": True},
            **options,
        )
    )


def _written(write: Callable[[str], None]) -> Any:
    """The graph that ``write(file)`` makes."""
    import onnx

    with tempfile.TemporaryDirectory() as folder, _without_advice():
        file = os.path.join(folder, GRAPH)
        write(file)
        return onnx.load(file)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the root logger's advice to pre-process: the exporter has folded the constants."""
    root = logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


class _Clips:
    """What ONNX Runtime reads calibration inputs from."""

    def __init__(self, inputs: Iterator[dict[str, np.ndarray]]):
        self._inputs = inputs

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


def _calibration(model: OnnxModel, given: Any) -> Iterator[dict[str, np.ndarray]]:
    sounds = _sounds(load_corpus("dev") if given is None else given, given is None)
    waves = (load_audio(s, target_rate=model.sampling_rate).waveform for s in sounds)
    inputs = [model.inputs([w]) for w in waves if model.frames(len(w))]
    if not inputs:
        raise DataError("No calibration clip is long enough for a frame; give speech.")
    return iter(inputs)


def _sounds(given: Any, few: bool) -> list[Any]:
    if not isinstance(given, Corpus):
        return list(given)
    if "split" in given.frame and (given.frame.split == "test").any():
        raise DataError(
            "The calibration clips are from the test split, which then says nothing about new "
            "speech; use load_corpus('dev')."
        )
    step = max(1, len(given) // CALIBRATION_CLIPS) if few else 1
    chosen = range(0, len(given), step)
    return [given.audio(i) for i in (chosen[:CALIBRATION_CLIPS] if few else chosen)]
