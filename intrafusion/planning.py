"""Noting what a compression did to every parameter."""

from __future__ import annotations

from intrafusion.channels.surgery import Removal
from intrafusion.folding import Folded
from intrafusion.program import Program
from intrafusion.program.plan import FoldedNorm, Plan


def plan_of(program: Program, folded: Folded, removal: Removal) -> Plan:
    """How the tensors of `removal` stand to those of the network `program` was read from.

    Args:
        program: what was compressed; if it has a plan of its own, the result reaches back to
            where that one does.
        folded: `program` without its foldable batch norms.
        removal: `folded.program` without the units that went.
    """
    kept: dict[str, dict[int, tuple[int, ...]]] = {}
    for (name, dim), positions in removal.staying.items():
        kept.setdefault(name, {})[dim] = tuple(positions.tolist())
    norms = {}
    for weight, norm in folded.norms.items():
        moments = folded.moments[weight]
        mean, spread = moments.mean.cpu(), moments.spread.cpu()
        positions_left = removal.staying.get((weight, norm.dimension))
        if positions_left is not None:
            mean, spread = mean[positions_left], spread[positions_left]
        norms[norm.module] = FoldedNorm(
            layer=weight,
            dimension=norm.dimension,
            mean=tuple(mean.tolist()),
            variance=tuple((spread**2).tolist()),
        )
    before, after = program.tensors.keys(), removal.program.tensors.keys()
    made = after - folded.program.tensors.keys()
    lifted = {name for name in after if name.startswith("_constant")}
    plan = Plan(
        shapes={name: tuple(folded.program.tensors[name].shape) for name in kept},
        kept=kept,
        folded=norms,
        biases=tuple(sorted(after - before - made)),
        constants=tuple(sorted(made | lifted)),
    )
    return plan if program.plan is None else program.plan.then(plan)
