"""Numbers of units that run fast."""

from __future__ import annotations

from collections.abc import Mapping

from intrafusion.channels import Analysis, Group
from intrafusion.program.nodes import arguments, name_of, tensor_name
from intrafusion.spec import CompressionSpec

DEPTHWISE = 16
"""Depthwise convolutions of other widths run several times slower on batches, on CPUs with
AVX-512 (benchmarks/results/rounding.md); no other layer cares."""
ALIGNED: Mapping[str, int] = {"cuda": 8}
"""Widths by kind of device that every layer should keep to. The tensor cores of a GPU take 16
bytes of each channel line at a time: 8 numbers in half precision, 4 in float32 as TF32 (NVIDIA,
Matrix Multiplication Background and Convolutional Layers user's guides). What was compressed in
one precision may run in the other, so it is the larger of the two."""
WIDE = 64
"""A group with fewer units would be off its budget by more than the speed is worth."""


def multiples(analysis: Analysis, spec: CompressionSpec) -> dict[Group, int]:
    """The number whose multiples the kept units of each group are.

    That is `round_to` of the spec. Unless it is given, it is for wide groups `DEPTHWISE` where a
    depthwise convolution runs through them and else what is `ALIGNED` on the program's device; 1
    for all others.
    """
    if spec.round_to is not None:
        return dict.fromkeys(analysis.groups, spec.round_to)
    depthwise = _depthwise_weights(analysis)
    aligned = ALIGNED.get(analysis.program.device.type, 1)

    def multiple(group: Group) -> int:
        if len(group) < WIDE:
            return 1
        return DEPTHWISE if any(b.tensor in depthwise for b in group.bindings) else aligned

    return {group: multiple(group) for group in analysis.groups}


def _depthwise_weights(analysis: Analysis) -> set[str]:
    found = set()
    for node in analysis.program.graph.nodes:
        if node.op == "call_function" and name_of(node) == "convolution":
            weight = tensor_name(node, 1)
            if weight is None or arguments(node)[8] == 1:
                continue
            if analysis.program.tensors[weight].shape[1] == 1:
                found.add(weight)
    return found
