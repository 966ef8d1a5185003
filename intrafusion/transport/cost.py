"""The ground cost: how far two units are from each other."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Literal

import torch
from torch import Tensor

from intrafusion.channels import Group
from intrafusion.channels.slices import unit_rows


def unit_vectors(group: Group, tensors: Mapping[str, Tensor], trainable: Set[str]) -> Tensor:
    """Each unit as one vector of length 1: (n, d).

    The concatenation of all the parameters that make, hold and read the unit (Theus et al.,
    ICLR 2024, §3.2), biases included. A unit of zeros stays a vector of zeros.
    """
    rows = [
        unit_rows(tensors[binding.tensor], binding)
        for binding in group.bindings
        if binding.tensor in trainable
    ]
    return torch.nn.functional.normalize(torch.cat(rows, 1).float(), dim=1, eps=1e-12)


def distances(x: Tensor, y: Tensor, p: Literal[1, 2]) -> Tensor:
    """‖x_j − y_k‖_p for all pairs: (n, d) and (m, d) to (n, m)."""
    return torch.cdist(x, y, p=float(p))
