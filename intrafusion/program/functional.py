"""Graphs without in-place operations, the quick way.

torch's own functionalisation (`run_decompositions`) traces the whole network again, which
takes three times as long as reading it. Most networks write in place only where nobody looks
at the old value (`relu_` after a convolution), and there the operation can be exchanged.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.program import torch_private

aten = torch.ops.aten

_FRESH_COMPOSITES = frozenset(
    torch_private.overloads(
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "_convolution",
        "_convolution_mode",
        "linear",
        "matmul",
        "batch_norm",
        "layer_norm",
        "group_norm",
        "instance_norm",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "avg_pool1d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
        "scaled_dot_product_attention",
        "embedding",
        "prelu",
        "softmax",
        "log_softmax",
    )
)
"""Composite operations that always return new memory."""

_KNOWN_VIEWS = frozenset(
    torch_private.overloads(
        "flatten", "unflatten", "chunk", "contiguous", "reshape", "detach", "to"
    )
)
"""Composite views that `normalise` has a spelling for."""

_DROPOUT = frozenset(
    torch_private.overloads("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
)
"""In evaluation mode these return their input itself, which their schema does not say."""


def functional(graph: fx.Graph) -> fx.Graph | None:
    """A copy of `graph` without in-place operations, or None where that takes more care.

    `graph` is what `torch.export.export` gives, with `val` metadata. None is returned where a
    value is read through another name after it was written, where a buffer or parameter is
    written, and where an operation's aliasing is not known. The ways of `torch.cond`, whose
    results are new memory, are left as they are.
    """
    aliases = _Aliases()
    order = {node: position for position, node in enumerate(graph.nodes)}
    exchanged: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op in ("placeholder", "output", "get_attr") or torch_private.is_cond(node.target):
            continue
        if node.op != "call_function":
            return None
        if not isinstance(node.target, torch._ops.OpOverload):
            if node.target is operator.getitem:
                aliases.share(node, node.args[0])
            elif any(isinstance(n.meta.get("val"), Tensor) for n in node.all_input_nodes):
                return None
        elif torch_private.written_arguments(node.target):
            pure = _pure(node)
            if pure is None or aliases.read_after(node.args[0], order[node], order):
                return None
            exchanged[node] = pure
            aliases.write(node, node.args[0])
        elif not _note_aliases(node, aliases):
            return None
    return _exchanged(graph, exchanged)


def _note_aliases(node: fx.Node, aliases: _Aliases) -> bool:
    """Note what a pure operation's result may share memory with; False where that is unknown."""
    target: Any = node.target
    if not any("Tensor" in str(returned.type) for returned in target._schema.returns):
        return True
    if target in _DROPOUT:
        aliases.share(node, node.args[0])
        return node.args[2] is False
    if target is aten.batch_norm.default and node.args[5] is not False:
        return False
    viewed = torch_private.viewed_arguments(target)
    composite = torch_private.is_composite(target)
    if composite and target not in _FRESH_COMPOSITES | _KNOWN_VIEWS:
        return False
    for position in viewed:
        if position < len(node.args):
            aliases.share(node, node.args[position])
    return True


def _pure(node: fx.Node) -> Any:
    """The overload that computes what an in-place one writes, where that is sure."""
    target: Any = node.target
    name = target._schema.name.partition("::")[2]
    if torch_private.written_arguments(target) != [0] or not name.endswith("_"):
        return None
    written: Any = node.args[0]
    tensors = [n.meta.get("val") for n in node.all_input_nodes]
    # Written in place, a result takes the dtype of what it is written to.
    dtypes = {t.dtype for t in tensors if isinstance(t, Tensor)}
    if written.op == "placeholder" or len(dtypes) > 1 or name == "copy_":
        return None
    packet = getattr(aten, name.removesuffix("_"), None)
    return getattr(packet, target._overloadname, None)


class _Aliases:
    """Which values may share memory, and which are one value under several names."""

    def __init__(self) -> None:
        self._sharing: dict[fx.Node, set[fx.Node]] = {}
        self._same: dict[fx.Node, set[fx.Node]] = {}

    def share(self, a: fx.Node, b: Any) -> None:
        """Note that `a` may share memory with `b`, a node or a list of nodes."""
        for other in b if isinstance(b, list | tuple) else [b]:
            if isinstance(other, fx.Node):
                joined = self._of(self._sharing, a) | self._of(self._sharing, other)
                self._sharing.update(dict.fromkeys(joined, joined))

    def write(self, node: fx.Node, written: fx.Node) -> None:
        """Note that the in-place operation `node` returns `written` itself."""
        self.share(node, written)
        joined = self._of(self._same, node) | self._of(self._same, written)
        self._same.update(dict.fromkeys(joined, joined))

    def read_after(self, written: fx.Node, position: int, order: dict[fx.Node, int]) -> bool:
        """Whether memory of `written` is read under a name of another value after `position`."""
        others = self._of(self._sharing, written) - self._of(self._same, written)
        return any(order[user] > position for other in others for user in other.users)

    @staticmethod
    def _of(sets: dict[fx.Node, set[fx.Node]], node: fx.Node) -> set[fx.Node]:
        return sets.get(node, {node})


def _exchanged(graph: fx.Graph, pure: dict[fx.Node, Any]) -> fx.Graph:
    """A copy in which the nodes of `pure` are those operations, and are read from there on."""
    result = fx.Graph()
    current: dict[fx.Node, fx.Node] = {}
    names: dict[fx.Node, set[fx.Node]] = {}
    for node in graph.nodes:
        new = result.node_copy(node, lambda old: current[old])
        current[node] = new
        if node in pure:
            new.target = pure[node]
            written = node.args[0]
            names[node] = names.setdefault(written, {written})
            names[node].add(node)
            current.update(dict.fromkeys(names[node], new))
    return result
