"""`torch.cond` of an exported graph as a `Branch`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, fx, nn
from torch.fx.node import Argument

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private
from intrafusion.program.branch import Branch, branch_of
from intrafusion.program.functional import functional
from intrafusion.program.normalise import normalise


def branch_from(node: fx.Node, owner: nn.Module) -> tuple[Branch, list[Tensor]]:
    """What a node that calls `torch.cond` chooses between, in normal form.

    Args:
        node: with `val` metadata, as `torch.export` leaves it.
        owner: the module of the node's graph, which holds both ways.

    Returns the branch, and constants that it wants after the operands of `node`.

    Raises `IntraFusionError` with `CAPTURE_FAILED` where a way writes in place to what it reads
    under another name.
    """
    _, then, otherwise, _ = node.args
    ways = [_Way(_module(owner, way)) for way in (then, otherwise)]
    constants = [constant for way in ways for constant in way.constants]
    first, second = (len(way.constants) for way in ways)
    return branch_of(ways[0].graph(0, second), ways[1].graph(first, 0)), constants


def given(node: fx.Node, nodes: Mapping[fx.Node, fx.Node]) -> tuple[Argument, ...]:
    """The condition of a node that calls `torch.cond`, and what both ways are given, in `nodes`."""
    condition, _, _, operands = node.args
    assert isinstance(operands, tuple | list)
    return fx.map_arg((condition, *operands), nodes.__getitem__)


class _Way:
    """One way of a choice: a graph whose constants become further placeholders."""

    def __init__(self, module: nn.Module) -> None:
        assert isinstance(module, fx.GraphModule)
        graph = functional(module.graph)
        if graph is None:
            raise IntraFusionError(
                ErrorCode.CAPTURE_FAILED,
                "A branch that depends on what a tensor holds writes to tensors in place.",
                "Let each way compute new tensors: x = x + y for x += y.",
            )
        self._graph = graph
        self._held: dict[fx.Node, Tensor] = {}
        self._branches: dict[fx.Node, tuple[Branch, list[Tensor]]] = {}
        for node in graph.nodes:
            if torch_private.is_cond(node.target):
                self._branches[node] = branch_from(node, module)
            elif node.op == "get_attr" and isinstance(value := _attribute(module, node), Tensor):
                self._held[node] = value
        within = [constant for _, own in self._branches.values() for constant in own]
        self.constants = [*self._held.values(), *within]

    def graph(self, before: int, after: int) -> fx.Graph:
        """In normal form; so many placeholders stand before and after those of the constants."""
        result = fx.Graph()
        nodes: dict[fx.Node, fx.Node] = {}
        for node in self._graph.find_nodes(op="placeholder"):
            nodes[node] = result.node_copy(node)
        for _ in range(before):
            result.placeholder("unused")
        for node, tensor in self._held.items():
            nodes[node] = result.placeholder("constant")
            nodes[node].meta["val"] = tensor
        within = iter([result.placeholder("constant") for _ in self.constants[len(self._held) :]])
        for _ in range(after):
            result.placeholder("unused")
        for node in self._graph.nodes:
            if node in self._branches:
                branch, own = self._branches[node]
                operands = (*given(node, nodes), *(next(within) for _ in own))
                nodes[node] = result.call_function(branch, operands)
                nodes[node].meta = dict(node.meta)
            elif node.op == "output":
                (returned,) = node.args
                assert isinstance(returned, tuple | list)
                result.output(tuple(nodes[value] for value in returned))
            elif node.op == "call_function":
                nodes[node] = result.node_copy(node, nodes.__getitem__)
        return normalise(result)


def _module(owner: nn.Module, way: object) -> nn.Module:
    assert isinstance(way, fx.Node)
    return owner.get_submodule(str(way.target))


def _attribute(module: nn.Module, node: fx.Node) -> object:
    value: object = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value
