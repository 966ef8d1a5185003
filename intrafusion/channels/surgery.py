"""Removing units: parameters shrink, and the literals of the graph follow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx

from intrafusion.channels.analysis import Analysis, Group
from intrafusion.channels.planes import FROZEN, Flags, Plane, varying
from intrafusion.channels.rules import resize_for
from intrafusion.channels.rules.resize import Sizes
from intrafusion.channels.runs import joined
from intrafusion.channels.walk import Value, walk
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import Program

AT_A_TIME = 1 << 21
"""Tensors are cut so many numbers at a time."""


@dataclass(frozen=True)
class Removal:
    """A shrunk program and how it stands to the original.

    Attributes:
        program: the shrunk program.
        twins: for every node of the original the node that does its work now.
        staying: for each (tensor, dimension) that shrank the positions that stayed, ascending.
    """

    program: Program
    twins: Mapping[fx.Node, fx.Node]
    staying: Mapping[tuple[str, int], Tensor]


def remove(
    analysis: Analysis, kept: Mapping[Group, Tensor], tensors: Mapping[str, Tensor] | None = None
) -> Removal:
    """The program with only the `kept` units of each group.

    Args:
        analysis: of the program to shrink.
        kept: for each group the positions (m,) of the units that stay, ascending; a group that
            is not named stays whole.
        tensors: parameters and buffers of the original shapes to cut down, each asked for once;
            the program's own unless given.

    Raises:
        IntraFusionError: `COMPRESSION_FAILED` when what is left is no consistent program.
    """
    alive = _alive(analysis, kept)
    program = analysis.program
    source = program.tensors if tensors is None else tensors
    staying = {
        column: torch.from_numpy(np.flatnonzero(alive[atoms.start : atoms.stop]))
        for column, atoms in analysis.walk.ranges.items()
        if column[0] in source and not alive[atoms.start : atoms.stop].all()
    }
    sizes = Sizes(analysis.walk.values, alive)
    shrunk = {name: _cut(source, name, staying) for name in source}
    try:
        graph, twins = _resized(program, sizes)
        shrunk.update({n: t.to(program.device) for n, t in sizes.constants.items()})
        result = Removal(replace(program, graph=graph, tensors=shrunk), twins, staying)
        check(analysis, alive, result)
    except (RuntimeError, ValueError) as error:
        raise IntraFusionError(
            ErrorCode.COMPRESSION_FAILED,
            f"Removing channels left an inconsistent network: {error}",
            "Exclude the groups that run through the operation named, and report this network.",
        ) from error
    return result


def _cut(
    source: Mapping[str, Tensor], name: str, staying: Mapping[tuple[str, int], Tensor]
) -> Tensor:
    """A tensor of `source` without what does not stay."""
    tensor = source[name]
    left = {
        dim: staying[name, dim].to(tensor.device)
        for dim in range(tensor.dim())
        if (name, dim) in staying
    }
    if not left:
        return tensor
    shape = [len(left[dim]) if dim in left else size for dim, size in enumerate(tensor.shape)]
    cut = tensor.new_empty(shape)
    # Some lines at a time, so that no tensor is held that is cut along one dimension only.
    first, positions = left.popitem()
    lines = max(1, AT_A_TIME // max(1, tensor.numel() // tensor.shape[first]))
    for start in range(0, len(positions), lines):
        part = tensor.index_select(first, positions[start : start + lines])
        for dim, others in left.items():
            part = part.index_select(dim, others)
        cut.narrow(first, start, part.shape[first]).copy_(part)
    return cut


def check(analysis: Analysis, alive: Flags, result: Removal) -> None:
    """Walk the shrunk program and compare: its planes are the original's minus the dead.

    Raises `ValueError` naming the first node where they are not.
    """
    seeds = {
        (name, dim): _between(atoms, alive) for (name, dim), atoms in analysis.walk.ranges.items()
    }
    again = walk(result.program, seeds, whole_heads=analysis.walk.whole_heads)
    values = {node: v for node, v in analysis.walk.values.items() if isinstance(v, Value)}
    expected = {node: Sizes({}, alive).after(value) for node, value in values.items()}
    # Where one channel is left there is no plane any more, and what meets it there can be frozen;
    # where one line of a grid is left, what meets it meets all that stood beside it.
    lost = [left for left in seeds.values() if len(left) < 2]
    lost += [freeze.atoms for freeze in again.freezes]
    lost += [
        _left(plane, alive)
        for node, value in values.items()
        for plane in value.planes
        if any(expected[node][dim] == 1 for dim in varying(plane))
    ]
    unit = analysis.units.unit
    unknown = np.zeros(analysis.units.count, np.bool_)
    unknown[unit[joined(lost)]] = True
    followed = alive & ~unknown[unit]
    followed[FROZEN] = False
    for node, value in values.items():
        found, shape = again.values[result.twins[node]], expected[node]
        # What is empty has no channels to follow, and need not lose any.
        if list(found.shape) != shape and not (0 in shape and 0 in found.shape):
            raise ValueError(f"{node.name} has shape {list(found.shape)}, not {shape}")
        for plane in value.planes if 0 not in shape else ():
            known = followed[_left(plane, alive)]
            if known.any() and not any(
                _is_kept((plane, value), (other, found), alive, followed) for other in found.planes
            ):
                raise ValueError(f"{node.name} has lost track of its channels")


def _is_kept(
    before: tuple[Plane, Value], after: tuple[Plane, Value], alive: Flags, followed: Flags
) -> bool:
    """Whether a plane of a value after removal has what lives of one before, wherever that can be
    followed.

    It may tell more apart: a grouped convolution left with one filter per group is a
    depthwise one.
    """
    dims = [varying(plane) for plane, _ in (before, after)]
    if set(dims[0]).isdisjoint(dims[1]):
        return False
    wanted, labels = (
        _left(_lines(plane, {*dims[0], *dims[1]}, value), alive) for plane, value in (before, after)
    )
    known = followed[wanted]
    return len(wanted) == len(labels) and np.array_equal(wanted[known], labels[known])


def _lines(plane: Plane, dims: Collection[int], value: Value) -> Plane:
    """`plane`, of `value`, with an entry of its own for each position along `dims`."""
    return np.broadcast_to(plane, [s if d in dims else 1 for d, s in enumerate(value.shape)])


def _between(atoms: range, alive: Flags) -> Plane:
    """Those of `atoms` that live."""
    return np.arange(atoms.start, atoms.stop, dtype=np.int32)[alive[atoms.start : atoms.stop]]


def _left(plane: Plane, alive: Flags) -> Plane:
    """The atoms of `plane` that live, in order."""
    labels = plane.reshape(-1)
    return labels[alive[labels]]


def _alive(analysis: Analysis, kept: Mapping[Group, Tensor]) -> Flags:
    gone = np.zeros(analysis.units.count, np.bool_)
    for group, staying in kept.items():
        dead = torch.ones(len(group), dtype=torch.bool)
        dead[staying] = False
        gone[group.units[dead].numpy()] = True
    return ~gone[analysis.units.unit]


def _resized(program: Program, sizes: Sizes) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    graph = fx.Graph()
    twins: dict[fx.Node, fx.Node] = {}
    for old in program.graph.nodes:
        new = graph.node_copy(old, twins.__getitem__)
        twins[old] = new
        resize = resize_for(old)
        if resize is not None:
            resize(new, old, sizes)
    graph.lint()
    return graph, twins
