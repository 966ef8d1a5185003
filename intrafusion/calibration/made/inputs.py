"""What is put into a network of which nothing is known: noise, random ids, or what it came with.

What people record changes slowly from place to place, so real numbers are a sum of layers of noise
from coarse to fine, each coarser one half as long per side. Integers that a table is addressed
with, such as tokens, may be any of its rows. Nobody can guess what other integers stand for, such
as masks and lengths: they stay as in the example inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, fx, nn

from intrafusion.program import Program
from intrafusion.program.nodes import arguments, name_of, tensor_name
from intrafusion.program.precision import is_real

LAYERS = 4
"""An image is a sum of this many layers, one as large as itself and the others each half as
large as the one before."""
START = 0.3
"""Standard deviation of every layer at first."""

_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}
"""How a layer is brought to the size of the input, by the input's rank."""
_LOOKUPS = frozenset({"embedding", "embedding_bag"})
_MOVES = frozenset(
    {"view", "reshape", "flatten", "unsqueeze", "squeeze", "expand", "repeat", "permute",
     "transpose", "slice", "select", "clone", "contiguous", "alias", "to", "_to_copy"}
)  # fmt: skip
"""Operations that put out what they read, in another order or form."""


class Input(Protocol):
    """A batch for one input of a program.

    Attributes:
        layers: what of it a search may change.
    """

    layers: Sequence[Tensor]

    def value(self) -> Tensor:
        """(count, …) as the program takes it."""


def drawn(program: Program, count: int, scale: float, seed: int) -> list[Input]:
    """`count` samples for every input of `program`; in real ones `scale` stands for 1."""
    generator = torch.Generator().manual_seed(seed)
    inputs: list[Input] = []
    for example, table in zip(program.example_inputs, looked_up(program), strict=True):
        if is_real(example):
            inputs.append(Layered(example, count, scale, generator))
        elif table is not None:
            inputs.append(Fixed(table.draw(example, count, generator)))
        else:
            inputs.append(Fixed(example[torch.arange(count) % len(example)]))
    return inputs


def has_real(program: Program) -> bool:
    """Whether `program` takes real numbers, which descent can change."""
    return any(is_real(x) for x in program.example_inputs)


def kept(program: Program) -> list[int]:
    """The positions of the inputs that `drawn` leaves as the example has them."""
    given = zip(program.example_inputs, looked_up(program), strict=True)
    return [i for i, (x, table) in enumerate(given) if not is_real(x) and table is None]


@dataclass(frozen=True)
class Table:
    """What an input of ids addresses: so many rows, some of which stand for padding."""

    rows: int
    padding: frozenset[int]

    def draw(self, example: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """(count, …) rows, each as likely as the others, like the `example` of an input."""
        rows = torch.tensor([row for row in range(self.rows) if row not in self.padding])
        chosen = torch.randint(len(rows), (count, *example.shape[1:]), generator=generator)
        return rows[chosen].to(example)


def looked_up(program: Program) -> list[Table | None]:
    """For every input what it addresses; None where it is looked up in nothing."""
    return [_table(program, node) for node in program.graph.find_nodes(op="placeholder")]


def _table(program: Program, placeholder: fx.Node) -> Table | None:
    """The shortest of the tables that an input is looked up in, and the padding of all of them."""
    heights, padding = [], set()
    for node in _lookups(placeholder):
        table = tensor_name(node, 0)
        if table is not None:
            heights.append(len(program.tensors[table]))
            if name_of(node) == "embedding" and len(arguments(node)) > 2:
                padding.add(int(arguments(node)[2]))
    if not heights or padding.issuperset(range(min(heights))):
        return None
    return Table(min(heights), frozenset(padding))


def _lookups(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes that look up in a table what `node` puts out, as it is."""
    for user in node.users:
        if name_of(user) in _LOOKUPS and arguments(user)[1] is node:
            yield user
        elif name_of(user) in _MOVES:
            yield from _lookups(user)


class Fixed:
    """A batch of inputs that no search changes."""

    def __init__(self, values: Tensor) -> None:
        self.layers: Sequence[Tensor] = ()
        self._values = values

    def value(self) -> Tensor:
        return self._values


class Layered:
    """A batch of inputs as a sum of layers, which are what a search changes.

    `scale` is what stands for 1 in the layers.
    """

    def __init__(
        self, example: Tensor, count: int, scale: float, generator: torch.Generator
    ) -> None:
        self._scale, self._size = scale, example.shape[2:]
        halvings = range(LAYERS if example.dim() in _MODES else 1)
        self._mode = _MODES.get(example.dim(), "")
        shapes = dict.fromkeys(
            (count, *example.shape[1:2], *(max(1, side >> halving) for side in self._size))
            for halving in halvings
        )
        self.layers: Sequence[Tensor] = [
            (torch.randn(shape, generator=generator) * START).to(example).requires_grad_()
            for shape in shapes
        ]

    def value(self) -> Tensor:
        total, *coarser = self.layers
        for layer in coarser:
            wide: Tensor = nn.functional.interpolate(layer, size=self._size, mode=self._mode)
            total = total + wide
        return total * self._scale
