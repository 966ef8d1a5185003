"""From the units of a group to the plan that says where each of them goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from intrafusion.spec import CompressionSpec
from intrafusion.transport import TARGETS
from intrafusion.transport.cost import distances
from intrafusion.transport.masses import masses
from intrafusion.transport.plan import full_plan, survivor_plan
from intrafusion.transport.targets import Targets


@dataclass(frozen=True)
class Coupling:
    """A transport of n units to m targets.

    Attributes:
        plan: (n, m) how much of each unit goes to each target, float64; all of it sums to 1.
        kept: (m,) the positions of the units in whose places the targets stand, ascending.
    """

    plan: Tensor
    kept: Tensor


def couple(vectors: Tensor, importance: Tensor, count: int, spec: CompressionSpec) -> Coupling:
    """Transport all units to `count` targets at least cost, as `spec` says.

    Args:
        vectors: (n, d) the units as vectors of length 1.
        importance: (n,) their scores.
        count: m.
        spec: target, masses, distance and seed are looked at.
    """
    targets: Targets = TARGETS.get(spec.target)(importance, vectors, count, spec.seed)
    kept = targets.kept.cpu()
    if targets.are_units and spec.source_mass == spec.target_mass == "uniform":
        others = torch.ones(len(vectors), dtype=torch.bool)
        others[kept] = False
        cost = distances(vectors[others], targets.points, spec.distance)
        plan = survivor_plan(cost.double().cpu().numpy(), kept.numpy(), len(vectors))
    else:
        source = masses(spec.source_mass, importance)
        target = masses(spec.target_mass, importance[targets.kept])
        cost = distances(vectors, targets.points, spec.distance)
        plan = full_plan(cost.double().cpu().numpy(), source.numpy(), target.numpy())
    return Coupling(torch.from_numpy(plan), kept)
