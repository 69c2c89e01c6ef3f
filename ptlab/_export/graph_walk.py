"""What reaches the nodes of a graph whose weights change from its front to its back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

__all__ = ["GraphWalk"]


class GraphWalk:
    """The sounds of a graph at one node after another, no part run more often than is needed.

    Sums before the nodes that were asked for are kept, those behind them are made anew: a caller
    may change the weights of these nodes, and the next ones hear it. So a whole network is run
    twice, not once for each of its layers, and only a part of it is in ONNX Runtime at a time.

    Parameters
    ----------
    graph : onnx.ModelProto
        May change between calls, but for nodes in front of those that were asked for already.
    clips : sequence of dict of str to ndarray
        Inputs of the graph.
    """

    def __init__(self, graph: Any, clips: Sequence[dict[str, np.ndarray]]):
        self._graph = graph
        self._kept = list(clips)
        self._done = {""}  # what was made for good, kept or not; optional outputs have no name

    def inputs(self, nodes: Sequence[Any]) -> dict[str, list[np.ndarray]]:
        """First inputs of nodes, an array a clip; nodes are asked for in the order of the graph."""
        wanted = dict.fromkeys(node.input[0] for node in nodes)
        needed = self._needed(wanted)
        early = _before(needed, {node.output[0] for node in nodes})
        made = {name for node in early for name in node.output} - {""}
        self._done |= made
        ahead = {
            name
            for node in self._graph.graph.node
            if not self._done.issuperset(node.output)
            for name in node.input
        }
        passed_on = made & ahead
        known = self._kept[0].keys()
        runs = self._run(needed, sorted((wanted.keys() | passed_on) - known))
        sounds = [kept | run for kept, run in zip(self._kept, runs, strict=True)]
        to_keep = passed_on | (known & ahead)
        self._kept = [{name: sound[name] for name in to_keep} for sound in sounds]
        return {name: [sound[name] for sound in sounds] for name in wanted}

    def _needed(self, wanted: Collection[str]) -> list[Any]:
        """Nodes, in their order, that make the wanted tensors from what is kept."""
        nodes = self._graph.graph.node
        makers = {name: i for i, node in enumerate(nodes) for name in node.output}
        waiting, found = list(wanted), set()
        while waiting:
            name = waiting.pop()
            number = makers.get(name)
            if number is not None and number not in found and name not in self._kept[0]:
                found.add(number)
                waiting.extend(nodes[number].input)
        return [nodes[i] for i in sorted(found)]

    def _run(self, nodes: list[Any], outputs: list[str]) -> list[dict[str, np.ndarray]]:
        """What a part of the graph makes of each clip, from what is kept."""
        import onnxruntime
        from onnx import ValueInfoProto, helper

        if not outputs:
            return [{} for _ in self._kept]
        used = {name for node in nodes for name in node.input}
        given = {name: values for name, values in self._kept[0].items() if name in used}
        part = helper.make_graph(
            nodes,
            "part",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(values.dtype), [None] * values.ndim
                )
                for name, values in given.items()
            ],
            [ValueInfoProto(name=name) for name in outputs],
            [weight for weight in self._graph.graph.initializer if weight.name in used],
        )
        model = helper.make_model(
            part,
            opset_imports=self._graph.opset_import,
            ir_version=self._graph.ir_version,
            functions=self._graph.functions,
        )
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        runs = (session.run(outputs, {name: kept[name] for name in given}) for kept in self._kept)
        return [dict(zip(outputs, run, strict=True)) for run in runs]


def _before(nodes: list[Any], changing: set[str]) -> list[Any]:
    """Those of the nodes, in their order, that hear nothing of the changing tensors."""
    behind, early = set(changing), []
    for node in nodes:
        if behind.isdisjoint([*node.input, *node.output]):
            early.append(node)
        else:
            behind.update(node.output)
    return early
