"""What the units of a group do on samples: their activations where they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from intrafusion.batches import in_parts, samples_at_a_time
from intrafusion.channels import Analysis, Binding, Group, Role
from intrafusion.channels.planes import varying
from intrafusion.channels.walk import Value
from intrafusion.program import Program


@dataclass(frozen=True, eq=False)
class Reading:
    """A value of the run that holds all units of a group.

    Attributes:
        node: the name of the node whose value it is.
        dims: the dimensions of the value along which units are told apart, ascending.
        index: (n, k) positions of each unit along these dimensions, taken as one.
        readers: the weights that read the value; none where no weight reads it directly.
    """

    node: str
    dims: tuple[int, ...]
    index: Tensor
    readers: tuple[Binding, ...]

    def of(self, value: Tensor) -> Tensor:
        """The activations of each unit in `value`: (n units, k copies, other dimensions…).

        The first of the other dimensions counts the samples, in recurrent layers that are told
        so the steps.
        """
        front = tuple(range(len(self.dims)))
        lines = value.movedim(self.dims, front).flatten(0, len(front) - 1)
        index = self.index.to(value.device)
        return lines[index.reshape(-1)].reshape(*index.shape, *lines.shape[1:])


def readings(analysis: Analysis) -> dict[Group, tuple[Reading, ...]]:
    """For each group the values that weights read its units from.

    A group that no weight reads directly (queries of an attention, recurrent units) has the last
    value that holds them all.
    """
    places = _Places(analysis)
    found: dict[Group, list[Reading]] = {group: [] for group in analysis.groups}
    last: dict[Group, Reading] = {}
    for node in analysis.program.graph.nodes:
        value = analysis.walk.values.get(node)
        if node.op == "get_attr" or not isinstance(value, Value) or value.data is not None:
            continue
        readers = list(_readers(analysis, node))
        for group, dims, index in places.within(value):
            own = tuple(binding for reader, binding in readers if reader is group)
            last[group] = Reading(node.name, dims, index, own)
            if own:
                found[group].append(last[group])
    return {
        group: tuple(read) or ((last[group],) if group in last else ())
        for group, read in found.items()
    }


def observe(
    analysis: Analysis,
    samples: tuple[Tensor, ...],
    statistic: Callable[[Tensor], Tensor],
    memory: int | None = None,
) -> dict[Group, dict[Reading, Tensor]]:
    """Run the program on `samples` once and take `statistic` of every group's activations.

    Args:
        analysis: of the program.
        samples: one tensor per input, (samples, …).
        statistic: of activations (n units, k copies, samples, …), see `Reading.of`. Where there are
            more samples than fit into memory together, the mean over their parts.
        memory: see `intrafusion.batches.samples_at_a_time`.
    """
    watch = _Watch(analysis.program, statistic, readings(analysis))
    size = samples_at_a_time(analysis.program, analysis.walk, memory)
    with torch.no_grad():
        for part in in_parts(samples, size):
            watch.share = len(part[0]) / len(samples[0])
            watch.run(*part)
    return watch.seen


class _Watch(fx.Interpreter):
    """Takes the statistics as the run goes by, so that no activation outlives its readers.

    Attributes:
        share: of all samples that the next run is given.
        seen: the statistics, summed over the runs by their shares.
    """

    share = 1.0

    def __init__(
        self,
        program: Program,
        statistic: Callable[[Tensor], Tensor],
        where: Mapping[Group, tuple[Reading, ...]],
    ) -> None:
        super().__init__(program.network())
        self.statistic = statistic
        self.seen: dict[Group, dict[Reading, Tensor]] = {group: {} for group in where}
        self.due: dict[str, list[tuple[Group, Reading]]] = {}
        for group, own in where.items():
            for reading in own:
                self.due.setdefault(reading.node, []).append((group, reading))

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        for group, reading in self.due.get(n.name, ()):
            found = self.statistic(reading.of(value)) * self.share
            before = self.seen[group].get(reading)
            self.seen[group][reading] = found if before is None else before + found
        return value


class _Places:
    """Which unit of which group each atom belongs to."""

    def __init__(self, analysis: Analysis) -> None:
        self.groups = analysis.groups
        unit = analysis.units.unit
        group_of = np.full(unit.max() + 1, -1)
        place_of = np.zeros_like(group_of)
        for number, group in enumerate(analysis.groups):
            group_of[group.units.numpy()] = number
            place_of[group.units.numpy()] = np.arange(len(group))
        self.group, self.place = group_of[unit], place_of[unit]

    def within(self, value: Value) -> Iterator[tuple[Group, tuple[int, ...], Tensor]]:
        """The groups of which `value` holds all units, equally often, and where: (n, k)."""
        for plane in value.planes:
            atoms = plane.reshape(-1)
            groups, places = self.group[atoms], self.place[atoms]
            for number in np.unique(groups[groups >= 0]):
                group = self.groups[number]
                index = _positions(np.flatnonzero(groups == number), places, len(group))
                if index is not None:
                    yield group, varying(plane), torch.from_numpy(index)


def _positions(
    held: NDArray[np.int64], places: NDArray[np.int64], units: int
) -> NDArray[np.int64] | None:
    """The positions `held` as (units, k), or None if they do not hold every unit k times."""
    counts = np.bincount(places[held], minlength=units)
    if counts.min() != counts.max():
        return None
    return held[np.argsort(places[held], kind="stable")].reshape(units, -1)


def _readers(analysis: Analysis, node: fx.Node) -> Iterator[tuple[Group, Binding]]:
    """The weights that an operation on the value of `node` reads it with."""
    for user in node.users:
        for weight in user.all_input_nodes:
            if weight.op == "get_attr":
                tensor = analysis.program.tensors[str(weight.target)]
                for dim in range(tensor.dim()):
                    for group, binding in analysis.bindings.get((str(weight.target), dim), ()):
                        if binding.role is Role.CONSUMER:
                            yield group, binding
