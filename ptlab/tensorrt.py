"""Engines for NVIDIA cards: the recipe, and what this machine lacks for it.

>>> import ptlab
>>> ready = not ptlab.missing_for_tensorrt()  # else it says what to install
>>> lengths = {"min": 400, "usual": 16_200, "max": 32_000}  # samples
>>> plan = ptlab.EnginePlan("2s.engine", tuple(lengths.values()), (1, 4, 4), ("input_values",))
>>> " ".join(plan.command()[:3])
'trtexec --onnx=model.onnx --stronglyTyped'

TensorRT builds an engine for a range of shapes, on the very kind of card that will run it. One wide
range made an engine half as fast as ONNX Runtime (NVIDIA/TensorRT issue 3300), so there is one for
each bucket of lengths. Which numbers are float16 is written into the graph: TensorRT 11 builds
networks only as they are typed, and 10 does so if it is told (``--stronglyTyped``). Matrix products
and convolutions are in float16; layer norm, whose squares overflow there (issues 4493 and 3101),
softmax and all the rest stay in float32.

The graph is checked on the CPU, against the one that it was made from. The building could not be
tried where this was written, for want of such a card: the tests hold shapes, commands and messages.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptlab._export.half_precision import halved
from ptlab._export.onnx_graph import require_onnx, write_with_facts
from ptlab._export.onnx_weights import OPERATORS, weights_of
from ptlab.errors import ModelError
from ptlab.export import check_parity, copy_belongings, new_folder
from ptlab.onnx_model import GRAPH, MASK, WAVEFORMS, load_onnx

__all__ = ["EnginePlan", "TensorRTExport", "export_tensorrt", "missing_for_tensorrt"]

BUCKETS_S = (2.0, 5.0, 10.0, 20.0)  # 20 s is the longest window of a Transcriber
SCRIPT = "build_engines.sh"


@dataclass(frozen=True)
class EnginePlan:
    """One engine: for which lengths it is, and the command that builds it.

    Attributes
    ----------
    name : str
        Of its file.
    samples, clips : tuple of int
        The least, the usual and the most, of the length of a clip and of the clips in a batch.
    inputs : tuple of str
        Of the graph.

    Examples
    --------
    >>> plan = EnginePlan("2s.engine", (400, 16_200, 32_000), (1, 4, 4), ("input_values",))
    >>> plan.shapes()["max"]
    'input_values:4x32000'
    """

    name: str
    samples: tuple[int, int, int]
    clips: tuple[int, int, int]
    inputs: tuple[str, ...]

    def shapes(self) -> dict[str, str]:
        """Shapes as trtexec writes them: ``"min"``, ``"opt"`` and ``"max"``."""
        sizes = zip(("min", "opt", "max"), self.clips, self.samples, strict=True)
        return {
            which: ",".join(f"{name}:{clips}x{samples}" for name in self.inputs)
            for which, clips, samples in sizes
        }

    def command(self, folder: str | os.PathLike[str] = ".") -> list[str]:
        """What builds the engine from the graph in a folder."""
        shapes = [f"--{which}Shapes={text}" for which, text in self.shapes().items()]
        onnx, engine = Path(folder, GRAPH), Path(folder, self.name)
        return [
            "trtexec", f"--onnx={onnx}", "--stronglyTyped", *shapes, f"--saveEngine={engine}",
            "--skipInference",
        ]  # fmt: skip


@dataclass(frozen=True)
class TensorRTExport:
    """A folder with a graph in mixed precision, and its engines or the script that builds them.

    Attributes
    ----------
    folder : Path
    plans : tuple of EnginePlan
    difference : float
        Largest difference in log-probability between the graph and what it was made from.
    built : bool
        Whether the engines are there.
    """

    folder: Path
    plans: tuple[EnginePlan, ...]
    difference: float
    built: bool

    def __str__(self) -> str:
        state = "built" if self.built else f"to be built by {SCRIPT} on the machine with the card"
        return f"{self.folder.name}: {len(self.plans)} engines, {state}"


def missing_for_tensorrt() -> tuple[str, ...]:
    """What this machine lacks to build engines; nothing if all is there.

    Examples
    --------
    >>> isinstance(missing_for_tensorrt(), tuple)
    True
    """
    missing = []
    if shutil.which("nvidia-smi") is None:
        missing.append("an NVIDIA card with its driver (there is no command nvidia-smi)")
    elif "GPU" not in _output(["nvidia-smi", "-L"]):
        missing.append("an NVIDIA card (nvidia-smi lists none)")
    if shutil.which("trtexec") is None:
        missing.append(
            "trtexec 10 or newer on the PATH (it comes with NVIDIA's TensorRT and its containers)"
        )
    return tuple(missing)


def export_tensorrt(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    buckets_s: Sequence[float] = BUCKETS_S,
    batch_size: int = 4,
    build: bool = True,
    overwrite: bool = False,
) -> TensorRTExport:
    """Write a graph in mixed precision for TensorRT, and build its engines where that can be done.

    Parameters
    ----------
    source : path
        What `ptlab.export_onnx` has made.
    path : path
        The folder to make. Its graph also loads as a model of ONNX Runtime.
    buckets_s : sequence of float
        Longest clip of each engine, in seconds, rising: two to four serve best.
    batch_size : int
        Most clips at once.
    build : bool
        False to write the graph and a script for another machine, the one with the card.
    overwrite : bool
        As in `ptlab.export_onnx`.

    Returns
    -------
    TensorRTExport

    Raises
    ------
    ModelError
        If something is missing to build (all of it is named), a building fails, a bucket is not
        longer than the one before it, or the source is no graph in float32.

    Examples
    --------
    >>> export_tensorrt("runs/onnx", "runs/trt", buckets_s=(5, 2))
    Traceback (most recent call last):
    ptlab.errors.ModelError: buckets_s=(5, 2); expected rising lengths above 0, in seconds.
    """
    _check_numbers(buckets_s, batch_size)
    missing = missing_for_tensorrt() if build else ()
    if missing:
        raise ModelError(
            f"TensorRT engines cannot be built here; missing: {'; '.join(missing)}. With "
            "build=False the folder is prepared, with a script to run on the machine that has them."
        )
    require_onnx()
    model = load_onnx(source, device="cpu")
    if model.precision != "float32":
        raise ModelError(f"{model.name!r} has {model.precision} weights; give the float32 export.")
    plans = plan_engines(model, buckets_s, batch_size)
    with new_folder(path, overwrite) as folder:
        write_with_facts(_mixed(model.path), folder / GRAPH, model.facts | {"precision": "mixed"})
        copy_belongings(model.path.parent, folder)
        difference = check_parity(model, load_onnx(folder, device="cpu"))
        lines = ["#!/bin/sh", "set -e", 'cd "$(dirname "$0")"', *map(_line, plans)]
        (folder / SCRIPT).write_text("\n".join(lines) + "\n", "utf-8")
        for plan in plans if build else ():
            _build(plan, folder)
    return TensorRTExport(Path(path).expanduser(), plans, difference, build)


def plan_engines(model: Any, buckets_s: Sequence[float], batch_size: int) -> tuple[EnginePlan, ...]:
    """An engine a bucket: each begins where the one before it ends."""
    takes_mask = MASK in model.inputs_of_graph
    inputs = (WAVEFORMS, MASK) if takes_mask else (WAVEFORMS,)
    most = batch_size if model.pads_exactly else 1
    plans, least = [], model.receptive_field
    for seconds in buckets_s:
        longest = round(seconds * model.sampling_rate)
        samples = (least, (least + longest) // 2, longest)
        plans.append(EnginePlan(f"{seconds:g}s.engine", samples, (1, most, most), inputs))
        least = longest
    return tuple(plans)


def _check_numbers(buckets_s: Sequence[float], batch_size: int) -> None:
    if not buckets_s or any(b <= a for a, b in zip((0, *buckets_s), buckets_s, strict=False)):
        raise ModelError(f"buckets_s={buckets_s}; expected rising lengths above 0, in seconds.")
    if batch_size < 1:
        raise ModelError(f"batch_size={batch_size}; expected 1 or more.")


def _mixed(path: Path) -> Any:
    """The graph with matrix products and convolutions in float16, between casts."""
    import onnx
    from onnx import TensorProto, helper

    graph = onnx.load(path)
    weights, done, nodes = weights_of(graph), {}, []

    def small(name: str) -> str:
        """The tensor in float16: a weight as it is stored, or what a cast gives."""
        if name not in done:
            done[name] = f"{name}_float16"
            if name in weights:
                graph.graph.initializer.append(halved(weights[name], "float16"))
            else:
                cast = helper.make_node(
                    "Cast", [name], [done[name]], done[name], to=TensorProto.FLOAT16
                )
                nodes.append(cast)
        return done[name]

    for node in graph.graph.node:
        if node.op_type not in OPERATORS:
            nodes.append(node)
            continue
        node.input[:] = [small(name) for name in node.input]
        (result,) = node.output
        node.output[0] = f"{result}_narrow"
        widen = helper.make_node("Cast", [node.output[0]], [result], result, to=TensorProto.FLOAT)
        nodes += [node, widen]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    used = {name for node in graph.graph.node for name in node.input}
    for name, weight in weights.items():
        if name not in used:
            graph.graph.initializer.remove(weight)
    return graph


def _build(plan: EnginePlan, folder: Path) -> None:
    done = subprocess.run(plan.command(folder), capture_output=True, text=True, check=False)
    if done.returncode or not (folder / plan.name).is_file():
        said = (done.stdout + done.stderr).strip().splitlines()
        wrong = [line for line in said if "[E]" in line] or said or ["nothing"]
        raise ModelError(
            f"trtexec could not build {plan.name} (code {done.returncode}): {wrong[0].strip()}. "
            f"The command was: {_line(plan)}"
        )


def _line(plan: EnginePlan) -> str:
    return shlex.join(plan.command())


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
