"""Where the weights of an exported graph are, and to which part of the network they belong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["OPERATORS", "group_of", "weighted_nodes", "weights_of"]

OPERATORS = ("MatMul", "Conv")  # which have nearly all weights
_LAYER = re.compile(r"(?:^|/)layers\.(\d+)/")
_PARTS = ("feature_extractor", "feature_projection", "pos_conv_embed", "lm_head")


def weights_of(graph: Any) -> dict[str, Any]:
    """Float32 weights by name."""
    import onnx

    return {i.name: i for i in graph.graph.initializer if i.data_type == onnx.TensorProto.FLOAT}


def weighted_nodes(graph: Any, operators: Sequence[str]) -> list[Any]:
    """Nodes whose second input is a weight."""
    weights = weights_of(graph)
    return [
        n for n in graph.graph.node
        if n.op_type in operators and len(n.input) > 1 and n.input[1] in weights
    ]  # fmt: skip


def group_of(node: str) -> str:
    """The part of the network that a node belongs to, by its name.

    Examples
    --------
    >>> group_of("/network/wav2vec2/encoder/layers.3/attention/q_proj/MatMul")
    'layers.3'
    """
    layer = _LAYER.search(node)
    if layer:
        return f"layers.{layer.group(1)}"
    return next((part for part in _PARTS if part in node), "other")
