"""The smallest network that stays within a limit on what is lost, found by making and measuring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from intrafusion.budget.allocator import Allocator
from intrafusion.budget.bisection import boundary, tries
from intrafusion.calibration import Dataset
from intrafusion.channels import Group
from intrafusion.clock import Clock
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.evaluation import Evaluation
from intrafusion.report import SearchReport, TryReport
from intrafusion.spec import Limit

HELD_OUT = 5
"""Without evaluation samples one calibration sample in so many is kept out to measure on."""
NOISE = 1e-9
"""A difference of two shares that is no difference."""

M = TypeVar("M")


@dataclass(frozen=True)
class Found(Generic[M]):
    """The smallest network within the limit.

    Attributes:
        made: what was made; None where only the original is within.
        share: of what was minimised that it was allowed.
        tries: all that were tried, the largest first.
    """

    made: M | None
    share: float
    tries: list[TryReport]


def smallest(
    allocator: Allocator,
    kind: Limit,
    limit: float,
    make: Callable[[Mapping[Group, int]], M],
    measure: Callable[[M], Evaluation],
    clock: Clock,
) -> Found[M]:
    """Try networks of several sizes, and keep the smallest that loses no more than `limit`.

    It is taken for granted that a smaller network loses more; where a size in between would have
    been an exception, it is not found.

    Args:
        allocator: gives the units of each size; its spec says what is `minimise`d.
        kind: what is measured of each network.
        limit: what it may be at most.
        make: the network with so many units per group.
        measure: it, beside the original.
        clock: told of every try.
    """
    size = allocator.spec.minimise
    with clock.step("allocate"):
        least = allocator.least(size)
    reports: dict[frozenset[tuple[Group, int]], TryReport] = {}
    best: M | None = None

    def holds(share: float) -> bool:
        nonlocal best
        counts = allocator.nearest({size: share})
        if not counts:
            return True  # It is the original.
        key = frozenset(counts.items())
        if key not in reports:
            network = make(counts)
            reports[key] = _tried(kind, limit, share, measure(network))
            # Sizes fall as long as networks are within, so the last of these is the smallest.
            best = network if reports[key].within else best
        return reports[key].within

    with clock.step("search", tries(least, 1.0)):
        share = boundary(holds, least, 1.0, above=True, progress=clock.report)
    falling = sorted(reports.values(), key=lambda report: -report.share)
    return Found(best, 1.0 if best is None or share is None else share, falling)


def judges(
    kind: Limit, calibration: Dataset | None, evaluation: Dataset | None
) -> tuple[Dataset | None, Dataset]:
    """The calibration samples that may be used, and those to measure the tries on.

    Evaluation samples if they can tell; else part of the calibration samples, which then are kept
    out of everything else: on samples that a network was fitted to, it looks better than it is.

    Raises:
        IntraFusionError: `DATASET_TOO_SMALL` without samples; `DATASET_LABELS_INVALID` without
            labels where accuracy is to be measured.
    """
    labelled = kind == "max_accuracy_drop"
    what = "samples with labels" if labelled else "samples"
    if evaluation is None and calibration is None:
        raise IntraFusionError(
            ErrorCode.DATASET_TOO_SMALL,
            f"The budget {kind} needs {what} to measure on, and there are none.",
            f"Give evaluation {what}.",
        )
    for given in (evaluation, calibration):
        if given is None or (labelled and given.labels is None):
            continue
        if given is evaluation:
            return calibration, given
        if len(given) < HELD_OUT:
            raise IntraFusionError(
                ErrorCode.DATASET_TOO_SMALL,
                f"{kind} needs some of the {len(given)} calibration samples to measure on.",
                f"Give evaluation {what}, or at least {HELD_OUT} calibration samples.",
            )
        return given.split(HELD_OUT)
    raise IntraFusionError(
        ErrorCode.DATASET_LABELS_INVALID,
        f"The budget {kind} needs labels, and none of the samples have any.",
        "Add the array 'labels' to the evaluation set, or use max_output_distance.",
    )


def report_of(allocator: Allocator, found: Found[M], judged_on: Dataset) -> SearchReport:
    """What the search tells the user."""
    spec = allocator.spec
    assert spec.limit is not None
    kind, limit = spec.limit
    return SearchReport(
        budget=kind,
        limit=limit,
        minimised=spec.minimise,
        samples=len(judged_on),
        tries=found.tries,
    )


def _tried(kind: Limit, limit: float, share: float, result: Evaluation) -> TryReport:
    lost = result.fidelity.relative_distance
    if kind == "max_accuracy_drop":
        assert result.before.accuracy is not None
        assert result.after.accuracy is not None
        lost = result.before.accuracy - result.after.accuracy
    return TryReport(
        share=share,
        parameters=result.after.parameters,
        macs=result.after.macs,
        accuracy=result.after.accuracy,
        relative_distance=result.fidelity.relative_distance,
        within=lost <= limit + NOISE,
    )
