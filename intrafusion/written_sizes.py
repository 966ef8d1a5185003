"""Sizes that a user's own modules keep as numbers, such as `head_dim` and `num_heads`.

Nothing says what such a number means. What compression took from the weights beside it does:
where each block of 64 of 192 channels lost as many, 64 is the width of a head; where whole
blocks of 64 went, 3 is the number of heads. A guess all the same, to be proved by running.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import torch
from torch import Tensor, nn

from intrafusion.layer_sizes import follows_parameters
from intrafusion.program.plan import Plan

Numbers = Mapping[str, Mapping[str, int]]
"""The integer attributes of modules, by the module's name."""


def written_numbers(module: nn.Module) -> Numbers:
    """The integer attributes of every part of a module that does not follow its parameters."""
    return {
        name: {key: value for key, value in vars(part).items() if type(value) is int}
        for name, part in module.named_modules()
        if not follows_parameters(part)
    }


def guesses(module: nn.Module, numbers: Numbers, plan: Plan) -> Iterator[None]:
    """Put one guess after another at the new numbers into a module, to be tried at each step.

    The first yield is the likeliest, the last the module as it is. Whoever stops at one keeps
    it.

    Args:
        module: with the new parameters in place.
        numbers: its `written_numbers` from before any changed.
        plan: what was taken from its parameters.
    """
    parts = [
        _Part(name, part, numbers[name], plan)
        for name, part in module.named_modules()
        if name in numbers
    ]
    ranked = sorted((heads.rank, heads.meaning) for part in parts for heads in part.heads)
    # Not `with`: what is undone after a yield is to stay where the caller stops at it.
    for meaning in dict.fromkeys(meaning for _, meaning in ranked):
        meant = [(p, heads) for p in parts for heads in p.heads if heads.meaning == meaning]
        before = [part.set(part.numbers(heads)) for part, heads in meant]
        yield
        queries = [rows for part, heads in meant for rows in part.queries(heads)]
        if queries:
            for rows, factor in queries:
                rows.mul_(factor)
            yield
            for rows, factor in queries:
                rows.div_(factor)
        for (part, _), numbers_before in zip(meant, before, strict=True):
            part.set(numbers_before)
    if not ranked:
        yield
        before = [part.set(part.numbers(None)) for part in parts]
        yield
        for part, numbers_before in zip(parts, before, strict=True):
            part.set(numbers_before)
    yield


def uneven_heads(module: nn.Module, numbers: Numbers, plan: Plan) -> str | None:
    """Says where a module has one number for a width that heads no longer have in common.

    Queries and keys lose other channels than values, and may be left with more or fewer of them.
    None: there is no such place. The arguments are those of `guesses`.
    """
    for name, _ in module.named_modules():
        # A small number, such as that of the heads, fits by chance.
        own = sorted(numbers.get(name, {}).items(), key=lambda pair: -pair[1])
        for key, width in own:
            prefix = f"{name}." if name else ""
            near = {n: s for n, s in _below(prefix, plan.shapes).items() if n.count(".") <= 1}
            left = {n for c in _columns(prefix, near, plan) for n in _widths_left(c, width)}
            if len(left) > 1:
                return (
                    f"the heads of {name or 'the module'} have one width, {key} = {width}, "
                    f"and are left with {' and '.join(map(str, sorted(left)))} channels"
                )
    return None


