"""What becomes of a layer's output: the sum it goes into, and where the nonlinearity is flat."""

from __future__ import annotations

from torch import fx

from intrafusion.channels.walk import Value, Walk
from intrafusion.program.nodes import arguments, name_of


def flat_parts(node: fx.Node) -> tuple[float | None, float | None]:
    """Where the one nonlinearity that reads `node` is flat: below the first, above the second."""
    users = list(node.users)
    if len(users) == 1 and name_of(users[0]) == "relu":
        return 0.0, None
    if len(users) == 1 and name_of(users[0]) == "hardtanh":
        limits = [*arguments(users[0])[1:3], *[-1.0, 1.0][len(users[0].args) - 1 :]]
        return float(limits[0]), float(limits[1])
    return None, None


def added_to(node: fx.Node, walk: Walk) -> fx.Node | None:
    """The other part of the sum that `node` alone goes into; None where there is no such sum."""
    users = list(node.users)
    if len(users) != 1 or name_of(users[0]) != "add" or users[0].kwargs.get("alpha", 1) != 1:
        return None
    others = [a for a in users[0].all_input_nodes if a is not node]
    if len(others) != 1 or others[0].op == "get_attr":
        return None
    value, own = walk.values[others[0]], walk.values[node]
    alike = isinstance(value, Value) and isinstance(own, Value) and value.shape == own.shape
    return others[0] if alike else None
