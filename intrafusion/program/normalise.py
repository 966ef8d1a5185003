"""One normal form for graphs, so that each operation has one spelling.

After `normalise`

- every convolution is `aten.convolution.default` with full-length lists;
- every batch norm in evaluation mode is `aten.batch_norm.default`, every layer and group norm
  `aten.layer_norm.default` and `aten.group_norm.default`;
- a product with a transposed matrix parameter is `aten.linear.default`;
- `view`, `flatten` and their kin are `aten.reshape.default`, `chunk` is `aten.split.Tensor`;
- single steps of recurrent layers are linear layers, sums and products, and start from nothing
  where they started from zeros;
- copies, evaluation-mode dropout and assertions are gone, and so is dead code;
- nodes carry no metadata: shapes come from running the graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.program import torch_private
from intrafusion.program.cells import gru_cell, lstm_cell, rnn_cell, without_zero_states
from intrafusion.program.fused import encoder_layer, self_attention

aten = torch.ops.aten

Rewrite = Callable[[fx.Graph, fx.Node], fx.Node | None]
"""Builds what replaces a node (its own argument to drop it), or returns None to keep it."""


def normalise(graph: fx.Graph) -> fx.Graph:
    """A new graph in normal form that computes the same.

    `graph` is functional ATen whose values carry `val` metadata, as `torch.export` leaves it.
    """
    result = fx.Graph()
    returned = result.graph_copy(graph, {})
    result.output(returned)
    for node in list(result.nodes):
        if node.target in _ASSERTIONS:
            result.erase_node(node)
            continue
        rewrite = _REWRITES.get(node.target)
        if rewrite is None:
            continue
        with result.inserting_before(node):
            replacement = rewrite(result, node)
        if replacement is None:
            continue
        if replacement.op == "call_function" and "val" not in replacement.meta:
            replacement.meta["val"] = node.meta.get("val")
        node.replace_all_uses_with(replacement)
        result.erase_node(node)
    result.eliminate_dead_code()
    without_zero_states(result)
    for node in result.nodes:
        node.meta = {}
    result.lint()
    return result


def arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of a call of an ATen overload by name, with the schema's defaults."""
    target = node.target
    assert isinstance(target, torch._ops.OpOverload)
    bound: dict[str, Any] = {}
    for position, argument in enumerate(target._schema.arguments):
        if position < len(node.args) and not argument.kwarg_only:
            bound[argument.name] = node.args[position]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value
    return bound


def _value(node: Any) -> Tensor:
    value = node.meta["val"]
    assert isinstance(value, Tensor)
    return value


