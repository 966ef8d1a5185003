"""Without data: give fused channels back the spread that averaging took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from intrafusion.channels import Analysis, Binding, Role
from intrafusion.channels.slices import strips, unit_copies
from intrafusion.folding import Moments
from intrafusion.fusion import STRIP, FusionMap, Maps, Stretch, contraction_factor
from intrafusion.program.nodes import tensor_name


def restored_spread(
    analysis: Analysis, maps: Maps, moments: Mapping[str, Moments]
) -> dict[str, list[Stretch]]:
    """By tensor, what gives every fused producer the spread of the units that it stands for.

    A mean of units whose outputs correlate with ρ has the variance Σ P_i P_k γ_i γ_k ρ_ik, less
    than theirs. ρ is estimated by the cosine between the units' weights and γ taken from the
    batch norm folded into the layer, as in the approximate repair of Wang et al. (Model Folding,
    ICLR 2025), which has equal γ and equal shares. The mean stays where it was.

    Args:
        analysis: of the program before fusion.
        maps: how each group was fused.
        moments: of each layer's output, by its weight; other layers are taken to have mean 0 and
            a spread in proportion to the length of their weights.
    """
    biases = {
        weight: bias
        for node in analysis.program.graph.nodes
        if (weight := tensor_name(node, 1)) and (bias := tensor_name(node, 2))
    }
    found: dict[str, list[Stretch]] = {}
    for group, mapping in maps.items():
        for binding in group.of_role(Role.PRODUCER):
            weight, own = binding.tensor, moments.get(binding.tensor)
            scale = _lost_spread(analysis.program.tensors[weight], binding, mapping, own)
            shift = torch.zeros_like(scale)
            places = binding.index[mapping.kept].reshape(-1)
            found.setdefault(weight, []).append(
                Stretch(binding.dim, places, scale.reshape(-1), shift.reshape(-1))
            )
            if (bias := biases.get(weight)) is not None:
                if own is not None:
                    # Scaling is about the mean, which the bias loses (scale − 1) times.
                    shift = (1 - scale) * _fused_moments(own.mean, binding, mapping)
                found.setdefault(bias, []).append(
                    Stretch(0, places, scale.reshape(-1), shift.reshape(-1))
                )
    return found


def _lost_spread(
    weight: Tensor, binding: Binding, mapping: FusionMap, moments: Moments | None
) -> Tensor:
    """(m, k): target spread over the spread after averaging, for each new unit and copy."""
    producer = mapping.producer.to(weight.device)
    length = torch.zeros(binding.index.shape, dtype=torch.float64, device=weight.device)
    for rows in _rows(weight, binding):
        length += rows.square().sum(2)
    length.sqrt_()
    spread = length if moments is None else moments.spread.to(length)[binding.index]
    wanted = producer @ spread
    # Σ_ik s_i s_k ρ_ik is the squared length of the mixed directions, each as long as s_i.
    stretch = spread / length.clamp_min(1e-12)
    mixings = [(producer * each).to(weight) for each in stretch.T]
    left = torch.zeros_like(wanted)
    for rows in _rows(weight, binding):
        for copy, mixing in enumerate(mixings):
            left[:, copy] += (mixing @ rows[:, copy]).square().sum(1)
    left = left.sqrt()
    return torch.where(left > 1e-6 * wanted, wanted / left, torch.ones_like(left))


def _rows(weight: Tensor, binding: Binding) -> Iterator[Tensor]:
    """What `weight` holds for each unit, copy by copy: (n, k, …), some columns at a time."""
    for strip in strips(weight, binding.dim, STRIP):
        yield unit_copies(strip, binding).reshape(*binding.index.shape, -1)


def _fused_moments(values: Tensor, binding: Binding, mapping: FusionMap) -> Tensor:
    per_unit = values.double()[binding.index]
    fused = mapping.producer.to(per_unit) @ per_unit
    return fused * contraction_factor(binding, mapping).to(fused)
