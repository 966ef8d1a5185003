"""LSTM, GRU and plain recurrent layers: the gates of the units that are left.

Before its nonlinearity a gate is linear in what is read, x_t, and in the state one step before,
h_{t−1} (Hochreiter and Schmidhuber, 1997; Cho et al., 2014). What the gates of the units that are
left come to in the original is what the smaller layer is to give,

    W x̃_t + U h̃_{t−1} + b ≈ P (W₀ x_t + U₀ h_{t−1} + b₀),

one ridge regression for W, U and b. h̃ is what the original has in these units, and so is what a
layer within the operation reads of the one below. The new gate of a GRU, which resets what the
state gives and not what is read, is two regressions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx
from torch.nn.functional import linear

from intrafusion.compensation.layers.layer import (
    MAX_ROWS,
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
from intrafusion.program.nodes import arguments, call, name_of

NUMBERS = 40_000_000
"""So many numbers may be wanted of one operation; where it is wide or deep, of fewer positions."""


class Recurrent(Layer):
    """Gates of W x_t + b and U h_{t−1} + c, in layers and directions that have the same units."""

    def __init__(self, node: fx.Node) -> None:
        super().__init__(node)
        self.is_gru = name_of(node) == "gru"

    @property
    def tensors(self) -> tuple[str | None, ...]:
        given = arguments(self.node)[2]
        if not isinstance(given, (list, tuple)):
            return (None,)
        return tuple(str(n.target) if n.op == "get_attr" else None for n in given)

    @property
    def can_be_refitted(self) -> bool:
        # Packed sequences have other arguments, and projected states one parameter more.
        given = arguments(self.node)
        if len(given) < 9 or None in self.tensors:
            return False
        each = self.directions * self.of_each
        return bool(len(self.tensors) == given[4] * each)

    @property
    def directions(self) -> int:
        """One, or two: from the first step to the last, and from the last to the first."""
        return 2 if arguments(self.node)[7] else 1

    @property
    def of_each(self) -> int:
        """How many tensors each layer has in each direction: W, U and the biases of both."""
        return 4 if arguments(self.node)[3] else 2

    @property
    def ways(self) -> list[tuple[str, ...]]:
        """The names of these tensors, for all layers and, in each, directions."""
        names = [str(name) for name in self.tensors]
        return [tuple(names[k : k + self.of_each]) for k in range(0, len(names), self.of_each)]

    def is_due(self, sides: Sides, *, reads_changed: bool) -> bool:
        return reads_changed or any(sides.loses(names[1], 1) for names in self.ways)

    def watch(self, sides: Sides, place: Place) -> Record:
        value: Tensor = place.values[self.source]
        ways = self.ways
        wide = sum(sides.original[names[0]].shape[0] for names in ways)
        count = rows_of(place.share, min(MAX_ROWS, NUMBERS // wide))
        picks = pick(value.shape, -1, count, place.generator)
        rows: dict[str, list[Tensor]] = {
            name: [] for name in ("wanted", "new", "before", "between")
        }
        for first in range(0, len(ways), self.directions):
            read = output_rows(value, -1, picks)
            states = self._states(sides.original, place.values, value, first)
            for names, (state, before) in zip(ways[first:], states, strict=False):
                own = [sides.original[name] for name in names]
                earlier = output_rows(before, -1, picks)
                given, held = linear(read, own[0], *own[2:3]), linear(earlier, own[1], *own[3:])
                wanted = given + held
                if self.is_gru:
                    new = slice(wanted.shape[1] * 2 // 3, None)
                    wanted[:, new] = given[:, new]
                    rows["new"].append(sides.fused(held, names[1], 0).chunk(3, 1)[2])
                rows["wanted"].append(sides.fused(wanted, names[1], 0))
                rows["before"].append(sides.fused(earlier, names[1], 1))
                if first + self.directions < len(ways):
                    below = output_rows(state, -1, picks)
                    rows["between"].append(sides.fused(below, names[1], 1))
            value = torch.cat([state for state, _ in states], -1)
        return Record({n: torch.cat(found, 1) for n, found in rows.items() if found}, picks)

    def _states(
        self, tensors: Mapping[str, Tensor], values: Values, read: Tensor, first: int
    ) -> list[tuple[Tensor, Tensor]]:
        """The states of the original's layer that reads `read`, and those one step before.

        For each direction, of which `first` is the number of the first one.
        """
        given = arguments(self.node)
        here = slice(first, first + self.directions)
        starts = given[1] if isinstance(given[1], (list, tuple)) else [given[1]]
        start = [
            (tensors[str(node.target)] if node.op == "get_attr" else values[node])[here]
            for node in starts
        ]
        own = [tensors[name] for names in self.ways[here] for name in names]
        begins = start if isinstance(given[1], (list, tuple)) else start[0]
        found = call(
            self.node, (read, begins, own, given[3], 1, 0.0, False, given[7], given[8]), {}
        )
        steps = 1 if given[8] else 0
        result = []
        for direction, states in enumerate(found[0].chunk(self.directions, -1)):
            edge = start[0][direction].unsqueeze(steps).to(states)
            size = states.shape[steps] - 1
            before = [edge, states.narrow(steps, 0, size)]
            if direction:
                before = [states.narrow(steps, 1, size), edge]
            result.append((states, torch.cat(before, steps)))
        return result

    def read(
        self, sides: Sides, values: Values, skip: fx.Node | None, record: Record
    ) -> dict[str, Tensor]:
        value: Tensor = values[sides.removal.twins[self.source]]
        return {"read": output_rows(value, -1, record.picks)}

    def refit(self, sides: Sides, rows: dict[str, Tensor], seen: int, ridge: float) -> Fit:
        ways = self.ways
        reads = [rows["read"]]
        if "between" in rows:
            reads += rows["between"].chunk(len(ways) // self.directions - 1, 1)
        fits: list[Fit] = []
        for number, names in enumerate(ways):
            own = {"read": reads[number // self.directions]}
            for name in {"wanted", "new", "before"} & rows.keys():
                own[name] = rows[name].chunk(len(ways), 1)[number]
            fits += self._refit_way(sides.tensors, names, own, seen, ridge)
        held_out = [fit.held_out for fit in fits if fit.held_out is not None]
        return Fit(
            sum(fit.seen for fit in fits) / len(fits),
            sum(held_out) / len(held_out) if held_out else None,
        )

    def _refit_way(
        self,
        tensors: dict[str, Tensor],
        names: tuple[str, ...],
        rows: Mapping[str, Tensor],
        seen: int,
        ridge: float,
    ) -> list[Fit]:
        """Put new W, U and biases of one layer in one direction into `tensors`."""
        own = [tensors[name].clone() for name in names]
        weights, biases = own[:2], own[2:]
        read, before, wanted = rows["read"], rows["before"], rows["wanted"]
        low = 0.0 if name_of(self.node) == "rnn_relu" else None
        shared = wanted.shape[1] * 2 // 3 if self.is_gru else wanted.shape[1]

        def fit(some: slice, sides: list[int], inputs: list[Tensor], outputs: Tensor) -> Fit:
            fitted = Rows(torch.cat(inputs, 1)[:, None], outputs, None, low)
            prior = torch.cat([weights[side][some] for side in sides], 1)[None]
            solution, fit = fit_rows(fitted, seen, prior, ridge, intercept=bool(biases))
            sizes = [one.shape[1] for one in inputs]
            parts = torch.split(solution.weight[0], sizes, 1)
            for side, found in zip(sides, parts, strict=True):
                weights[side][some] = found.to(weights[side])
            if solution.bias is not None:
                # Of two biases of a gate only the sum counts.
                rest = sum(biases[side][some] for side in sides[1:])
                biases[sides[0]][some] = (solution.bias - rest).to(biases[sides[0]])
            return fit

        fits = [fit(slice(shared), [0, 1], [read, before], wanted[:, :shared])]
        if self.is_gru:
            fits.append(fit(slice(shared, None), [0], [read], wanted[:, shared:]))
            fits.append(fit(slice(shared, None), [1], [before], rows["new"]))
        tensors.update(zip(names, own, strict=True))
        return fits