def _full(value: int | Sequence[Any], length: int) -> list[Any]:
    """A list argument at full length; ATen lets one number stand for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * length if len(values) == 1 else values


# --- convolution --------------------------------------------------------------------------


def _convolution(graph: fx.Graph, node: fx.Node) -> fx.Node:
    a = arguments(node)
    spatial = _value(a["weight"]).dim() - 2
    stride, dilation = _full(a["stride"], spatial), _full(a["dilation"], spatial)
    value, padding = a["input"], a["padding"]
    if padding == "valid":
        padding = [0] * spatial
    elif padding == "same":
        value, padding = _same(graph, value, _value(a["weight"]).shape[2:], dilation)
    return graph.call_function(
        aten.convolution.default,
        (
            value,
            a["weight"],
            a["bias"],
            stride,
            _full(padding, spatial),
            dilation,
            a.get("transposed", _is_transposed(node)),
            _full(a.get("output_padding", 0), spatial),
            a["groups"],
        ),
    )


def _is_transposed(node: fx.Node) -> bool:
    return "transpose" in str(node.target)


def _same(
    graph: fx.Graph, value: fx.Node, kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[fx.Node, list[int]]:
    """Padding that keeps the size at stride 1; what is odd goes to the end, as torch has it."""
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding = [t // 2 for t in total]
    extra = [t % 2 for t in total]
    if not any(extra):
        return value, padding
    # constant_pad_nd counts from the last dimension, (before, after) each.
    pad = [amount for after in reversed(extra) for amount in (0, after)]
    return graph.call_function(aten.constant_pad_nd.default, (value, pad, 0)), padding


# --- normalisation layers -----------------------------------------------------------------


def _batch_norm(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    a = arguments(node)
    if a.get("training", False):
        return None
    return graph.call_function(
        aten.batch_norm.default,
        (
            a["input"],
            a["weight"],
            a["bias"],
            a["running_mean"],
            a["running_var"],
            False,
            a["momentum"],
            a["eps"],
            True,
        ),
    )


def _layer_norm(graph: fx.Graph, node: fx.Node) -> fx.Node:
    a = arguments(node)
    return graph.call_function(
        aten.layer_norm.default,
        (a["input"], a["normalized_shape"], a["weight"], a["bias"], a["eps"], False),
    )


def _group_norm(graph: fx.Graph, node: fx.Node) -> fx.Node:
    a = arguments(node)
    groups = a["num_groups"] if "num_groups" in a else a["group"]
    return graph.call_function(
        aten.group_norm.default, (a["input"], groups, a["weight"], a["bias"], a["eps"], False)
    )


_FIRST_OUTPUT: dict[Any, Rewrite] = {
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten._native_batch_norm_legit.default: _batch_norm,
    aten._native_batch_norm_legit_functional.default: _batch_norm,
    aten.native_batch_norm.default: _batch_norm,
    aten.cudnn_batch_norm.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
    aten._native_multi_head_attention.default: lambda graph, node: self_attention(
        graph, arguments(node)
    ),
    aten.native_dropout.default: lambda graph, node: _dropout(graph, node),
}
"""Operations that return statistics besides; the normal form has none of those."""


def _getitem(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    source, index = node.args
    if not isinstance(source, fx.Node):
        return None
    if source.target is aten.lstm_cell.default:
        if "states" not in source.meta:
            source.meta["states"] = lstm_cell(graph, arguments(source))
        state: fx.Node = source.meta["states"][index]
        return state
    if index != 0:
        return None
    rewrite = _FIRST_OUTPUT.get(source.target)
    if rewrite is None or any(user.args[1:] != (0,) for user in source.users if user.users):
        return None
    return rewrite(graph, source)


# --- products with a parameter ------------------------------------------------------------


def _linear_weight(node: Any) -> fx.Node | None:
    """`w` where `node` is the transpose of a matrix parameter w, else None."""
    if not isinstance(node, fx.Node) or node.target not in _TRANSPOSES:
        return None
    weight: Any = node.args[0]
    if node.target is aten.permute.default:
        order: Any = node.args[1]
        swaps = [d % 2 for d in order] == [1, 0]
    else:
        pair: Any = node.args[1:]
        swaps = not pair or sorted(d % 2 for d in pair) == [0, 1]
    is_matrix = weight.op == "get_attr" and _value(weight).dim() == 2
    return weight if is_matrix and swaps else None


def _matmul(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    left, right = node.args
    weight = _linear_weight(right)
    return None if weight is None else graph.call_function(aten.linear.default, (left, weight))


def _addmm(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    a = arguments(node)
    weight = _linear_weight(a["mat2"])
    if weight is None or a["beta"] != 1 or a["alpha"] != 1 or _value(a["self"]).dim() != 1:
        return None
    return graph.call_function(aten.linear.default, (a["mat1"], weight, a["self"]))


# --- movement and copies ------------------------------------------------------------------


def _reshape(graph: fx.Graph, node: fx.Node) -> fx.Node:
    # Without the copies that `_copy` drops, a view may meet strides it cannot express.
    return graph.call_function(aten.reshape.default, node.args[:2])


def _reshape_to_value(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    """`flatten` and `unflatten` by the sizes they gave; one of them may be symbolic."""
    sizes = [size if isinstance(size, int) else -1 for size in _value(node).shape]
    if sizes.count(-1) > 1:
        return None
    return graph.call_function(aten.reshape.default, (node.args[0], sizes))


def _chunk(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    a = arguments(node)
    size = node.meta["val"][0].shape[a["dim"]]
    if not isinstance(size, int):
        return None
    split = graph.call_function(aten.split.Tensor, (a["self"], size, a["dim"]))
    split.meta["val"] = node.meta["val"]
    return split


def _split(graph: fx.Graph, node: fx.Node) -> fx.Node:
    split = graph.call_function(aten.split.Tensor, node.args, node.kwargs)
    split.meta["val"] = node.meta["val"]
    return split


def _size(graph: fx.Graph, node: fx.Node) -> fx.Node:
    return graph.call_function(aten.sym_size.int, node.args)


def _copy(graph: fx.Graph, node: fx.Node) -> fx.Node:
    (source, *_) = node.args
    assert isinstance(source, fx.Node)
    return source


def _cast(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    (source, *_) = node.args
    assert isinstance(source, fx.Node)
    before, after = source.meta.get("val"), node.meta.get("val")
    if not (isinstance(before, Tensor) and isinstance(after, Tensor)):
        return None
    same = before.dtype == after.dtype and before.device == after.device
    return source if same else None


def _dropout(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    return None if arguments(node)["train"] else _copy(graph, node)


_TRANSPOSES = (
    aten.t.default,
    aten.numpy_T.default,
    aten.mT.default,
    aten.transpose.int,
    aten.permute.default,
)


_ASSERTIONS = frozenset(
    torch_private.overloads(
        "_assert_tensor_metadata",
        "_assert_scalar",
        "_assert_async",
        "sym_constrain_range",
        "sym_constrain_range_for_size",
    )
)

_REWRITES: dict[Any, Rewrite] = {
    operator.getitem: _getitem,
    aten.batch_norm.default: _batch_norm,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.view.default: _reshape,
    aten._unsafe_view.default: _reshape,
    aten._reshape_copy.default: _reshape,
    aten.view_copy.default: _reshape,
    aten.flatten.using_ints: _reshape_to_value,
    aten.unflatten.int: _reshape_to_value,
    aten.chunk.default: _chunk,
    aten._transformer_encoder_layer_fwd.default: lambda graph, node: encoder_layer(
        graph, arguments(node)
    ),
    aten.unsafe_chunk.default: _chunk,
    aten.unsafe_split.Tensor: _split,
    aten.gru_cell.default: lambda graph, node: gru_cell(graph, arguments(node)),
    aten.rnn_tanh_cell.default: lambda graph, node: rnn_cell(
        graph, arguments(node), aten.tanh.default
    ),
    aten.rnn_relu_cell.default: lambda graph, node: rnn_cell(
        graph, arguments(node), aten.relu.default
    ),
    aten.size.int: _size,
    **dict.fromkeys(
        torch_private.overloads(
            "conv1d",
            "conv2d",
            "conv3d",
            "conv_transpose1d",
            "conv_transpose2d",
            "conv_transpose3d",
            "convolution",
            "_convolution",
            "_convolution_mode",
        ),
        _convolution,
    ),
    **dict.fromkeys(
        torch_private.overloads(
            "clone", "alias", "detach", "contiguous", "lift_fresh", "lift_fresh_copy"
        ),
        _copy,
    ),
    **dict.fromkeys(torch_private.overloads("_to_copy", "to"), _cast),
    **dict.fromkeys(
        torch_private.overloads(
            "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"
        ),
        _dropout,
    ),
}
