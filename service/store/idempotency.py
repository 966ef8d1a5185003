"""Which job the first request with an `Idempotency-Key` made."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from service.store.database import now
from service.store.records import IdempotencyRecord


def find_key(session: Session, key: str, *, tenant: str, hours: float) -> IdempotencyRecord | None:
    """What is remembered of the tenant's `key`; keys older than `hours` are forgotten first."""
    session.execute(
        delete(IdempotencyRecord).where(
            IdempotencyRecord.created_at < now() - timedelta(hours=hours)
        )
    )
    return session.get(IdempotencyRecord, (tenant, key))


def remember_key(session: Session, *, tenant: str, key: str, body_sha256: str, job_id: str) -> None:
    """Tie `key` to the job its request made."""
    session.add(
        IdempotencyRecord(
            tenant=tenant, key=key, body_sha256=body_sha256, job_id=job_id, created_at=now()
        )
    )
