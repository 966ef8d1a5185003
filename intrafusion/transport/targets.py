"""What the n units of a group are transported to."""

from __future__ import annotations

from torch import Tensor


def most_important(importance: Tensor, count: int) -> Tensor:
    """The positions (count,) of the units of highest importance, ascending.

    Equal scores are settled by position, so that the choice does not depend on the platform.
    """
    order = importance.argsort(descending=True, stable=True)
    return order[:count].sort().values
