"""One weight in several places: a cell called step by step, one head for every level of a pyramid.

Before the first place is reached all of them are fitted by one regression, on rows from each. What
a later place will read depends on what an earlier one puts out, and so on this very fit; instead
the rows have what the original reads there, in the channels that are left, as those of recurrent
layers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, fx

from intrafusion.compensation.layers.affine import Affine
from intrafusion.compensation.layers.layer import Fit, Layer, Place, Record, Sides, Values
from intrafusion.compensation.rows import output_rows


class Shared(Layer):
    """W x + b, ungrouped, with the same W and b at several nodes.

    Args:
        members: the layer at each of them.
        keeps_bias: b stays as it is, since something else has it too, such as the first step of a
            cell, which reads zeros.
    """

    def __init__(self, members: Sequence[Affine], *, keeps_bias: bool) -> None:
        super().__init__(members[0].node)
        self._first = members[0]
        self._members = {member.node: member for member in members}
        self._first.readers, self._first.keeps_bias = self.nodes, keeps_bias

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        return tuple(self._members)

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        return tuple(member.source for member in self._members.values())

    @property
    def tensors(self) -> tuple[str | None, ...]:
        return self._first.tensors

    @property
    def can_be_refitted(self) -> bool:
        return self._first.can_be_refitted and self._first.groups == 1

    def watch(self, sides: Sides, place: Place) -> Record:
        member = self._members[place.node]
        record = member.watch(sides, replace(place, share=place.share / len(self._members)))
        value: Tensor = place.values[member.source]
        staying = sides.removal.staying.get((member.weight, member.in_dim))
        if staying is not None:
            value = value.index_select(member.channel_dim, staying.to(value.device))
        rows = {**record.rows, "read": member.input_rows(sides, value, record)}
        if record.more is not None:
            rows["after"] = output_rows(value, member.channel_dim, record.more)
        return Record(rows, record.picks)

    def read(
        self, sides: Sides, values: Values, skip: fx.Node | None, record: Record
    ) -> dict[str, Tensor]:
        return {}

    def refit(self, sides: Sides, rows: dict[str, Tensor], seen: int, ridge: float) -> Fit:
        return self._first.refit(sides, rows, seen, ridge)
