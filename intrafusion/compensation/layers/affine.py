"""Linear layers and convolutions of every kind: plain, grouped, depthwise, transposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx

from intrafusion.channels import Role
from intrafusion.compensation.layers.flat import flat_parts
from intrafusion.compensation.layers.layer import (
    MAX_ROWS,
    Fit,
    Layer,
    Place,
    Record,
    Sides,
    Values,
    fit_of,
    fit_rows,
    rows_of,
)
from intrafusion.compensation.ridge import Rows, Solution, solve
from intrafusion.compensation.rows import Window, output_rows, pick, window_rows
from intrafusion.fusion import fuse_dimension
from intrafusion.program.nodes import arguments, name_of

WIDE = 2_000
"""Above this many inputs (channels × taps) one matrix over channels serves all taps."""


class Affine(Layer):
    """W x + b, with one set of inputs for every group of outputs."""

    makes_up = True

    def __init__(self, node: fx.Node) -> None:
        """`readers` and `keeps_bias` are for those with one weight in several places."""
        super().__init__(node)
        self.readers: Sequence[fx.Node] = self.nodes
        self.keeps_bias = False
        self.convolves = name_of(node) == "convolution"
        self.channel_dim = 1 if self.convolves else -1
        self.groups: int = arguments(node)[8] if self.convolves else 1
        self.transposed = self.convolves and bool(arguments(node)[6])
        self.out_dim, self.in_dim = (1, 0) if self.transposed else (0, 1)

    @property
    def can_be_refitted(self) -> bool:
        return self.tensors[0] is not None

    @property
    def weight(self) -> str:
        return str(self.tensors[0])

    @property
    def bias(self) -> str | None:
        return self.tensors[1]

    def matrix(self, weight: Tensor, groups: int) -> Tensor:
        """The weight as (groups, outputs, inputs · taps)."""
        if self.transposed:
            # (inputs, outputs of one group, taps): the inputs of a group stand together.
            by_group = weight.reshape(groups, -1, *weight.shape[1:])
            return by_group.transpose(1, 2).reshape(groups, weight.shape[1], -1)
        return weight.reshape(groups, weight.shape[0] // groups, -1)

    def tensor(self, matrix: Tensor, like: Tensor) -> Tensor:
        """Undoes `matrix`."""
        if self.transposed:
            by_group = matrix.reshape(*matrix.shape[:2], -1, *like.shape[2:])
            return by_group.transpose(1, 2).reshape(like.shape).contiguous().to(like)
        return matrix.reshape(like.shape).to(like)

    def is_wide(self, sides: Sides) -> bool:
        """Whether all taps share one matrix over channels."""
        weight = sides.tensors[self.weight]
        inputs = weight[0].numel() if not self.transposed else weight[:, 0].numel()
        return self.groups == 1 and weight.dim() > 2 and weight[0, 0].numel() > 1 and inputs > WIDE

    def wanted(self, sides: Sides, rows: Tensor) -> Tensor:
        """Rows (r, o) of the original's output, mapped to the outputs that are left: (r, o′)."""
        if not self.transposed or self.groups == 1:
            return sides.fused(rows, self.weight, self.out_dim)
        weight = sides.original[self.weight]
        if self.groups == weight.shape[0] and weight.shape[1] == 1:
            # Depthwise: the outputs are the inputs' channels.
            return sides.fused(rows, self.weight, self.in_dim)
        # Every group has the same outputs, and the weight tells those of one.
        by_group = rows.reshape(-1, weight.shape[1])
        return sides.fused(by_group, self.weight, self.out_dim).reshape(len(rows), -1)

    def watch(self, sides: Sides, place: Place) -> Record:
        value: Tensor = place.values[self.node]
        wide = self.is_wide(sides)
        count = rows_of(place.share)
        if wide:
            count = rows_of(place.share, MAX_ROWS * WIDE // sides.tensors[self.weight][0].numel())
        picks = pick(value.shape, self.channel_dim, count, place.generator)
        wanted = output_rows(value, self.channel_dim, picks)
        if place.skip is not None:
            wanted = wanted + output_rows(place.values[place.skip], self.channel_dim, picks)
        rows = {"wanted": self.wanted(sides, wanted)}
        if not wide:
            return Record(rows, picks)
        before: Tensor = place.values[self.source]
        more = pick(before.shape, self.channel_dim, rows_of(place.share), place.generator)
        return Record({**rows, "before": output_rows(before, self.channel_dim, more)}, picks, more)

    def read(
        self, sides: Sides, values: Values, skip: fx.Node | None, record: Record
    ) -> dict[str, Tensor]:
        twins = sides.removal.twins
        value: Tensor = values[twins[self.source]]
        rows = {"read": self.input_rows(sides, value, record)}
        if skip is not None:
            rows["added"] = output_rows(values[twins[skip]], self.channel_dim, record.picks)
        if record.more is not None:
            rows["after"] = output_rows(value, self.channel_dim, record.more)
        return rows

    def input_rows(self, sides: Sides, value: Tensor, record: Record) -> Tensor:
        """What the layer reads of `value` for the outputs of `record`.

        (rows, groups, inputs · taps)
        """
        if not self.convolves:
            return output_rows(value, self.channel_dim, record.picks)[:, None]
        given = arguments(sides.removal.twins[self.node])
        window = Window.of(given, sides.tensors[self.weight].shape[2:])
        read = window_rows(value, window, record.picks)
        return read.reshape(len(read), given[8], -1)

    def refit(self, sides: Sides, rows: dict[str, Tensor], seen: int, ridge: float) -> Fit:
        weight, intercept = sides.tensors[self.weight], self.bias is not None
        if self.bias is not None and self.keeps_bias:
            rows, intercept = {**rows, "wanted": rows["wanted"] - sides.tensors[self.bias]}, False
        added = rows.get("added")
        wanted = rows["wanted"] if added is None else rows["wanted"] - added
        readers = self.readers if added is None else self.node.users
        flat = {flat_parts(reader) for reader in readers}
        alike = len(flat) == 1 and not self.keeps_bias
        low, high = flat.pop() if alike else (None, None)
        fitted = Rows(rows["read"], wanted, added, low, high)
        if "before" in rows:
            solution, fit = self._fit_channels(sides, fitted, rows, seen, ridge, intercept)
        else:
            prior = self.prior(sides, fitted.read.shape[1])
            solution, fit = fit_rows(fitted, seen, prior, ridge, intercept=intercept)
        sides.tensors[self.weight] = self.tensor(solution.weight, weight)
        if intercept and solution.bias is not None:
            sides.tensors[str(self.bias)] = solution.bias.to(weight)
        return fit

    def prior(self, sides: Sides, groups: int) -> Tensor:
        """W₀: plain fusion."""
        return self.matrix(sides.tensors[self.weight], groups)

    def _fit_channels(
        self,
        sides: Sides,
        fitted: Rows,
        rows: dict[str, Tensor],
        seen: int,
        ridge: float,
        intercept: bool,
    ) -> tuple[Solution, Fit]:
        """W·B: the original weight, its outputs fused, reading through B (i, i′).

        B rebuilds the original's input channels from the compressed ones; its prior is the
        consumer map Q.
        """
        in_dim = 1 - self.out_dim
        before, after = rows["before"], rows["after"]
        count = round(len(before) * seen / len(fitted))
        prior = torch.eye(before.shape[1], device=before.device)
        for group, binding in sides.analysis.bindings.get((self.weight, in_dim), ()):
            if group in sides.maps and binding.role is Role.CONSUMER:
                prior = fuse_dimension(prior, replace(binding, dim=1), sides.maps[group])
        prior = sides.cut(prior, self.weight, in_dim)
        channels = Rows(after[:count, None], before[:count])
        matrix = solve(channels, prior[None], ridge, intercept=True).weight[0]
        original = sides.original[self.weight]
        if self.transposed:
            original = original.transpose(0, 1)
        outputs_last = original.movedim(0, -1)
        fused = sides.fused(outputs_last.flatten(0, -2), self.weight, self.out_dim)
        fused = fused.reshape(*outputs_last.shape[:-1], -1)
        weight = torch.einsum("i...o,ij->oj...", fused, matrix.to(fused)).flatten(1)[None]
        first = fitted[:seen]
        offset = (first.wanted - Solution(weight, None)(first.read)).double().mean(0)
        solution = Solution(weight, offset if intercept else None)
        return solution, fit_of(solution, fitted, seen)
