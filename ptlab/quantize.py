"""An exported graph with smaller weights: half precision and int4 for the disk, int8 for speed too.

>>> import ptlab
>>> from tempfile import TemporaryDirectory
>>> clip = ptlab.load_corpus("test").frame.file[0]
>>> with TemporaryDirectory() as folder:
...     whole = ptlab.export_onnx("mini", f"{folder}/onnx")
...     small = ptlab.quantize(whole.folder, f"{folder}/int8")
...     smaller = round(whole.size_bytes / small.size_bytes, 1)
...     text = ptlab.transcribe(clip, model=small.load()).text
>>> smaller  # times
3.0
>>> ptlab.cer(ptlab.transcribe(clip, model="mini").text, text) < 0.2
True

Half precision changes how weights are stored; ONNX Runtime widens them when it loads the graph and
computes in float32 as before: few CPUs would be faster in float16. int8_weights does the same in 8
bits, and int4 in 4.5 for matrix products, which are widened while they are multiplied. int8,
dynamic or static, changes how matrices are multiplied. Convolutions are left alone: with them in
int8 the graph of XLSR-53 ran at 0.91 times the speed of float32, without them at 1.82 times
(measured on its 315 M graph with random weights, two cores with AVX512-VNNI, clips of 5 s), and
they hold 4 % of its weights. Written as matrix products they gain as matrices do, and lose as
little: int8_convolutions, for all but the one on the raw sound.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ptlab._export.half_precision import store_in_half
from ptlab._export.int4 import BLOCK_SIZES, hears_raw_sound, put_int4
from ptlab._export.int8_convolutions import becomes_a_product, put_int8_convolutions
from ptlab._export.int8_weights import store_in_int8
from ptlab._export.onnx_graph import require_onnx, write_with_facts
from ptlab._export.onnx_weights import OPERATORS, group_of, weighted_nodes, weights_of
from ptlab.audio import load_audio
from ptlab.data import Corpus, load_corpus
from ptlab.errors import DataError, ModelError
from ptlab.export import Export, check_parity, copy_belongings, new_folder
from ptlab.onnx_model import GRAPH, OnnxModel, load_onnx

__all__ = ["quantize", "weight_groups"]

METHODS = (
    "float16", "bfloat16", "int8_dynamic", "int8_static", "int8_convolutions", "int8_weights",
    "int4", "int4_gptq",
)  # fmt: skip
CALIBRATED = ("int8_static", "int4_gptq")
FOUR_BITS = ("int4", "int4_gptq")
MULTIPLIED = ("int8_dynamic", "int8_static")  # made from float32 alone, by ONNX Runtime's tools
RANGE_OF_A_BATCH = ("int8_dynamic", "int8_convolutions")
CALIBRATION_CLIPS = 32


def quantize(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    method: str = "int8_dynamic",
    *,
    operators: Sequence[str] = ("MatMul",),
    exclude: Sequence[str] = (),
    calibration: Corpus | Iterable[Any] | None = None,
    per_channel: bool = True,
    reduce_range: bool = False,
    block_size: int = 32,
    overwrite: bool = False,
) -> Export:
    """Write a smaller copy of an exported model.

    Parameters
    ----------
    source : path
        What `ptlab.export_onnx` has made, or an int8 graph, of which the weights that int8 has left
        alone are made smaller: ``"int8_convolutions"``, ``"int8_weights"`` or half precision.
    path : path
        The folder to make.
    method : {"int8_dynamic", "int8_static", "int8_convolutions", "int8_weights", "int4", \
"int4_gptq", "float16", "bfloat16"}
        The range of the activations is found anew for every input (dynamic), or on calibration
        clips once (static). The dynamic one is of all clips of a batch together, so that such
        models are run clip by clip: texts do not depend on what else is in a batch.
        int8_convolutions does the same, as matrix products, with the convolutions that follow the
        first; for what int8_dynamic has made it is a second step. int8_weights rounds the weights
        of both operators alone, and widens them when they are used; int4 does so in four bits, a
        block of weights to a scale. int4_gptq makes the same file with better weights: each makes up
        for what the rounding of others has done to calibration clips (with eight of them and one
        core, seven seconds for mini; four minutes and 6 GB of memory for XLSR-53). float16 is finer,
        bfloat16 has the range of float32.
    operators : sequence of {"MatMul", "Conv"}
        What int8 multiplies and whose weights int4 takes (but for the convolution on the raw sound:
        320 weights of mini); other methods that only store take the weights of both.
    exclude : sequence of str
        Groups of weights that stay as they are; `weight_groups` names them.
    calibration : Corpus, or sequence of sounds, optional
        For int8_static and int4_gptq: what `ptlab.load_audio` reads, never the test split. By
        default 32 clips of the corpus's dev split.
    per_channel : bool
        One scale for each output of a matrix, not one for all of it.
    reduce_range : bool
        Weights of 7 bits instead of 8 where int8 multiplies, for CPUs without VNNI (`this_machine`
        tells), which sum in 16 bits and cut what is larger. mini does not need it: on such a CPU it
        writes the dev split with a WER of 22.9 % with 8 bits and of 23.0 % with 7.
    block_size : {32, 16, 64, 128, 256}
        For four bits: how many weights of a matrix share a scale. A larger one makes a smaller and
        coarser file.
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
    ptlab.errors.ModelError: method='int3'; choose one of float16, bfloat16, int8_dynamic, int8_static, int8_convolutions, int8_weights, int4, int4_gptq.
    """  # noqa: E501
    require_onnx()
    _check_options(method, operators, calibration, block_size, reduce_range)
    model = load_onnx(source, device="cpu")
    graph, kinds = _graph(model), operators_of(method, operators)
    nodes = _chosen(graph, model, method, kinds, exclude)
    if method in MULTIPLIED and model.precision != "float32":
        raise ModelError(
            f"{model.name!r} has {model.precision} weights; {method} is made from the float32 "
            "export."
        )
    if method in MULTIPLIED:
        options = {
            "per_channel": per_channel,
            "reduce_range": reduce_range,
            "op_types_to_quantize": list(kinds),
            "nodes_to_quantize": [node.name for node in nodes],
        }
        graph = _int8(graph, model, method, calibration, options)
    elif method in FOUR_BITS:
        clips = list(_calibration(model, calibration)) if method in CALIBRATED else []
        put_int4(graph, nodes, block_size, clips)
    elif method == "int8_convolutions":
        put_int8_convolutions(graph, nodes, reduce_range)
    elif method == "int8_weights":
        store_in_int8(graph, nodes)
    else:
        store_in_half(graph, (node.input[1] for node in nodes), method)
    del graph.graph.value_info[:]  # shapes of inner tensors: 0.1 MB that ONNX Runtime finds itself
    kept = model.precision
    bits = "int4" if method in FOUR_BITS else method
    precision = bits if kept == "float32" else f"{kept}+{bits}"
    facts = model.facts | {"precision": precision}
    if method in RANGE_OF_A_BATCH:  # one range for a whole batch: clips would change each other
        facts["pads_exactly"] = False
    with new_folder(path, overwrite) as folder:
        write_with_facts(graph, folder / GRAPH, facts)
        copy_belongings(model.path.parent, folder)
        difference = check_parity(model, load_onnx(folder, device="cpu"))
        size = (folder / GRAPH).stat().st_size
    return Export(Path(path).expanduser(), precision, size, difference)


def operators_of(method: str, operators: Sequence[str]) -> Sequence[str]:
    """The operators whose weights a method makes smaller, of those that int8 is asked for."""
    if method == "int8_convolutions":
        return ["Conv"]
    return operators if method in (*MULTIPLIED, *FOUR_BITS) else OPERATORS


def weight_groups(
    source: str | os.PathLike[str], operators: Sequence[str] = OPERATORS
) -> dict[str, int]:
    """Groups of weights of an exported model that `quantize` can leave out, and their sizes.

    Parameters
    ----------
    source : path
        What `ptlab.export_onnx` has made.
    operators : sequence of {"MatMul", "Conv"}
        Whose weights are counted.

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
    weights = weights_of(graph)
    sizes: dict[str, int] = {}
    for node in weighted_nodes(graph, operators):
        group = group_of(node.name)
        sizes[group] = sizes.get(group, 0) + int(np.prod(weights[node.input[1]].dims))
    return sizes


