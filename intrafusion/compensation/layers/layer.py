"""What every kind of layer can do for a refit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.channels import Analysis, Removal, Role
from intrafusion.compensation.ridge import Rows, Solution, residual, solve
from intrafusion.compensation.rows import Picks
from intrafusion.fusion import Maps, fuse_dimension
from intrafusion.program.nodes import arguments, tensor_name

MAX_ROWS = 20_000
"""Positions that a layer is fitted on, over all samples."""

Values = Mapping[fx.Node, Any]


@dataclass(frozen=True)
class Sides:
    """The original and the compressed program, whose tensors change as layers are refitted."""

    analysis: Analysis
    removal: Removal
    maps: Maps
    tensors: dict[str, Tensor]

    @property
    def original(self) -> Mapping[str, Tensor]:
        return self.analysis.program.tensors

    def fused(self, rows: Tensor, tensor: str, dim: int) -> Tensor:
        """Rows (r, o) along the o channels that `dim` of `tensor` makes, as they are now: (r, o′).

        They are fused by the producer maps, and those that are gone are cut off.
        """
        for group, binding in self.analysis.bindings.get((tensor, dim), ()):
            if group in self.maps:
                along = replace(binding, dim=1, role=Role.PRODUCER)
                rows = fuse_dimension(rows, along, self.maps[group])
        return self.cut(rows, tensor, dim)

    def cut(self, rows: Tensor, tensor: str, dim: int) -> Tensor:
        """Rows (r, o) without the columns of channels that are gone from `dim` of `tensor`."""
        staying = self.removal.staying.get((tensor, dim))
        return rows if staying is None else rows.index_select(1, staying.to(rows.device))

    def loses(self, tensor: str, dim: int) -> bool:
        """Whether channels are gone from `dim` of `tensor`."""
        return (tensor, dim) in self.removal.staying


@dataclass(frozen=True)
class Place:
    """The original on one part of the samples, where a node of a layer has just run.

    Attributes:
        node: which of the layer's nodes it is.
        values: of the original, this node's included.
        skip: what the layer's output is added to, where the layer makes up for it too.
        share: of all samples that these are.
        generator: of the choice of positions.
    """

    node: fx.Node
    values: Values
    skip: fx.Node | None
    share: float
    generator: torch.Generator


@dataclass(frozen=True)
class Record:
    """What a layer looked at in the original, for one part of the samples.

    Attributes:
        rows: named tensors (rows, …); `wanted` of them is what the layer should put out.
        picks: the positions that `wanted` stands for.
        more: positions of the input that others stand for.
    """

    rows: dict[str, Tensor]
    picks: Picks
    more: Picks | None = None


@dataclass(frozen=True)
class Fit:
    """How well a layer fits: error relative to what was wanted, on samples seen and held out."""

    seen: float
    held_out: float | None


class Layer(ABC):
    """A node whose tensors can be refitted.

    `watch` and `read` look at one part of the samples, in the original and in the compressed
    program; `refit` is given what they saw of all parts, those held out last.
    """

    argument_positions: tuple[int, ...] = (1, 2)
    makes_up = False
    """Whether it also makes up for what is wrong with the other part of a sum it goes into."""

    def __init__(self, node: fx.Node) -> None:
        self.node = node

    @property
    def tensors(self) -> tuple[str | None, ...]:
        """Names of the layer's parameters and buffers; None: it has none in that place."""
        return tuple(tensor_name(self.node, position) for position in self.argument_positions)

    @property
    def source(self) -> fx.Node:
        """The node that it reads."""
        found: fx.Node = arguments(self.node)[0]
        return found

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """All nodes that it stands at."""
        return (self.node,)

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        """The nodes that it reads there."""
        return (self.source,)

    @property
    @abstractmethod
    def can_be_refitted(self) -> bool:
        """Whether it has tensors of its own to change."""

    def is_due(self, sides: Sides, *, reads_changed: bool) -> bool:
        """Whether a refit has something to make up for."""
        return reads_changed

    @abstractmethod
    def watch(self, sides: Sides, place: Place) -> Record:
        """What the original has here.

        Args:
            sides: the two programs.
            place: the original, where one of the layer's nodes has just run.
        """

    @abstractmethod
    def read(
        self, sides: Sides, values: Values, skip: fx.Node | None, record: Record
    ) -> dict[str, Tensor]:
        """What the compressed program has here, this layer's output not yet: more named rows.

        Asked once, at the node that is reached first.
        """

    @abstractmethod
    def refit(self, sides: Sides, rows: dict[str, Tensor], seen: int, ridge: float) -> Fit:
        """Write the tensors that fit best into `sides.tensors`.

        Args:
            sides: the two programs.
            rows: by name, of all parts, put together.
            seen: how many rows of the output come first and are fitted on; the others are held
                out.
            ridge: λ.
        """


def fit_rows(
    rows: Rows, seen: int, prior: Tensor, ridge: float, *, intercept: bool
) -> tuple[Solution, Fit]:
    """The solution on the first rows, and how it fits them and the others."""
    solution = solve(rows[:seen], prior, ridge, intercept=intercept)
    return solution, fit_of(solution, rows, seen)


def fit_of(solution: Solution, rows: Rows, seen: int) -> Fit:
    """How `solution` fits the first rows, and the others if there are any."""
    first, rest = rows[:seen], rows[seen:]
    return Fit(residual(first, solution), residual(rest, solution) if len(rest) else None)


def rows_of(share: float, total: int = MAX_ROWS) -> int:
    """How many rows a part of that share of the samples may give."""
    return max(1, round(total * share))


def put_together(records: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The rows of all parts, name by name."""
    if len(records) == 1:
        return records[0]
    return {name: torch.cat([rows[name] for rows in records]) for name in records[0]}
