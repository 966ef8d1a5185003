"""Without data: give fused channels back the spread that averaging took."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from intrafusion.channels import Analysis, Binding, Role
from intrafusion.channels.slices import unit_copies
from intrafusion.folding import Moments
from intrafusion.fusion import FusionMap, Maps, contraction_factor
from intrafusion.program.nodes import tensor_name


def restore_variance(
    analysis: Analysis,
    maps: Maps,
    tensors: Mapping[str, Tensor],
    moments: Mapping[str, Moments],
) -> dict[str, Tensor]:
    """`tensors` with every fused producer rescaled to the spread of the units it stands for.

    A mean of units whose outputs correlate with ρ has the variance Σ P_i P_k γ_i γ_k ρ_ik, less
    than theirs. ρ is estimated by the cosine between the units' weights and γ taken from the
    batch norm folded into the layer, as in the approximate repair of Wang et al. (Model Folding,
    ICLR 2025), which has equal γ and equal shares. The mean stays where it was.

    Args:
        analysis: of the program before fusion.
        maps: how each group was fused.
        tensors: the fused tensors, of their old shapes.
        moments: of each layer's output, by its weight; other layers are taken to have mean 0 and
            a spread in proportion to the length of their weights.
    """
    biases = {
        weight: bias
        for node in analysis.program.graph.nodes
        if (weight := tensor_name(node, 1)) and (bias := tensor_name(node, 2))
    }
    corrected = dict(tensors)
    for group, mapping in maps.items():
        for binding in group.of_role(Role.PRODUCER):
            original = analysis.program.tensors[binding.tensor]
            scale = _lost_spread(original, binding, mapping, moments.get(binding.tensor))
            _scale_lines(corrected, binding.tensor, binding.dim, binding, mapping, scale)
            bias = biases.get(binding.tensor)
            if bias is None:
                continue
            _scale_lines(corrected, bias, 0, binding, mapping, scale)
            if binding.tensor in moments:
                # Scaling is about the mean, which the bias just lost (scale − 1) times.
                mean = _fused_moments(moments[binding.tensor].mean, binding, mapping)
                places = binding.index[mapping.kept]
                line = corrected[bias].clone()
                line[places] += ((1 - scale) * mean).to(line)
                corrected[bias] = line
    return corrected


def _lost_spread(
    weight: Tensor, binding: Binding, mapping: FusionMap, moments: Moments | None
) -> Tensor:
    """(m, k): target spread over the spread after averaging, for each new unit and copy."""
    scales = []
    copies = unit_copies(weight, binding)
    producer = mapping.producer.to(weight)
    for copy in range(binding.index.shape[1]):
        rows = copies[:, copy].flatten(1)
        length = rows.norm(dim=1)
        spread = length if moments is None else moments.spread.to(rows)[binding.index[:, copy]]
        wanted = producer @ spread
        # Σ_ik s_i s_k ρ_ik is the squared length of the mixed directions, each as long as s_i.
        long = rows * (spread / length.clamp_min(1e-12))[:, None]
        left = (producer @ long).norm(dim=1)
        scales.append(torch.where(left > 1e-6 * wanted, wanted / left, torch.ones_like(left)))
    return torch.stack(scales, 1)


def _fused_moments(values: Tensor, binding: Binding, mapping: FusionMap) -> Tensor:
    per_unit = values.double()[binding.index]
    fused = mapping.producer.to(per_unit) @ per_unit
    return fused * contraction_factor(binding, mapping).to(fused)


def _scale_lines(
    tensors: dict[str, Tensor],
    name: str,
    dim: int,
    binding: Binding,
    mapping: FusionMap,
    scale: Tensor,
) -> None:
    lines = tensors[name].movedim(dim, 0).clone()
    places = binding.index[mapping.kept].reshape(-1)
    view = [-1] + [1] * (lines.dim() - 1)
    lines[places] *= scale.reshape(-1).to(lines).view(view)
    tensors[name] = lines.movedim(0, dim).contiguous()
