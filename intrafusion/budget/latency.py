"""The largest network within a share of the original's latency, found by measuring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from intrafusion.budget.allocator import Allocator
from intrafusion.budget.bisection import boundary, tries
from intrafusion.channels import Group, remove
from intrafusion.clock import Clock
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.evaluation import latencies, macs
from intrafusion.program import Program
from intrafusion.program.precision import narrowed
from intrafusion.report import TryReport


@dataclass(frozen=True)
class Fast:
    """How many units the groups keep in the largest network that is fast enough.

    Attributes:
        counts: for the groups that lose some.
        share: of the multiply-accumulates that the network was allowed.
        tries: all that were measured, the largest first.
    """

    counts: dict[Group, int]
    share: float
    tries: list[TryReport]


def within_latency(allocator: Allocator, limit: float, original: Program, clock: Clock) -> Fast:
    """Time networks of several sizes, and keep the largest that takes at most `limit`.

    How long a network takes depends on its shape alone, so nothing is fused or refitted here:
    each size is timed beside the original with the first units of every group.

    Args:
        allocator: gives the units of each size.
        limit: share of the original's latency.
        original: the program as it came.
        clock: told of every try.

    Raises:
        IntraFusionError: `BUDGET_UNREACHABLE` if the smallest network is too slow;
            `NOTHING_TO_PRUNE` if no group can lose a unit.
    """
    with clock.step("allocate"):
        least = allocator.least("macs")
    reports: dict[frozenset[tuple[Group, int]], TryReport] = {}

    def holds(share: float) -> bool:
        counts = allocator.nearest({"macs": share})
        key = frozenset(counts.items())
        if key not in reports:
            reports[key] = _timed(allocator, counts, share, limit, original)
        return reports[key].within

    with clock.step("search", tries(least, 1.0)):
        share = boundary(holds, least, 1.0, above=False, progress=clock.report)
        if share is None and holds(least):
            share = least
    falling = sorted(reports.values(), key=lambda report: -report.share)
    if share is None:
        fastest = min(report.latency or 1.0 for report in falling)
        raise IntraFusionError(
            ErrorCode.BUDGET_UNREACHABLE,
            f"The fastest network that these groups allow takes {fastest:.0%} of the original's "
            f"time; {limit:.0%} were asked for.",
            "Ask for more, or select more groups. A network of many small layers spends its time "
            "on starting them, which no smaller width saves.",
            least=fastest,
        )
    return Fast(allocator.counts({"macs": share}), share, falling)


def _timed(
    allocator: Allocator, counts: Mapping[Group, int], share: float, limit: float, original: Program
) -> TryReport:
    kept = {group: torch.arange(count) for group, count in counts.items()}
    small = narrowed(remove(allocator.context.analysis, kept).program, original)
    before, after = latencies([original, small])
    latency = after.median_ms / before.median_ms
    return TryReport(
        share=share,
        parameters=small.parameter_count,
        macs=macs(small),
        latency=latency,
        within=latency <= limit,
    )
