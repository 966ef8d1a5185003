"""Allocation by trial: each group is made smaller alone, at a few widths, and the loss measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from intrafusion.batches import held_out
from intrafusion.channels import Group, remove
from intrafusion.compensation import refit
from intrafusion.fusion import fuse
from intrafusion.importance.context import Context, Criterion, needs
from intrafusion.methods import METHODS, Task
from intrafusion.program import Program
from intrafusion.program.precision import is_real
from intrafusion.spec import CompressionSpec

WIDTHS = (0.75, 0.5, 0.25)
"""Shares of a group's units that are tried."""
HOLDOUT = 3
"""One sample in so many is measured on; the others are refitted on."""
MOST = 192
"""Samples that are used: the order of the groups shows on few, and every trial runs over all."""
LEAST_ERROR = 1e-12
"""What counts as no error in a logarithm."""


@needs("samples")
def measured(context: Context, criterion: Criterion) -> Mapping[Group, Tensor]:
    """The error curves of each group alone, fused and refitted: change of the outputs, measured.

    At each of `WIDTHS` the squared distance of the outputs to the original's on held-out samples,
    relative to their variance; between them its logarithm is taken to be linear in the units kept,
    and above the widest the error itself. Unlike `reconstruction` this sees what a nonlinearity
    hides and what the refit of later layers mends, at the price of a refit per width and group.
    """
    assert context.samples is not None
    used = tuple(x[:MOST] for x in context.samples)
    held = held_out(len(used[0]), HOLDOUT)
    if not bool(held.any()):
        held[:] = True  # Fewer samples than HOLDOUT: measured on what is seen, for want of others.
    unseen = tuple(x[held] for x in used)
    seen = unseen if bool(held.all()) else tuple(x[~held] for x in used)
    wanted = context.analysis.program.outputs(*unseen)
    curves = {}
    for group in context.analysis.groups:
        errors = {
            kept: _distance(_made(context, criterion, group, kept, seen), unseen, wanted)
            for kept in sorted({max(1, round(share * len(group))) for share in WIDTHS})
            if kept < len(group)
        }
        if errors:
            curves[group] = _curve(errors, len(group))
    return curves


def _made(
    context: Context, criterion: Criterion, group: Group, kept: int, samples: tuple[Tensor, ...]
) -> Program:
    """The program with only that group made smaller, what reads it refitted on `samples`."""
    spec = CompressionSpec(producers="keep", seed=context.seed)
    maps = dict(METHODS[spec.method].maps(Task(context, {group: kept}, spec, criterion)))
    removal = remove(context.analysis, {group: maps[group].kept}, fuse(context.analysis, maps))
    fitted = refit(context.analysis, removal, maps, samples, seed=context.seed)
    return replace(removal.program, tensors=fitted.tensors)


def _distance(program: Program, inputs: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    """Mean over the outputs of their squared distance relative to their variance."""
    distances = []
    for found, output in zip(program.outputs(*inputs), wanted, strict=True):
        if is_real(output):
            spread = output.double().var(correction=0)
            distance = (found - output).double().square().mean()
            distances.append(float(distance / spread) if spread > 0 else 0.0)
    return sum(distances) / max(1, len(distances))


def _curve(errors: Mapping[int, float], units: int) -> Tensor:
    """The errors (units + 1,) with 0, 1, … units left, from those that were measured.

    Fewer units never do better: where a measurement says so, it is noise.
    """
    kept = np.array(sorted(errors))
    values = np.array([max(errors[count], LEAST_ERROR) for count in kept])
    values = np.maximum.accumulate(values[::-1])[::-1]
    logs = np.log(values)
    counts = np.arange(units + 1)
    curve = np.exp(np.interp(counts, kept, logs))
    if len(kept) > 1:
        slope = (logs[1] - logs[0]) / (kept[1] - kept[0])
        below = counts < kept[0]
        curve[below] = np.exp(logs[0] + slope * (counts[below] - kept[0]))
    above = counts >= kept[-1]
    curve[above] = values[-1] * (units - counts[above]) / (units - kept[-1])
    return torch.from_numpy(curve)
