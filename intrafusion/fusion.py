"""From a transport plan to fused parameters.

A plan T (n, m) with masses μ (n,) and ν (m,) gives two maps (Singh & Jaggi, NeurIPS 2020, for
the first; the second is what makes fusing exact copies lossless):

    producer map P = diag(1/ν) Tᵀ   rows sum to 1: a new unit is a mean of old ones
    consumer map Q = diag(1/μ) T    rows sum to 1: what read an old unit reads the new ones that
                                    hold it, so a new unit's weights are a sum

A plan of least cost takes at most n + m − 1 ways, so the maps are sparse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from intrafusion.channels import Analysis, Binding, Group, Role
from intrafusion.channels.slices import strips, unit_copies

STRIP = 1 << 21
"""About so many numbers of a parameter are worked on at a time."""


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
    """The two maps of a sparse plan (n, m) whose target k stands in the place of unit `kept[k]`.

    With `keep` the producer map selects the kept units instead of taking means.
    """
    consumer = _consumer(plan)
    if producers == "keep":
        producer = selection_map(kept, plan.shape[0]).producer
    else:
        producer = _scaled(plan.t().coalesce(), 1 / torch.sparse.sum(plan, 0).to_dense())
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

    T is sparse. On exact duplicates its output comes out multiplied by n/m.
    """
    consumer = _consumer(plan)
    return FusionMap(kept, consumer.t().coalesce(), consumer, torch.ones(len(kept)))


def _consumer(plan: Tensor) -> Tensor:
    """diag(1/μ) T of a sparse plan T."""
    return _scaled(plan, 1 / torch.sparse.sum(plan, 1).to_dense())


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


@dataclass(frozen=True)
class Stretch:
    """A correction of a fused tensor: some of its lines times a scale, plus a shift.

    Attributes:
        dim: the dimension that the lines stand along.
        places: (l,) their positions.
        scale: (l,) what they are multiplied by.
        shift: (l,) what is added to them after that.
    """

    dim: int
    places: Tensor
    scale: Tensor
    shift: Tensor

    def apply_(self, tensor: Tensor) -> None:
        """Correct `tensor` in place."""
        scale = tensor.new_ones(tensor.shape[self.dim])
        scale[self.places.to(scale.device)] = self.scale.to(scale)
        shift = tensor.new_zeros(tensor.shape[self.dim])
        shift[self.places.to(shift.device)] = self.shift.to(shift)
        view = [-1, *[1] * (tensor.dim() - 1)]
        tensor.movedim(self.dim, 0).mul_(scale.view(view)).add_(shift.view(view))


def fuse(
    analysis: Analysis, maps: Maps, stretches: Mapping[str, Sequence[Stretch]] | None = None
) -> Mapping[str, Tensor]:
    """The program's tensors, of their old shapes, with every new unit in the place of a kept one.

    What stands in the places of the other units no longer matters: `channels.remove` drops it.
    Each tensor is made when it is asked for: all of them together are as large as the network.

    Args:
        analysis: of the program.
        maps: how groups are fused; what is not named stays as it is.
        stretches: by tensor, what is corrected in it after that.
    """
    bound: dict[str, list[tuple[Binding, FusionMap]]] = {}
    for group, mapping in maps.items():
        for binding in group.bindings:
            bound.setdefault(binding.tensor, []).append((binding, mapping))
    return _Fused(analysis.program.tensors, bound, stretches or {})


@dataclass(frozen=True, eq=False)
class _Fused(Mapping[str, Tensor]):
    """See `fuse`."""

    before: Mapping[str, Tensor]
    bound: Mapping[str, Sequence[tuple[Binding, FusionMap]]]
    stretches: Mapping[str, Sequence[Stretch]]

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.before[name]
        if name not in self.bound or not tensor.is_floating_point():
            return tensor
        tensor = _copy(tensor)
        for binding, mapping in self.bound[name]:
            _fuse_in_place(tensor, binding, mapping)
        for stretch in self.stretches.get(name, ()):
            stretch.apply_(tensor)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.before)

    def __len__(self) -> int:
        return len(self.before)


def fuse_dimension(tensor: Tensor, binding: Binding, mapping: FusionMap) -> Tensor:
    """`tensor` with the units along one of its dimensions fused, in the places of the kept ones."""
    fused = _copy(tensor)
    _fuse_in_place(fused, binding, mapping)
    return fused


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _fuse_in_place(tensor: Tensor, binding: Binding, mapping: FusionMap) -> None:
    weights = mapping.consumer.t() if binding.role is Role.CONSUMER else mapping.producer
    weights, factor = weights.to(tensor), contraction_factor(binding, mapping).to(tensor)
    places = binding.index[mapping.kept].to(tensor.device).reshape(-1)
    for strip in strips(tensor, binding.dim, STRIP):
        copies = unit_copies(strip, binding)
        mixed = (weights @ copies.flatten(1)).reshape(-1, *copies.shape[1:])
        mixed *= factor.reshape(*factor.shape, *[1] * (mixed.dim() - 2))
        lines = strip.movedim(binding.dim, 0)
        lines[places] = mixed.reshape(len(places), *lines.shape[1:])


def contraction_factor(binding: Binding, mapping: FusionMap) -> Tensor:
    """√c (m, k) for each new unit and copy that is summed over against another activation.

    c units that are one unit now made c equal terms of q·k; √c on either side makes them one
    term of the same size. 1 everywhere else.
    """
    counted = binding.contracted[mapping.kept]
    factor = mapping.standing_for.to(torch.float64).sqrt()[:, None]
    return torch.where(counted, factor, 1.0)
