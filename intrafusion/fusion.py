"""From a transport plan to fused parameters.

A plan T (n, m) with masses μ (n,) and ν (m,) gives two maps (Singh & Jaggi, NeurIPS 2020, for
the first; the second is what makes fusing exact copies lossless):

    producer map P = diag(1/ν) Tᵀ   rows sum to 1: a new unit is a mean of old ones
    consumer map Q = diag(1/μ) T    rows sum to 1: what read an old unit reads the new ones that
                                    hold it, so a new unit's weights are a sum

A plan of least cost takes at most n + m − 1 ways, so the maps are sparse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from intrafusion.channels import Analysis, Binding, Group, Role
from intrafusion.channels.slices import unit_copies


@dataclass(frozen=True)
class FusionMap:
    """How n units of a group become m.

    Attributes:
        kept: (m,) positions of the units in whose place the new ones stand, ascending.
        producer: P (m, n) sparse, for parameters that make or hold the units.
        consumer: Q (n, m) sparse, for parameters that read them.
        standing_for: (m,) how many units a new one counts as where no parameter reads it but
            another activation, as in q·k.
    """

    kept: Tensor
    producer: Tensor
    consumer: Tensor
    standing_for: Tensor


def fusion_map(plan: Tensor, kept: Tensor, producers: Literal["mean", "keep"]) -> FusionMap:
    """The two maps of a plan (n, m) whose target k stands in the place of unit `kept[k]`.

    With `keep` the producer map selects the kept units instead of taking means.
    """
    consumer = _consumer(plan)
    if producers == "keep":
        producer = selection_map(kept, len(plan)).producer
    else:
        producer = _scaled(plan.T.to_sparse(), 1 / plan.sum(0))
    return FusionMap(kept, producer, consumer, torch.sparse.sum(consumer, 0).to_dense())


def selection_map(kept: Tensor, units: int) -> FusionMap:
    """The maps of plain pruning: the `kept` (m,) of so many units stay as they are."""
    ones = torch.ones(len(kept), dtype=torch.float64)
    places = torch.stack([torch.arange(len(kept)), kept])
    chosen = torch.sparse_coo_tensor(
        places, ones, (len(kept), units), is_coalesced=True, check_invariants=False
    )
    return FusionMap(kept, chosen, chosen.t().coalesce(), ones)


def published_map(plan: Tensor, kept: Tensor) -> FusionMap:
    """The one map of the published code: diag(1/μ) T on both sides, so that producers sum too.

    On exact duplicates its output comes out multiplied by n/m.
    """
    consumer = _consumer(plan)
    return FusionMap(kept, consumer.t().coalesce(), consumer, torch.ones(len(kept)))


def _consumer(plan: Tensor) -> Tensor:
    """diag(1/μ) T, sparse, of a plan T."""
    return _scaled(plan.to_sparse(), 1 / plan.sum(1))


def _scaled(rows: Tensor, scale: Tensor) -> Tensor:
    """Sparse `rows`, each times its `scale`."""
    places = rows.indices()
    return torch.sparse_coo_tensor(
        places,
        rows.values() * scale[places[0]],
        rows.shape,
        is_coalesced=True,
        check_invariants=False,
    )


Maps = Mapping[Group, FusionMap]


def fuse(analysis: Analysis, maps: Maps) -> dict[str, Tensor]:
    """The program's tensors, of their old shapes, with every new unit in the place of a kept one.

    What stands in the places of the other units no longer matters: `channels.remove` drops it.
    """
    tensors = dict(analysis.program.tensors)
    for group, mapping in maps.items():
        for binding in group.bindings:
            tensor = tensors[binding.tensor]
            if tensor.is_floating_point():
                tensors[binding.tensor] = fuse_dimension(tensor, binding, mapping)
    return tensors


def fuse_dimension(tensor: Tensor, binding: Binding, mapping: FusionMap) -> Tensor:
    """`tensor` with the units along one of its dimensions fused, in the places of the kept ones."""
    weights = mapping.consumer.t() if binding.role is Role.CONSUMER else mapping.producer
    copies = unit_copies(tensor, binding)
    mixed = weights.to(tensor) @ copies.flatten(1)
    mixed = mixed.reshape(len(mixed), *copies.shape[1:])
    factor = contraction_factor(binding, mapping).to(tensor)
    mixed *= factor.reshape(*factor.shape, *[1] * (mixed.dim() - 2))
    places = binding.index[mapping.kept].to(tensor.device).reshape(-1)
    lines = tensor.movedim(binding.dim, 0).clone()
    lines[places] = mixed.reshape(len(places), *lines.shape[1:])
    return lines.movedim(0, binding.dim).contiguous()


def contraction_factor(binding: Binding, mapping: FusionMap) -> Tensor:
    """√c (m, k) for each new unit and copy that is summed over against another activation.

    c units that are one unit now made c equal terms of q·k; √c on either side makes them one
    term of the same size. 1 everywhere else.
    """
    counted = binding.contracted[mapping.kept]
    factor = mapping.standing_for.to(torch.float64).sqrt()[:, None]
    return torch.where(counted, factor, 1.0)
