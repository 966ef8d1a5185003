"""Doing to programs what tests need done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.zoo.reference import zeroed_tensors
from intrafusion import Program, load
from intrafusion.channels import Analysis, Group, remove
from intrafusion.fusion import fuse, fusion_map
from tests.networks import INPUT_SHAPE, NETWORKS

FORMS = ("module", "traced", "scripted")


def example(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, *INPUT_SHAPE, generator=torch.Generator().manual_seed(seed))


def trained_looking(network: nn.Module) -> nn.Module:
    """`network` in evaluation, with batch-norm statistics that a training could have left."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    return network.eval()


@cache
def program_of(name: str, form: str = "module") -> Program:
    torch.manual_seed(0)
    network = trained_looking(NETWORKS[name]())
    source: nn.Module = network
    if form == "traced":
        source = torch.jit.trace(network, example())
    elif form == "scripted":
        source = torch.jit.script(network)
    return load(source, example_inputs=(example(),))


def halves(analysis: Analysis, seed: int = 0) -> dict[Group, Tensor]:
    """For every group a random half of its units to keep."""
    generator = torch.Generator().manual_seed(seed)
    return {
        group: torch.randperm(len(group), generator=generator)[: (len(group) + 1) // 2]
        .sort()
        .values
        for group in analysis.groups
        if len(group) > 1
    }


def zeroed(analysis: Analysis, kept: Mapping[Group, Tensor]) -> Program:
    """The program with everything that makes, holds or reads a unit that is not kept set to 0."""
    return replace(analysis.program, tensors=zeroed_tensors(analysis.program, kept))


def copies(group: Group) -> Tensor:
    """Which unit (n,) each unit of a group is a copy of: of one in the first half, or of the first
    where the number of units is odd.
    """
    count = len(group)
    return torch.arange(count) % (count // 2 if count % 2 == 0 else 1)


def duplicated(analysis: Analysis) -> Program:
    """The program with the units of every group made `copies`."""
    tensors = {name: tensor.clone() for name, tensor in analysis.program.tensors.items()}
    for group in analysis.groups:
        for binding in group.bindings:
            lines = tensors[binding.tensor].movedim(binding.dim, 0)
            lines[binding.index] = lines[binding.index[copies(group)]]
    return replace(analysis.program, tensors=tensors)


def without_copies(analysis: Analysis, producers: Literal["mean", "keep"] = "mean") -> Program:
    """A `duplicated` program with all copies of a unit fused into one."""
    maps = {}
    for group in analysis.groups:
        plan = torch.nn.functional.one_hot(copies(group)).double() / len(group)
        maps[group] = fusion_map(plan.to_sparse(), torch.arange(plan.shape[1]), producers)
    kept = {group: mapping.kept for group, mapping in maps.items()}
    return remove(analysis, kept, fuse(analysis, maps)).program


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())
