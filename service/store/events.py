"""A job's story: numbered lines, counted without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.store.database import now
from service.store.records import EventRecord, JobRecord

EventKind = Literal["status", "progress", "metric", "log"]


def add_event(session: Session, *, job_id: str, kind: EventKind, data: dict[str, Any]) -> None:
    """Append one line. The count lies in the job's row, whose lock keeps the numbers unique."""
    number = session.scalar(
        update(JobRecord)
        .where(JobRecord.id == job_id)
        .values(event_count=JobRecord.event_count + 1)
        .returning(JobRecord.event_count)
        .execution_options(synchronize_session=False)
    )
    session.add(EventRecord(job_id=job_id, number=number, kind=kind, at=now(), data=data))
    session.flush()


def list_events(session: Session, *, job_id: str, after: int, limit: int) -> Sequence[EventRecord]:
    """Up to `limit` lines with numbers above `after`, in order."""
    return session.scalars(
        select(EventRecord)
        .where(EventRecord.job_id == job_id, EventRecord.number > after)
        .order_by(EventRecord.number)
        .limit(limit)
    ).all()
