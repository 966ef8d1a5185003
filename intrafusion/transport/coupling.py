"""From the units of a group to the plan that says where each of them goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from intrafusion.spec import CompressionSpec
from intrafusion.transport import TARGETS
from intrafusion.transport.cost import distances, distances_within
from intrafusion.transport.masses import masses
from intrafusion.transport.plan import full_plan, survivor_plan
from intrafusion.transport.targets import Targets
from intrafusion.transport.units import Units


@dataclass(frozen=True)
class Coupling:
    """A transport of n units to m targets.

    Attributes:
        plan: (n, m) sparse, how much of each unit goes to each target, float64; it sums to 1.
        kept: (m,) the positions of the units in whose places the targets stand, ascending.
    """

    plan: Tensor
    kept: Tensor


def couple(units: Units, importance: Tensor, count: int, spec: CompressionSpec) -> Coupling:
    """Transport all units to `count` targets at least cost, as `spec` says.

    Args:
        units: n of them.
        importance: (n,) their scores.
        count: m.
        spec: target, masses, distance and seed are looked at.
    """
    targets: Targets = TARGETS.get(spec.target)(importance, units, count, spec.seed)
    kept = targets.kept.cpu()
    if targets.points is None and spec.source_mass == spec.target_mass == "uniform":
        others = torch.ones(len(units), dtype=torch.bool)
        others[kept] = False
        cost = distances_within(units, others.nonzero()[:, 0], kept, spec.distance)
        return Coupling(survivor_plan(cost.cpu().numpy(), kept.numpy(), len(units)), kept)
    vectors = units.vectors()
    points = vectors[targets.kept] if targets.points is None else targets.points
    source = masses(spec.source_mass, importance)
    target = masses(spec.target_mass, importance[targets.kept])
    cost = distances(vectors, points, spec.distance).double()
    return Coupling(full_plan(cost.cpu().numpy(), source.numpy(), target.numpy()), kept)
