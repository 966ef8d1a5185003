"""Numbers of units that run fast."""

from __future__ import annotations

from intrafusion.channels import Analysis, Group
from intrafusion.program.nodes import arguments, name_of, tensor_name
from intrafusion.spec import CompressionSpec

DEPTHWISE = 16
"""Depthwise convolutions of other widths run several times slower on batches, on CPUs with
AVX-512 (benchmarks/results/rounding.md); no other layer cares."""
WIDE = 64
"""A group with fewer units would be off its budget by more than the speed is worth."""


def multiples(analysis: Analysis, spec: CompressionSpec) -> dict[Group, int]:
    """The number whose multiples the kept units of each group are.

    That is `round_to` of the spec; unless it is given, `DEPTHWISE` for wide groups that a
    depthwise convolution runs through, else 1.
    """
    if spec.round_to is not None:
        return dict.fromkeys(analysis.groups, spec.round_to)
    depthwise = _depthwise_weights(analysis)
    return {
        group: DEPTHWISE
        if len(group) >= WIDE and any(b.tensor in depthwise for b in group.bindings)
        else 1
        for group in analysis.groups
    }


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
