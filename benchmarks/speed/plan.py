"""Exact transport plans: ours, which moves only the units that go, beside the full problem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import ot
import torch
from numpy.typing import NDArray

from benchmarks.speed.part import Part, Row, timed
from intrafusion.transport.cost import distances
from intrafusion.transport.plan import MAX_PIVOTS, survivor_plan

UNITS = (512, 1024, 2048, 4096, 8192)
KEPT = (0.5, 0.7)
DIMENSIONS = 16
WEIGHTS = 4_608
"""Dimensions of units whose costs are made on a device, as of a 3×3 convolution of 512 channels."""
PROMISED = 3.0
PROMISED_AT = (4096, 2048)
SAME_COST = 1e-9


def measure(device: torch.device) -> Iterator[Row]:
    """Random units on the sphere, ℓ1 cost, uniform masses, for every size and share."""
    for n in UNITS:
        for share in KEPT:
            m = round(n * share)
            yield _beside_the_full_problem(n, m) if device.type == "cpu" else _shares(n, m, device)


def _beside_the_full_problem(n: int, m: int) -> Row:
    """Both solvers on the same costs."""
    cost, survivors = problem(n, m)
    with timed() as full:
        source, target = np.full(n, 1 / n), np.full(m, 1 / m)
        reference = ot.emd(source, target, cost, numItermax=MAX_PIVOTS)
    with timed() as reduced:
        plan = survivor_plan(np.delete(cost, survivors, axis=0), survivors, n)
    (sources, targets), amounts = plan.indices().numpy(), plan.values().numpy()
    ours = float((amounts * cost[sources, targets]).sum())
    difference = abs(ours - float((reference * cost).sum()))
    return {
        "n": n,
        "m": m,
        "full s": full.seconds,
        "ours s": reduced.seconds,
        "times as fast": full.seconds / reduced.seconds,
        "cost difference": difference,
    }


def _shares(n: int, m: int, device: torch.device) -> Row:
    """What of a plan the costs on `device` take, their way to the CPU, and the solver there."""
    units = torch.randn(n, WEIGHTS, generator=torch.Generator().manual_seed(0)).to(device)
    units = torch.nn.functional.normalize(units, dim=1)
    survivors = np.arange(m, dtype=np.int64)
    distances(units[:2], units[:2], 1)  # kernels are loaded when they are first used
    with timed(device) as costing:
        cost = distances(units[m:], units[:m], 1).double()
    with timed(device) as bringing:
        brought = cost.cpu().numpy()
    with timed(device) as solving:
        survivor_plan(brought, survivors, n)
    total = costing.seconds + bringing.seconds + solving.seconds
    return {
        "n": n,
        "m": m,
        "costs s": costing.seconds,
        "to the CPU s": bringing.seconds,
        "solver s": solving.seconds,
        "solver's share": solving.seconds / total,
    }


def problem(n: int, m: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Costs (n, m) from n units to m of them, and which these are (m,)."""
    generator = np.random.default_rng(0)
    units = generator.normal(size=(n, DIMENSIONS)).astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    survivors = np.sort(generator.choice(n, m, replace=False)).astype(np.int64)
    return ot.dist(units, units[survivors], metric="cityblock").astype(np.float64), survivors


def broken(rows: Sequence[Row]) -> list[str]:
    """Plans that cost more than the full problem's, and the speed promised at one size."""
    faults = [
        f"{row['n']} to {row['m']}: the plan costs {row['cost difference']:.1e} more"
        for row in rows
        if float(row["cost difference"]) > SAME_COST
    ]
    faults += [
        f"{row['n']} to {row['m']}: only {row['times as fast']:.1f} times as fast"
        for row in rows
        if (row["n"], row["m"]) == PROMISED_AT and float(row["times as fast"]) < PROMISED
    ]
    return faults


PART = Part(
    title="Transport plan",
    caption=(
        f"n random units of {DIMENSIONS} dimensions to m of them, ℓ1 cost, uniform masses. Full: "
        "`ot.emd` on all n × m costs. Ours: `intrafusion.transport.plan.survivor_plan` on "
        "(n − m) × m. Both give the least cost; what they differ in is rounding."
    ),
    elsewhere=(
        f"There units have {WEIGHTS:,} dimensions; costs are made on the device, and brought to "
        "the CPU for the solver, for which the device waits."
    ),
    measure=measure,
    broken=broken,
)
