"""Which units of a group can rebuild the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from intrafusion.importance.sensitivity import Sensed, SensedRows

NEGLIGIBLE = 1e-9
"""A unit whose variance is below this share of the mean is rebuilt already."""


@dataclass(frozen=True)
class Selection:
    """The units of a group in the order in which they are worth keeping.

    Attributes:
        order: (n,) positions, the most needed first.
        errors: (n + 1,) squared change of the network's outputs, relative to their variance, that
            is expected when the first 0, 1, … n of them stay and rebuild the others.
    """

    order: Tensor
    errors: Tensor


def select(places: Sequence[Sensed | SensedRows]) -> Selection:
    """Greedy column-subset selection, weighted by what the outputs care for.

    With R = C at first, and R −= r·rᵀ/R_jj for column r = R_j after each pick, R is the covariance
    of what the units picked so far cannot rebuild, and tr(M·R) the change of the outputs that it
    causes. The next pick is the one that lowers it most, by (R·M·R)_jj / R_jj, summed over the
    places where the group is read. Only the diagonal of R·M·R is kept up to date: n³ for all picks,
    or n² times the number of rows where R and M are given as rows.

    Args:
        places: one for each place where the units are read, at least one. Their covariances, or
            rows of activations, are used up: they become what is left at the end.
    """
    left = [_left_of(place) for place in places]
    units = len(left[0].diagonal)
    free = torch.ones(units, dtype=torch.bool, device=left[0].diagonal.device)
    order: list[int] = []
    # They stay tensors until the end: on a GPU every number that is asked for is a wait.
    errors = [place.error for place in left]
    for _ in range(units):
        gain = torch.stack([place.gain() for place in left]).sum(0)
        pick = int(torch.where(free, gain, -1.0).argmax())
        free[pick] = False
        order.append(pick)
        for place in left:
            place.take(pick)
        errors += [place.error for place in left]
    falling = torch.stack(errors).reshape(units + 1, len(left)).sum(1).cpu().clamp_min(0)
    return Selection(torch.tensor(order), falling.cummin(0).values)


class _Left(ABC):
    """What the picked units cannot rebuild, at one place.

    Attributes:
        error: tr(M·R).
        diagonal: (n,) of R·M·R.
        least: a variance below which a unit counts as rebuilt.
    """

    error: Tensor
    diagonal: Tensor
    least: Tensor

    @abstractmethod
    def variance(self) -> Tensor:
        """(n,) the diagonal of R."""

    @abstractmethod
    def column(self, unit: int) -> Tensor:
        """(n,) of R."""

    @abstractmethod
    def sensed(self, direction: Tensor) -> Tensor:
        """M times `direction` (n,)."""

    @abstractmethod
    def rebuilt(self, direction: Tensor) -> Tensor:
        """R times `direction` (n,)."""

    @abstractmethod
    def deflate(self, unit: int, column: Tensor) -> None:
        """Take column·columnᵀ from R, the column being the unit's, over the root of R_jj."""

    def gain(self) -> Tensor:
        """(n,) how much each unit would lower the error."""
        variance = self.variance()
        gain = self.diagonal / variance.clamp_min(self.least)
        return torch.where(variance > self.least, gain, 0.0).clamp_min(0)

    def take(self, unit: int) -> None:
        """The unit stays from now on."""
        variance = self.variance()[unit]
        if variance <= self.least:
            return
        column = self.column(unit) / variance.sqrt()
        weighted = self.sensed(column)
        spread, along = self.rebuilt(weighted), column @ weighted
        self.diagonal = self.diagonal - 2 * column * spread + column.square() * along
        self.error = self.error - along
        self.deflate(unit, column)


def _left_of(place: Sensed | SensedRows) -> _Left:
    return _LeftOfRows(place) if isinstance(place, SensedRows) else _LeftOfMoments(place)


class _LeftOfMoments(_Left):
    """R and M as matrices (n, n)."""

    def __init__(self, place: Sensed) -> None:
        self._residual, self._sensitivity = place.covariance, place.sensitivity
        self.least = NEGLIGIBLE * self.variance().mean()
        product = self._residual @ self._sensitivity
        self.error = product.diagonal().sum()
        self.diagonal = product.mul_(self._residual).sum(1)

    def variance(self) -> Tensor:
        return self._residual.diagonal()

    def column(self, unit: int) -> Tensor:
        return self._residual[:, unit]

    def sensed(self, direction: Tensor) -> Tensor:
        return self._sensitivity @ direction

    def rebuilt(self, direction: Tensor) -> Tensor:
        return self._residual @ direction

    def deflate(self, unit: int, column: Tensor) -> None:
        self._residual.addr_(column, column, alpha=-1)


class _LeftOfRows(_Left):
    """R = A·Aᵀ and M = G·Gᵀ by their rows A (n, r) and G (n, s)."""

    def __init__(self, place: SensedRows) -> None:
        self._rows, self._gradients = place.activations, place.gradients
        self._variance = self._rows.square().sum(1)
        self.least = NEGLIGIBLE * self._variance.mean()
        crossed = self._rows.T @ self._gradients
        self.error = crossed.square().sum()
        self.diagonal = (self._rows @ crossed).square().sum(1)

    def variance(self) -> Tensor:
        return self._variance

    def column(self, unit: int) -> Tensor:
        return self._rows @ self._rows[unit]

    def sensed(self, direction: Tensor) -> Tensor:
        return self._gradients @ (self._gradients.T @ direction)

    def rebuilt(self, direction: Tensor) -> Tensor:
        return self._rows @ (self._rows.T @ direction)

    def deflate(self, unit: int, column: Tensor) -> None:
        along = self._rows[unit] / self._rows[unit].norm()
        self._rows.addr_(column, along, alpha=-1)
        self._variance = self._variance - column.square()
