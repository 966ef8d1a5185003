"""Importance by lot: the baseline that every other criterion must beat."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from intrafusion.channels import Group
from intrafusion.importance.context import Context


def random(group: Group, context: Context) -> Tensor:
    """Scores (n,) drawn evenly from [0, 1): the same for the same seed and group name."""
    generator = torch.Generator().manual_seed(context.seed + zlib.crc32(group.name.encode()))
    return torch.rand(len(group), generator=generator)
