"""The parameters of a group, seen unit by unit."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from intrafusion.channels.analysis import Binding


def unit_rows(tensor: Tensor, binding: Binding) -> Tensor:
    """What `tensor` holds for each unit of `binding`: (n units, k copies · other dimensions)."""
    return unit_copies(tensor, binding).flatten(1)


def unit_copies(tensor: Tensor, binding: Binding) -> Tensor:
    """The same, copy by copy: (n units, k copies, other dimensions of `tensor`).

    A view where the units stand in the order of their positions.
    """
    lines = tensor.movedim(binding.dim, 0)
    places = binding.index.reshape(-1)
    if not torch.equal(places, torch.arange(len(lines))):
        lines = lines[places.to(tensor.device)]
    return lines.reshape(*binding.index.shape, *lines.shape[1:])


def strips(tensor: Tensor, dim: int, numbers: int) -> Iterator[Tensor]:
    """Views that `tensor` is made up of, each as long along `dim`, of about so many numbers.

    Work on one after the other needs little memory, and finds what it made before in the cache.
    """
    if tensor.dim() == 1:
        yield tensor
        return
    other = 1 if dim == 0 else 0
    line = math.prod(size for d, size in enumerate(tensor.shape) if d != other)
    yield from torch.split(tensor, max(1, numbers // max(1, line)), dim=other)
