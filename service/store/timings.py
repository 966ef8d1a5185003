"""How long things took, counted in the records: the same histograms from every API process.

Counts outlive the jobs that made them, so that Prometheus sees numbers which only grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from sqlalchemy import CursorResult, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.store.records import TimingRecord

Timed = Literal["queue_wait", "step"]

BOUNDS: Mapping[str, float] = {
    str(bound): bound
    for bound in (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
} | {"+Inf": float("inf")}
"""The upper bounds of the histograms in seconds, as Prometheus writes them."""


@dataclass
class Timings:
    """One histogram: how often something took at most so long, by upper bound."""

    timed: Timed
    label: str
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)


def add_timing(session: Session, timed: Timed, seconds: float, *, label: str = "") -> None:
    """Count something that took `seconds`."""
    bound = next(text for text, limit in BOUNDS.items() if seconds <= limit)
    if _count(session, timed, label, bound, seconds):
        return
    try:
        with session.begin_nested():
            session.add(
                TimingRecord(timed=timed, label=label, bound=bound, count=1, seconds=seconds)
            )
    except IntegrityError:  # another worker counted the first one in this very moment
        _count(session, timed, label, bound, seconds)


def _count(session: Session, timed: Timed, label: str, bound: str, seconds: float) -> bool:
    result = session.execute(
        update(TimingRecord)
        .where(
            TimingRecord.timed == timed, TimingRecord.label == label, TimingRecord.bound == bound
        )
        .values(count=TimingRecord.count + 1, seconds=TimingRecord.seconds + seconds)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def list_timings(session: Session) -> Iterator[Timings]:
    """All histograms, with counts that add up from bound to bound."""
    query = select(TimingRecord).order_by(TimingRecord.timed, TimingRecord.label)
    for (timed, label), group in groupby(session.scalars(query), lambda r: (r.timed, r.label)):
        records = {record.bound: record for record in group}
        found = Timings(timed, label, sum(record.seconds for record in records.values()))
        total = 0
        for bound in BOUNDS:
            total += records[bound].count if bound in records else 0
            found.counts[bound] = total
        yield found
