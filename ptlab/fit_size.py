"""A graph in eight bits that is no larger than it may be: where eight are too many, four.

>>> import ptlab
>>> whole = ptlab.export_onnx("mini", "runs/onnx")  # doctest: +SKIP
>>> quarter = ptlab.quantize_to_fit(whole, "runs/quarter", share=0.25)  # doctest: +SKIP
>>> ptlab.quantize_to_fit("runs/onnx", "runs/quarter", share=25)
Traceback (most recent call last):
ptlab.errors.ModelError: share=25; expected a number from 0 to 1, such as 0.25.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ptlab._export.half_precision import store_in_half
from ptlab._export.onnx_weights import OPERATORS, weights_of
from ptlab.data import Corpus
from ptlab.errors import ModelError
from ptlab.export import Export, check_parity, new_folder
from ptlab.onnx_model import GRAPH, load_onnx
from ptlab.quantize import quantize, weight_groups
from ptlab.sensitivity import sensitivity

__all__ = ["quantize_to_fit"]

MATRICES: Sequence[str] = ("MatMul",)
ADDING = ("Add", "Conv", "LayerNormalization")  # operators with biases or gains


def quantize_to_fit(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    share: float = 0.25,
    *,
    clips: Corpus | None = None,
    overwrite: bool = False,
) -> Export:
    """Write an int8 copy of an exported model of at most a share of its size.

    A file in eight bits is larger than a quarter of its float32: scales, biases and norms come on
    top. So its inner names are short, biases and norms are float16, matrices and convolutions int8
    (the first and the positional one store their weights so), and as many parts as it takes, those
    that suffer least by `ptlab.sensitivity`, get int4, with weights that make up for each other's
    rounding (GPTQ). If all of them are not enough, more weights share a scale: 64, 128, then 256;
    and at last convolutions get int4 too.
    For mini this takes a minute.

    Parameters
    ----------
    source : path
        What `ptlab.export_onnx` has made.
    path : path
        The folder to make.
    share : float
        Of the size of the source's graph.
    clips : Corpus, optional
        To find what suffers least, as in `ptlab.sensitivity`, and to calibrate.
    overwrite : bool
        As in `ptlab.export_onnx`.

    Returns
    -------
    Export

    Raises
    ------
    ModelError
        If it does not fit even with all weights in int4, 256 to a scale.
    DataError
        As `ptlab.sensitivity`.

    Examples
    --------
    >>> quantize_to_fit("runs/mini", "runs/small", share=25)
    Traceback (most recent call last):
    ptlab.errors.ModelError: share=25; expected a number from 0 to 1, such as 0.25.
    """
    if not 0 < share < 1:
        raise ModelError(f"share={share}; expected a number from 0 to 1, such as 0.25.")
    whole = load_onnx(source, device="cpu")
    limit = share * whole.size_bytes
    with tempfile.TemporaryDirectory() as folder, new_folder(path, overwrite) as target:
        made = _mixed(source, Path(folder, "int8"), [])
        if made.size_bytes > limit:
            groups = _least_sensitive(source, clips)
            step = _largest_that_fits(source, Path(folder), groups, share, limit)
            made = _mixed(source, Path(folder, "fits"), *step, "int4_gptq", clips)
        shutil.copytree(made.folder, target, dirs_exist_ok=True)
        difference = check_parity(whole, made.load(device="cpu"))
    return replace(made, folder=Path(path).expanduser(), difference=difference)


def _largest_that_fits(
    source: str | os.PathLike[str], folder: Path, groups: list[str], share: float, limit: float
) -> tuple[list[str], int, Sequence[str]]:
    """Groups to put in int4, how many of their weights share a scale, and of which operators."""
    steps = [(groups[:count], 32, MATRICES) for count in range(1, len(groups) + 1)]
    steps += [(groups, block_size, MATRICES) for block_size in (64, 128, 256)]
    steps += [(groups, 256, OPERATORS)]
    sizes: dict[int, int] = {}

    def fits(number: int) -> bool:
        sizes[number] = _mixed(source, folder / str(number), *steps[number]).size_bytes
        return sizes[number] <= limit

    first = bisect_left(range(len(groups)), True, key=fits)
    if first == len(groups):
        first = next(filter(fits, range(first, len(steps))), first)
    if sizes[first] > limit:
        would_do = math.ceil(1000 * share * min(sizes.values()) / limit) / 1000
        raise ModelError(
            f"share={share} is too small: the smallest file would have "
            f"{min(sizes.values()) / 1e6:.2f} MB. Give share={would_do}."
        )
    return steps[first]


def _least_sensitive(source: str | os.PathLike[str], clips: Corpus | None) -> list[str]:
    """Groups of matrices, by the damage that int4 does for a megabyte that it saves."""
    frame = sensitivity(source, clips, method="int4", operators=MATRICES).frame
    return (frame.difference / frame.saved_mb.clip(lower=1e-9)).sort_values().index.tolist()


def _mixed(
    source: str | os.PathLike[str],
    folder: Path,
    in_int4: Sequence[str],
    block_size: int = 32,
    operators: Sequence[str] = MATRICES,
    method: str = "int4",
    clips: Corpus | None = None,
) -> Export:
    """Some groups in int4, the other matrices and convolutions in int8, and the rest small too."""
    made: str | os.PathLike[str] | Export = source
    if set(weight_groups(source, MATRICES)) - set(in_int4):
        made = quantize(source, folder / "int8", exclude=in_int4)
    if in_int4:
        made = quantize(
            made, folder / "int4", method,
            operators=operators, calibration=clips, block_size=block_size,
        )  # fmt: skip
    if "Conv" not in operators:
        made = quantize(made, folder / "convolutions", "int8_convolutions")
    made = quantize(made, folder / "all", "int8_weights")
    file = made.folder / GRAPH
    write_small(file)
    return replace(made, size_bytes=file.stat().st_size)


def write_small(file: Path) -> None:
    """Give what is inside a graph names of a few letters, and biases and norms 16 bits.

    Long names are 0.3 MB of mini's file, float32 for vectors 0.06 MB.
    """
    import onnx

    graph = onnx.load(file)
    vectors = {name for name, weight in weights_of(graph).items() if len(weight.dims) == 1}
    nodes = (node for node in graph.graph.node if node.op_type in ADDING)
    beside = [name for node in nodes for name in node.input if name in vectors]
    store_in_half(graph, beside, "float16")
    known = {x.name for x in (*graph.graph.input, *graph.graph.output)} | {""}
    short: dict[str, str] = {}
    for weight in graph.graph.initializer:
        weight.name = short.setdefault(weight.name, f"t{len(short):x}")
    for node in graph.graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name not in known:
                    names[place] = short.setdefault(name, f"t{len(short):x}")
    onnx.save(graph, file)
