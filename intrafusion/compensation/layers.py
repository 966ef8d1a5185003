"""What a refit sees of a layer: the rows it reads, the rows it puts out, where it is flat."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx

from intrafusion.program.nodes import arguments, name_of, tensor_name


@dataclass(frozen=True)
class Layer:
    """A node that can be refitted.

    Attributes:
        node: in the original graph.
        kind: `dense` (a full matrix over channels and taps), `depthwise` (taps per channel) or
            `norm` (a scale and a shift per channel).
        tensors: names of its weight and bias, and of a norm's mean and variance; None: it has none.
        channel_dim: the dimension of the output that holds its channels; those are made by
            dimension 0 of the weight.
    """

    node: fx.Node
    kind: Literal["dense", "depthwise", "norm"]
    tensors: tuple[str | None, ...]
    channel_dim: int

    @property
    def weight(self) -> str:
        name = self.tensors[0]
        assert name is not None
        return name

    @property
    def bias(self) -> str | None:
        return self.tensors[1]


def layer_of(node: fx.Node, uses: Counter[str]) -> Layer | None:
    """The refittable layer at `node`; None: another operation, or weights used elsewhere too."""
    if node.op != "call_function":
        return None
    name = name_of(node)
    count = 4 if name == "batch_norm" else 2
    tensors = tuple(tensor_name(node, position) for position in range(1, 1 + count))
    own = [tensor for tensor in tensors if tensor is not None]
    if tensors[0] is None or any(uses[tensor] > 1 for tensor in own):
        return None
    if name == "linear":
        return Layer(node, "dense", tensors, -1)
    if name == "batch_norm":
        return Layer(node, "norm", tensors, 1) if len(own) == count else None
    if name == "convolution" and not arguments(node)[6]:
        return Layer(node, "dense" if arguments(node)[8] == 1 else "depthwise", tensors, 1)
    return None


def flat_parts(node: fx.Node) -> tuple[float | None, float | None]:
    """Where the one nonlinearity that reads `node` is flat: below the first, above the second."""
    users = list(node.users)
    if len(users) == 1 and name_of(users[0]) == "relu":
        return 0.0, None
    if len(users) == 1 and name_of(users[0]) == "hardtanh":
        limits = [*arguments(users[0])[1:3], *[-1.0, 1.0][len(users[0].args) - 1 :]]
        return float(limits[0]), float(limits[1])
    return None, None


@dataclass(frozen=True)
class Picks:
    """Which positions of an output are looked at.

    Attributes:
        flat: (rows,) positions, counted over samples and places.
        shape: of the output without its channels.
    """

    flat: Tensor
    shape: tuple[int, ...]

    @property
    def sample(self) -> Tensor:
        """The sample (rows,) each row belongs to."""
        return self.flat // math.prod(self.shape[1:])


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
    index = torch.unravel_index(picks.flat.to(value.device), picks.shape)
    return value.movedim(channel_dim, -1)[index]


def input_rows(layer: Layer, value: Tensor, taps: Sequence[int], picks: Picks) -> Tensor:
    """What `layer` reads of its input `value` for the picked outputs: (rows, channels, taps…).

    `taps` is the kernel's size along each spatial dimension; linear layers and norms have none.
    """
    if name_of(layer.node) != "convolution":
        return output_rows(value, layer.channel_dim, picks)
    stride, padding, dilation = arguments(layer.node)[3:6]
    widths = [width for width in reversed(padding) for _ in range(2)]
    windows = torch.nn.functional.pad(value, widths)
    for d, tap in enumerate(taps):
        reach = (tap - 1) * dilation[d] + 1
        windows = windows.unfold(2 + d, reach, stride[d])[..., :: dilation[d]]
    index = torch.unravel_index(picks.flat.to(value.device), picks.shape)
    return windows.movedim(1, len(taps) + 1)[index]