def _widths_left(column: _Column, width: int) -> set[int]:
    """What is left of heads of that width; nothing where this is no regular sequence.

    Regular are all heads alike, and queries, keys and values of all heads, one sort after the
    other or head by head.
    """
    if not 1 < width < column.size or column.size % width:
        return set()
    counts = torch.bincount(column.kept // width, minlength=column.size // width)
    if int(counts.min()) == 0 or bool((counts == width).all()):
        return set()
    orders = [counts.reshape(1, -1)]
    if len(counts) % 3 == 0:
        orders += [counts.reshape(3, -1), counts.reshape(-1, 3).T]
    regular = any(bool((order == order[:, :1]).all()) for order in orders)
    return set(counts.tolist()) if regular else set()


@dataclass(frozen=True)
class _Column:
    """A dimension of a parameter that lost channels: its size, and the positions that stayed."""

    size: int
    kept: Tensor


@dataclass(frozen=True)
class _Heads:
    """What became of the heads of an attention.

    Attributes:
        column: the channels of all heads.
        key: the attribute that changes.
        before, after: its value.
        narrower: whether it is the width of a head, else it is their number.
        paired: whether another attribute completes it to the size of the column.
        others: attributes that change with it, and their new values.
    """

    column: _Column
    key: str
    before: int
    after: int
    narrower: bool
    paired: bool
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def meaning(self) -> tuple[str, bool, tuple[str, ...]]:
        """What is supposed of the attributes, the same in every layer."""
        return self.key, self.narrower, tuple(sorted(self.others))

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """The lower, the likelier.

        Blocks of which each lost as many are found in multiples of a head, whole blocks in
        parts of one.
        """
        width = self.before if self.narrower else -(self.column.size // self.before)
        return not self.paired, not self.narrower, width, self.column.size


class _Part:
    """A module with numbers, and what they may have to be."""

    def __init__(self, name: str, module: nn.Module, before: Mapping[str, int], plan: Plan) -> None:
        self._module, self._before = module, before
        prefix = f"{name}." if name else ""
        below = _below(prefix, plan.shapes)
        self._changed = {own: shape for own, shape in below.items() if own.count(".") <= 1}
        """Original shapes of the parameters of the module and of the layers right in it."""
        near = list(_columns(prefix, self._changed, plan))
        self._totals = {column.size: len(column.kept) for column in near}
        # Where several numbers have to fit they may do so by a layer that is within another.
        within = {own: shape for own, shape in below.items() if own.count(".") <= 2}
        further = list(_columns(prefix, within, plan))
        found = [*_heads(near, before), *_mixed_heads(further, before)]
        ranked = sorted(found, key=lambda heads: heads.rank, reverse=True)
        self.heads = list({heads.meaning: heads for heads in ranked}.values())

    def numbers(self, heads: _Heads | None) -> dict[str, int]:
        """All numbers, as they are if that became of the heads."""
        totals = dict(self._totals)
        if heads is not None:
            totals[heads.column.size] = len(heads.column.kept)
        numbers = {key: totals.get(number, number) for key, number in self._before.items()}
        return numbers if heads is None else {**numbers, heads.key: heads.after, **heads.others}

    def set(self, numbers: Mapping[str, int]) -> dict[str, int]:
        """Give the module these numbers; returns those it had."""
        attributes = vars(self._module)
        before = {key: attributes[key] for key in numbers}
        attributes.update(numbers)
        return before

    def queries(self, heads: _Heads) -> Iterator[tuple[Tensor, float]]:
        """The rows that make queries, and what they are to be multiplied with.

        Attention that divides by the root of its heads' width divides by less than the
        compressed network does, which kept the original's divisor.
        """
        if not heads.narrower or heads.others:
            return
        factor, total = math.sqrt(heads.after / heads.before), heads.column.size
        parameters = dict(self._module.named_parameters())
        for own, shape in self._changed.items():
            if own in parameters and shape[0] == 3 * total:
                yield parameters[own].data[: len(parameters[own]) // 3], factor
            elif own in parameters and shape[0] == total and own.startswith("q"):
                yield parameters[own].data, factor


def _below(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}


def _columns(prefix: str, shapes: Mapping[str, tuple[int, ...]], plan: Plan) -> Iterator[_Column]:
    for own, shape in shapes.items():
        for dim, positions in plan.kept.get(prefix + own, {}).items():
            yield _Column(shape[dim], torch.tensor(positions))


def _heads(columns: Sequence[_Column], numbers: Mapping[str, int]) -> Iterator[_Heads]:
    """Everything that the numbers of a module may say of heads."""
    sizes = {column.size for column in columns}
    for column in columns:
        for key, number in numbers.items():
            if number in sizes or not 1 < number < column.size or column.size % number:
                continue
            others = (other for name, other in numbers.items() if name != key)
            paired = column.size // number in others
            for narrower, after in (
                (True, _narrower(column, number)),
                (False, _fewer(column, number)),
            ):
                if after is not None:
                    yield _Heads(column, key, number, after, narrower, paired)


def _mixed_heads(columns: Sequence[_Column], numbers: Mapping[str, int]) -> Iterator[_Heads]:
    """Heads of which each has keys of one width, once or twice, and values of another."""
    for column in columns:
        for heads in numbers.values():
            if not 1 < heads < column.size or column.size % heads:
                continue
            for (key, wide), (value, other) in permutations(numbers.items(), 2):
                keys = (column.size // heads - other) // wide if wide > 1 < other else 0
                if wide == other or keys not in (1, 2):
                    continue
                left = _left_of_each(column, heads, [*[wide] * keys, other])
                if left is not None:
                    totals = {heads * wide: heads * left[0], heads * other: heads * left[1]}
                    others = {
                        name: totals[number] for name, number in numbers.items() if number in totals
                    }
                    yield _Heads(column, key, wide, left[0], True, True, {**others, value: left[1]})


def _left_of_each(column: _Column, heads: int, widths: Sequence[int]) -> tuple[int, int] | None:
    """What became of the first and the last of the widths that a head consists of.

    None where they do not make up a head, where heads lost differently, or where all but the
    last did.
    """
    if sum(widths) * heads != column.size:
        return None
    part = torch.arange(heads * len(widths)).repeat_interleave(torch.tensor(widths).repeat(heads))
    counts = torch.bincount(part[column.kept], minlength=heads * len(widths))
    rows = counts.reshape(heads, len(widths))
    keys, last = rows[:, :-1], rows[:, -1]
    if int(rows.min()) == 0 or bool((keys != keys[0, 0]).any()) or bool((last != last[0]).any()):
        return None
    return int(keys[0, 0]), int(last[0])


def _narrower(column: _Column, width: int) -> int | None:
    """What became of heads of that width, if all lost the same number of channels."""
    counts = torch.bincount(column.kept // width, minlength=column.size // width)
    least, most = int(counts.min()), int(counts.max())
    return most if 0 < least == most < width else None


def _fewer(column: _Column, heads: int) -> int | None:
    """What became of that many heads, if some went whole and the others stayed whole."""
    width = column.size // heads
    counts = torch.bincount(column.kept // width, minlength=heads)
    whole = bool(((counts == 0) | (counts == width)).all())
    return int((counts > 0).sum()) if whole else None