def _check_options(
    method: str, operators: Sequence[str], calibration: Any, block_size: int, reduce_range: bool
) -> None:
    if method not in METHODS:
        raise ModelError(f"method={method!r}; choose one of {', '.join(METHODS)}.")
    if isinstance(operators, str) or not operators or set(operators) - set(OPERATORS):
        raise ModelError(f"operators={operators!r}; choose from {', '.join(OPERATORS)}, in a list.")
    if calibration is not None and method not in CALIBRATED:
        raise ModelError(
            f"Calibration clips are for {' and '.join(CALIBRATED)}; {method} takes none."
        )
    if reduce_range and method not in (*MULTIPLIED, "int8_convolutions"):
        raise ModelError(f"reduce_range is for products of int8; {method} only stores.")
    if block_size not in BLOCK_SIZES:
        raise ModelError(
            f"block_size={block_size}; choose one of {', '.join(map(str, BLOCK_SIZES))}."
        )


def _graph(model: OnnxModel) -> Any:
    import onnx

    return onnx.load(model.path)


def _chosen(
    graph: Any, model: OnnxModel, method: str, operators: Sequence[str], exclude: Sequence[str]
) -> list[Any]:
    found, weights = weighted_nodes(graph, operators), weights_of(graph)
    if method == "int8_convolutions":
        found = [node for node in found if becomes_a_product(node, weights)]
    elif method in FOUR_BITS:
        found = [node for node in found if not hears_raw_sound(node, weights)]
    groups = dict.fromkeys(group_of(n.name) for n in weighted_nodes(graph, OPERATORS))
    unknown = [e for e in ([exclude] if isinstance(exclude, str) else exclude) if e not in groups]
    if unknown:
        raise ModelError(
            f"No group {unknown[0]!r} of float32 weights to exclude, in a list; there are: "
            f"{', '.join(groups) or 'none'}."
        )
    nodes = [n for n in found if group_of(n.name) not in exclude]
    if not nodes:
        raise ModelError(
            f"Nothing to do: {model.name!r} has no float32 weights in {', '.join(operators)} that "
            f"are not excluded (its precision is {model.precision}). Quantize the float32 export."
        )
    return nodes


