"""Importance by the scale that batch norm learned for a unit."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from intrafusion.channels import Group, Role
from intrafusion.importance.context import Context
from intrafusion.importance.norm import l1
from intrafusion.program.nodes import name_of, tensor_name


def bn_scale(group: Group, context: Context) -> Tensor:
    """Mean |γ| over the batch norms that a unit goes through: (n,) scores.

    The scale of Liu et al., Network Slimming, ICCV 2017. A group without batch norm is scored by
    `l1`.
    """
    scales = list(_scales(group, context))
    return torch.stack(scales).mean(0) if scales else l1(group, context)


def _scales(group: Group, context: Context) -> Iterator[Tensor]:
    """|γ| (n,) of every batch norm of the group, folded or not."""
    standing = {
        tensor_name(node, 1)
        for node in context.analysis.program.graph.nodes
        if node.op == "call_function" and name_of(node) == "batch_norm"
    }
    for binding in group.bindings:
        folded = binding.role is Role.PRODUCER and binding.tensor in context.moments
        if folded:
            gamma = context.moments[binding.tensor].spread
        elif binding.tensor in standing:
            gamma = context.tensors[binding.tensor].abs()
        else:
            continue
        yield gamma[binding.index.to(gamma.device)].mean(1)
