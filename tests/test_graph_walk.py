"""What nodes of a graph hear while its weights change: as in the whole graph, but run once."""

from itertools import groupby

import numpy as np
import pytest

from ptlab._export.graph_walk import GraphWalk
from ptlab._export.onnx_weights import group_of, weighted_nodes

onnx = pytest.importorskip("onnx", reason="changing ONNX files: pip install 'ptlab[export]'")


@pytest.fixture
def graph(tiny_export):
    return onnx.load(tiny_export.folder / "model.onnx")


@pytest.fixture
def clips(graph):
    rng = np.random.default_rng(1)
    sounds = [rng.standard_normal((1, size)).astype(np.float32) for size in (4_000, 6_321)]
    whole = {"input_values": lambda x: x, "attention_mask": lambda x: np.ones(x.shape, np.int64)}
    return [{i.name: whole[i.name](x) for i in graph.graph.input} for x in sounds]


def groups_of(graph):
    nodes = weighted_nodes(graph, ["MatMul", "Conv"])
    return [list(group) for _, group in groupby(nodes, lambda node: group_of(node.name))]


def in_the_whole_graph(graph, names, clip):
    import onnxruntime

    whole = onnx.ModelProto()
    whole.CopyFrom(graph)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(whole.SerializeToString())
    return session.run(names, clip)


def halve_weight(graph, node):
    weight = next(w for w in graph.graph.initializer if w.name == node.input[1])
    halved = onnx.numpy_helper.to_array(weight) / 2
    weight.CopyFrom(onnx.numpy_helper.from_array(halved, weight.name))


def test_nodes_hear_what_changed_before_them(graph, clips):
    walk, heard = GraphWalk(graph, clips), 0
    for members in groups_of(graph):
        sounds = walk.inputs(members)
        assert list(sounds) == list(dict.fromkeys(node.input[0] for node in members))
        for number, clip in enumerate(clips):
            for name, expected in zip(
                sounds, in_the_whole_graph(graph, list(sounds), clip), strict=True
            ):
                assert sounds[name][number] == pytest.approx(expected, rel=1e-4, abs=1e-5)
                heard += 1
        for node in members:
            halve_weight(graph, node)
    assert heard > 20


def test_no_part_is_run_more_than_twice(graph, clips, monkeypatch):
    runs, run = [], GraphWalk._run
    monkeypatch.setattr(
        GraphWalk,
        "_run",
        lambda self, nodes, outputs: runs.append(len(nodes)) or run(self, nodes, outputs),
    )
    walk, groups = GraphWalk(graph, clips), groups_of(graph)
    for members in groups:
        walk.inputs(members)
    assert len(runs) == len(groups) and sum(runs) <= 2 * len(graph.graph.node)


def test_sounds_that_nobody_needs_any_more_are_dropped(graph, clips):
    walk = GraphWalk(graph, clips)
    for members in groups_of(graph):
        walk.inputs(members)
    assert len(walk._kept[0]) < 4 and "input_values" not in walk._kept[0]
