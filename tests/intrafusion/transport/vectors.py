"""Units that are given as vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from intrafusion.channels import Binding, Role
from intrafusion.transport.units import Units


def units_of_vectors(vectors: Tensor) -> Units:
    """Units whose parameters are the rows of `vectors` (n, d)."""
    index = torch.arange(len(vectors))[:, None]
    binding = Binding("weight", 0, Role.PRODUCER, index, torch.zeros_like(index, dtype=torch.bool))
    return Units.in_parameters([(vectors, binding)])
