"""Which units of a group can rebuild the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from intrafusion.importance.sensitivity import Sensed

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


def select(places: Sequence[Sensed]) -> Selection:
    """Greedy column-subset selection, weighted by what the outputs care for.

    With R = C at first, and R −= r·rᵀ/R_jj for column r = R_j after each pick, R is the covariance
    of what the units picked so far cannot rebuild, and tr(M·R) the change of the outputs that it
    causes. The next pick is the one that lowers it most, by (R·M·R)_jj / R_jj, summed over the
    places where the group is read. Only the diagonal of R·M·R is kept up to date: n³ for all picks.

    Args:
        places: one for each place where the units are read, at least one. Their covariances are
            used up: they become what is left at the end.
    """
    left = [_Left(place) for place in places]
    units = len(places[0].covariance)
    free = torch.ones(units, dtype=torch.bool, device=places[0].covariance.device)
    order: list[int] = []
    errors = [sum(float(place.error) for place in left)]
    for _ in range(units):
        gain = torch.stack([place.gain() for place in left]).sum(0)
        pick = int(torch.where(free, gain, -1.0).argmax())
        free[pick] = False
        order.append(pick)
        for place in left:
            place.take(pick)
        errors.append(sum(float(place.error) for place in left))
    falling = torch.tensor(errors, dtype=torch.float64).clamp_min(0)
    return Selection(torch.tensor(order), falling.cummin(0).values)


class _Left:
    """What the picked units cannot rebuild, at one place."""

    def __init__(self, place: Sensed) -> None:
        self.residual = place.covariance
        self.sensitivity = place.sensitivity
        self.least = NEGLIGIBLE * self.residual.diagonal().mean()
        product = self.residual @ self.sensitivity
        self.error = product.diagonal().sum()
        self.diagonal = product.mul_(self.residual).sum(1)

    def gain(self) -> Tensor:
        """(n,) how much each unit would lower the error."""
        variance = self.residual.diagonal()
        gain = self.diagonal / variance.clamp_min(self.least)
        return torch.where(variance > self.least, gain, 0.0).clamp_min(0)

    def take(self, unit: int) -> None:
        """The unit stays from now on."""
        variance = self.residual[unit, unit]
        if variance <= self.least:
            return
        column = self.residual[:, unit] / variance.sqrt()
        weighted = self.sensitivity @ column
        spread, along = self.residual @ weighted, column @ weighted
        self.diagonal = self.diagonal - 2 * column * spread + column.square() * along
        self.error = self.error - along
        self.residual.addr_(column, column, alpha=-1)
