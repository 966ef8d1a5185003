"""In which order a program runs when some of its layers must first be refitted on all samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import fx


@dataclass(frozen=True)
class Stage:
    """What can be run before the next layers are refitted.

    Attributes:
        nodes: to run, in order, each with the nodes whose values nothing needs after it.
        leaves: nodes run here whose values later stages read.
        fits: layers to refit at the end, whose inputs there are by then.
    """

    nodes: tuple[tuple[fx.Node, tuple[fx.Node, ...]], ...]
    leaves: tuple[fx.Node, ...]
    fits: tuple[fx.Node, ...]


def stages(
    graph: fx.Graph, due: Mapping[fx.Node, object], beside: Callable[[fx.Node], fx.Node | None]
) -> tuple[Stage, ...]:
    """Run all that can be run, refit what has been reached, and so on until all is refitted.

    Args:
        graph: of the program.
        due: for the nodes of layers to refit, which layer it is; what they put out may be read only
            after that. One with several nodes is refitted when the first of them is reached.
        beside: for a layer the other part of the sum that it alone goes into. Of two layers that
            are refitted for one sum, the second waits for the first, so as to make up for it.
    """
    waiting = [n for n in graph.nodes if n.op not in ("get_attr", "output")]
    ran, fitted = set[fx.Node](), set[object]()
    total = len(set(due.values()))
    result: list[Stage] = []

    def is_ready(node: fx.Node) -> bool:
        return all(s.op == "get_attr" or s in ran for s in node.all_input_nodes)

    while len(fitted) < total:
        running, left = list[fx.Node](), list[fx.Node]()
        for node in waiting:
            if is_ready(node) and (node not in due or due[node] in fitted):
                running.append(node)
                ran.add(node)
            else:
                left.append(node)
        waiting = left
        fits: list[fx.Node] = []
        for node in waiting:
            open_ = node in due and due[node] not in fitted
            if open_ and is_ready(node) and beside(node) not in fits:
                fits.append(node)
                fitted.add(due[node])
        nodes = tuple(with_ends(running, ran))
        gone = {source for _, ended in nodes for source in ended}
        leaves = tuple(node for node in running if node not in gone)
        result.append(Stage(nodes, leaves, tuple(fits)))
    return tuple(result)


def with_ends(
    running: Sequence[fx.Node], ran: Collection[fx.Node] | None = None
) -> Iterator[tuple[fx.Node, tuple[fx.Node, ...]]]:
    """Each node with those that it is the last to read, itself if nothing reads it.

    `ran` are all nodes that have run by then; values that others read are not at their end.
    """
    known = set(running) if ran is None else ran
    last = {source: node for node in running for source in (node, *node.all_input_nodes)}
    ending: dict[fx.Node, list[fx.Node]] = {node: [] for node in running}
    for source, node in last.items():
        if source.op != "get_attr" and all(u in known or u.op == "output" for u in source.users):
            ending[node].append(source)
    return ((node, tuple(ended)) for node, ended in ending.items())
