"""Which workers are alive."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from service.store.database import now
from service.store.records import WorkerRecord


def beat(session: Session, *, name: str, draining: bool = False) -> None:
    """Say that the worker is alive, and whether it was told to stop."""
    record = session.get(WorkerRecord, name)
    if record is None:
        record = WorkerRecord(name=name, started_at=now())
        session.add(record)
    record.heartbeat_at, record.draining = now(), draining


def retire_worker(session: Session, name: str) -> None:
    """Forget a worker that stopped."""
    session.execute(delete(WorkerRecord).where(WorkerRecord.name == name))


def is_draining(session: Session, name: str) -> bool:
    """Whether the worker was told to stop."""
    return bool(session.scalar(select(WorkerRecord.draining).where(WorkerRecord.name == name)))


def count_alive(session: Session, *, within_seconds: float) -> int:
    """How many workers said within that time that they are alive and not stopping."""
    since = now() - timedelta(seconds=within_seconds)
    query = select(func.count()).where(
        WorkerRecord.heartbeat_at >= since, WorkerRecord.draining.is_(False)
    )
    return session.scalar(query) or 0
