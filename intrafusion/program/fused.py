"""Layers that torch runs as one operation, taken apart again.

In evaluation mode without gradients, as most people trace, `nn.TransformerEncoderLayer` and
`nn.MultiheadAttention` become a single operation each, in which no channel can be followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten


def encoder_layer(graph: fx.Graph, a: Mapping[str, Any]) -> fx.Node | None:
    """What `aten._transformer_encoder_layer_fwd` with arguments `a` does, in several nodes.

    None where it has a mask or its input is no (batch, length, channels).
    """
    source = a["src"]
    sizes = _sizes(source)
    if a["mask"] is not None or sizes is None:
        return None

    def norm(value: fx.Node, number: int) -> fx.Node:
        weight, bias = a[f"norm_weight_{number}"], a[f"norm_bias_{number}"]
        return graph.call_function(
            aten.layer_norm.default, (value, [a["embed_dim"]], weight, bias, a["eps"], False)
        )

    def attend(value: fx.Node) -> fx.Node:
        return _attention(graph, value, sizes, a)

    def feed_forward(value: fx.Node) -> fx.Node:
        value = _linear(graph, value, a["ffn_weight_1"], a["ffn_bias_1"])
        activation = aten.gelu.default if a["use_gelu"] else aten.relu.default
        value = graph.call_function(activation, (value,))
        return _linear(graph, value, a["ffn_weight_2"], a["ffn_bias_2"])

    def add(left: fx.Node, right: fx.Node) -> fx.Node:
        return graph.call_function(aten.add.Tensor, (left, right))

    if a["norm_first"]:
        middle = add(source, attend(norm(source, 1)))
        return add(middle, feed_forward(norm(middle, 2)))
    middle = norm(add(source, attend(source)), 1)
    return norm(add(middle, feed_forward(middle)), 2)


def self_attention(graph: fx.Graph, a: Mapping[str, Any]) -> fx.Node | None:
    """The first result of `aten._native_multi_head_attention` with arguments `a`.

    None where query, key and value differ, where it has a mask, or where its input is no
    (batch, length, channels).
    """
    query = a["query"]
    sizes = _sizes(query)
    same = query is a["key"] and query is a["value"]
    if not same or a["mask"] is not None or sizes is None:
        return None
    return _attention(graph, query, sizes, {**a, "num_heads": a["num_head"]})


def _sizes(node: fx.Node) -> tuple[int, int] | None:
    """Length and channels of a (batch, length, channels)."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.dim() != 3:
        return None
    _, length, channels = value.shape
    return (length, channels) if isinstance(length, int) and isinstance(channels, int) else None


def _attention(
    graph: fx.Graph, value: fx.Node, sizes: tuple[int, int], a: Mapping[str, Any]
) -> fx.Node:
    (length, channels), heads = sizes, a["num_heads"]
    joined = _linear(graph, value, a["qkv_weight"], a["qkv_bias"])
    split = graph.call_function(
        aten.reshape.default, (joined, [-1, length, 3, heads, channels // heads])
    )
    split = graph.call_function(aten.permute.default, (split, [2, 0, 3, 1, 4]))
    query, key, content = (
        graph.call_function(aten.select.int, (split, 0, position)) for position in range(3)
    )
    mixed = graph.call_function(aten.scaled_dot_product_attention.default, (query, key, content))
    mixed = graph.call_function(aten.transpose.int, (mixed, 1, 2))
    mixed = graph.call_function(aten.reshape.default, (mixed, [-1, length, channels]))
    return _linear(graph, mixed, a["proj_weight"], a["proj_bias"])


def _linear(graph: fx.Graph, value: fx.Node, weight: fx.Node, bias: fx.Node) -> fx.Node:
    return graph.call_function(aten.linear.default, (value, weight, bias))
