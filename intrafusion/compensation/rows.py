"""Which positions of a layer's output a refit looks at, and what stands there and is read there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Picks:
    """Which positions of an output are looked at.

    Attributes:
        flat: (rows,) positions, counted over samples and places.
        shape: of the output without its channels.
    """

    flat: Tensor
    shape: tuple[int, ...]

    def coordinates(self, device: torch.device) -> tuple[Tensor, ...]:
        """The position of each row along each dimension of `shape`: (rows,) each."""
        return torch.unravel_index(self.flat.to(device), self.shape)


def pick(shape: Sequence[int], channel_dim: int, rows: int, generator: torch.Generator) -> Picks:
    """At most `rows` positions of an output of `shape`, evenly at random, in ascending order."""
    places = tuple(size for d, size in enumerate(shape) if d != channel_dim % len(shape))
    total = math.prod(places)
    flat = torch.arange(total)
    if total > rows:
        flat = torch.randperm(total, generator=generator)[:rows].sort().values
    return Picks(flat, places)


def output_rows(value: Tensor, channel_dim: int, picks: Picks) -> Tensor:
    """The channels of `value` at the picked positions: (rows, channels)."""
    return value.movedim(channel_dim, -1)[picks.coordinates(value.device)]


@dataclass(frozen=True)
class Window:
    """How a convolution moves over its input, along each spatial dimension.

    A plain one reads place stride·p − padding + dilation·t for output p and tap t; a transposed
    one reads place (p + padding − dilation·t) / stride where that is whole, and elsewhere nothing.
    """

    taps: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool

    @classmethod
    def of(cls, arguments: Sequence[Any], taps: Sequence[int]) -> Window:
        """The window of a node `convolution` with these arguments."""
        stride, padding, dilation = (tuple(given) for given in arguments[3:6])
        return cls(tuple(taps), stride, padding, dilation, bool(arguments[6]))


def window_rows(value: Tensor, window: Window, picks: Picks) -> Tensor:
    """What a convolution reads of `value` (samples, channels, …): (rows, channels, taps).

    Taps of all spatial dimensions are counted as one; where one lies outside, it reads zero.
    """
    sample, *place = picks.coordinates(value.device)
    sizes = value.shape[2:]
    inside = torch.ones(len(sample), *window.taps, dtype=torch.bool, device=value.device)
    index = [sample.reshape(-1, *[1] * len(sizes))]
    for d, (at, taps) in enumerate(zip(place, window.taps, strict=True)):
        tap = torch.arange(taps, device=value.device) * window.dilation[d]
        if window.transposed:
            reach = at[:, None] + window.padding[d] - tap
            valid = reach % window.stride[d] == 0
            reach = reach.div(window.stride[d], rounding_mode="floor")
        else:
            reach = at[:, None] * window.stride[d] - window.padding[d] + tap
            valid = torch.ones_like(reach, dtype=torch.bool)
        valid &= (reach >= 0) & (reach < sizes[d])
        shape = [-1, *[1] * d, taps, *[1] * (len(sizes) - 1 - d)]
        inside &= valid.reshape(shape)
        index.append(reach.clamp(0, sizes[d] - 1).reshape(shape))
    read = value.movedim(1, -1)[tuple(index)] * inside.unsqueeze(-1)
    return read.movedim(-1, 1).flatten(2)
