"""Norms that could not be folded: a scale and a shift per channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from intrafusion.compensation.layers.flat import flat_parts
from intrafusion.compensation.layers.layer import (
    Fit,
    Layer,
    Place,
    Record,
    Sides,
    Values,
    fit_rows,
    rows_of,
)
from intrafusion.compensation.ridge import Rows
from intrafusion.compensation.rows import output_rows, pick
from intrafusion.program.nodes import arguments, name_of


class Norm(Layer):
    """γ (x − μ) / σ + β.

    A batch norm's μ and σ are numbers of its own and are estimated anew. Those of a layer or
    group norm come from the sample and have changed with the channels that are gone; γ and β are
    fitted on what they give now.
    """

    def __init__(self, node: fx.Node) -> None:
        super().__init__(node)
        self.has_statistics = name_of(node) == "batch_norm"
        self.argument_positions = (1, 2, 3, 4) if self.has_statistics else (2, 3)
        self.channel_dim = -1 if name_of(node) == "layer_norm" else 1

    @property
    def can_be_refitted(self) -> bool:
        one_wide = name_of(self.node) != "layer_norm" or len(arguments(self.node)[1]) == 1
        return one_wide and all(tensor is not None for tensor in self.tensors)

    def watch(self, sides: Sides, place: Place) -> Record:
        value: Tensor = place.values[self.node]
        picks = pick(value.shape, self.channel_dim, rows_of(place.share), place.generator)
        wanted = output_rows(value, self.channel_dim, picks)
        return Record({"wanted": sides.fused(wanted, str(self.tensors[0]), 0)}, picks)

    def read(
        self, sides: Sides, values: Values, skip: fx.Node | None, record: Record
    ) -> dict[str, Tensor]:
        twins = sides.removal.twins
        value = self._normalised(arguments(twins[self.node]), values[twins[self.source]])
        return {"read": output_rows(value, self.channel_dim, record.picks)[:, :, None]}

    def _normalised(self, given: tuple[Any, ...], value: Tensor) -> Tensor:
        """`value` as γ finds it; a batch norm's is left as it is."""
        if self.has_statistics:
            return value
        if name_of(self.node) == "layer_norm":
            return functional.layer_norm(value, given[1], None, None, *given[4:5])
        return functional.group_norm(value, given[1], None, None, *given[4:5])

    def refit(self, sides: Sides, rows: dict[str, Tensor], seen: int, ridge: float) -> Fit:
        fitted = Rows(rows["read"], rows["wanted"], None, *flat_parts(self.node))
        tensors = [sides.tensors[str(name)] for name in self.tensors]
        scale, epsilon = tensors[0], arguments(self.node)[7] if self.has_statistics else None
        if epsilon is not None:
            scale = scale / torch.sqrt(tensors[3] + epsilon)
        solution, fit = fit_rows(fitted, seen, scale[:, None, None], ridge, intercept=True)
        assert solution.bias is not None
        values = [solution.weight.flatten(), solution.bias]
        if epsilon is not None:
            read = rows["read"][:seen, :, 0].double()
            mean, variance = read.mean(0), read.var(0, correction=0)
            fitted_scale = values[0].double()
            gamma = fitted_scale * torch.sqrt(variance + epsilon)
            values = [gamma, solution.bias + fitted_scale * mean, mean, variance]
        for name, old, new in zip(self.tensors, tensors, values, strict=True):
            sides.tensors[str(name)] = new.to(old)
        return fit
