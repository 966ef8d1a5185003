"""How n units of a group become m: the methods that a spec may name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from intrafusion.channels import Binding, Group, Role
from intrafusion.fusion import FusionMap, fuse_dimension, fusion_map, published_map, selection_map
from intrafusion.importance.context import Context, Criterion
from intrafusion.spec import CompressionSpec, MethodName
from intrafusion.transport import TARGETS
from intrafusion.transport.coupling import Coupling, couple
from intrafusion.transport.targets import Targets
from intrafusion.transport.units import units_of

Producers = Literal["mean", "keep"]


@dataclass(frozen=True)
class Task:
    """What is to be done to the groups of a program.

    Attributes:
        context: the program, and what criteria may look at.
        counts: how many units each group keeps, for the groups that lose some.
        spec: the user's choices; its `producers` is not `auto`.
        criterion: that scores the units.
    """

    context: Context
    counts: Mapping[Group, int]
    spec: CompressionSpec
    criterion: Criterion


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        maps: gives the map of one group after the other.
        epsilon: whether the fold of batch norm keeps its ε.
        compensated: whether what reads the units is corrected unless the user says otherwise.
    """

    maps: Callable[[Task], Iterator[tuple[Group, FusionMap]]]
    epsilon: bool = True
    compensated: bool = True


def fused(task: Task) -> Iterator[tuple[Group, FusionMap]]:
    """A new unit is a mean of those transported to it, or as `producers` says; readers sum."""
    trainable = task.context.analysis.program.trainable
    for group in task.counts:
        coupling = _coupling(task, group, trainable)
        producers: Producers = "keep" if task.spec.producers == "keep" else "mean"
        yield group, fusion_map(coupling.plan, coupling.kept, producers)


def pruned(task: Task) -> Iterator[tuple[Group, FusionMap]]:
    """The units in whose places the targets stand stay as they are; the others go."""
    context, spec = task.context, task.spec
    for group, count in task.counts.items():
        units = units_of(group, context.tensors, context.analysis.program.trainable)
        importance = task.criterion(group, context).to(units.lengths)
        targets: Targets = TARGETS.get(spec.target)(importance, units, count, spec.seed)
        yield group, selection_map(targets.kept.cpu(), len(group))


def published(task: Task) -> Iterator[tuple[Group, FusionMap]]:
    """Intra-Fusion by the rules of its published code (Theus et al., ICLR 2024).

    Groups are fused from the output backwards, each as those before it left the weights. A unit
    is its producers' and consumers' weights without biases, its importance their plain mean, and
    one map sums on both sides.
    """
    analysis = task.context.analysis
    tensors = dict(analysis.program.tensors)
    for group in (group for group in analysis.from_output if group in task.counts):
        so_far = replace(analysis, program=replace(analysis.program, tensors=dict(tensors)))
        now = replace(task, context=replace(task.context, analysis=so_far, scaled=False))
        weights = {b.tensor for b in group.bindings if b.role is not Role.CARRIER}
        coupling = _coupling(now, group, weights)
        mapping = published_map(coupling.plan, coupling.kept)
        for binding in group.bindings:
            tensors[binding.tensor] = _fused_and_cleared(tensors[binding.tensor], binding, mapping)
        yield group, mapping


METHODS: Mapping[MethodName, Method] = {
    "intra-fusion": Method(fused),
    "intra-fusion-published": Method(published, epsilon=False, compensated=False),
    "prune": Method(pruned),
}


def _coupling(task: Task, group: Group, tensors: Set[str]) -> Coupling:
    """The transport of the units of `group`, as vectors of what `tensors` hold of them."""
    units = units_of(group, task.context.tensors, tensors)
    importance = task.criterion(group, task.context).to(units.lengths)
    return couple(units, importance, task.counts[group], task.spec)


def _fused_and_cleared(tensor: Tensor, binding: Binding, mapping: FusionMap) -> Tensor:
    """`tensor` fused along one dimension, with zeros where units went.

    What will be cut off must not count among the weights of the groups that follow.
    """
    if not tensor.is_floating_point():
        return tensor
    gone = torch.ones(len(binding.index), dtype=torch.bool)
    gone[mapping.kept] = False
    places = binding.index[gone].reshape(-1).to(tensor.device)
    return fuse_dimension(tensor, binding, mapping).index_fill_(binding.dim, places, 0)