# -- int8


def _int8(
    graph: Any, model: OnnxModel, method: str, calibration: Any, options: dict[str, Any]
) -> Any:
    from onnxruntime import quantization as ort

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
    sounds = list(given) if given is not None and not isinstance(given, Corpus) else [
        corpus.audio(i) for corpus in [calibration_clips(given)] for i in range(len(corpus))
    ]  # fmt: skip
    waves = (load_audio(s, target_rate=model.sampling_rate).waveform for s in sounds)
    inputs = [model.inputs([w]) for w in waves if model.frames(len(w))]
    if not inputs:
        raise DataError("No calibration clip is long enough for a frame; give speech.")
    return iter(inputs)


def calibration_clips(given: Corpus | None) -> Corpus:
    """The corpus itself, or some clips of the dev split from its beginning to its end.

    Raises
    ------
    DataError
        If clips of a test split are among them.
    """
    if given is None:
        dev = load_corpus("dev")
        chosen = dev.frame.iloc[:: max(1, len(dev) // CALIBRATION_CLIPS)][:CALIBRATION_CLIPS]
        return replace(dev, frame=chosen.reset_index(drop=True))
    if "split" in given.frame and (given.frame.split == "test").any():
        raise DataError(
            "The calibration clips are from the test split, which then says nothing about new "
            "speech; use load_corpus('dev')."
        )
    return given
