"""Webhooks to be sent. One is made with its job and is due once the job has ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from intrafusion.api import ENDED, Webhook
from service.store.database import now
from service.store.records import DeliveryRecord, JobRecord


@dataclass(frozen=True)
class Due:
    """A webhook to be sent now: where to, and what became of the job."""

    job_id: str
    url: str
    secret: str | None
    attempts: int
    status: str
    ended_at: datetime | None


def add_delivery(session: Session, job_id: str, webhook: Webhook) -> None:
    """Have a job's end told."""
    session.add(
        DeliveryRecord(
            job_id=job_id, url=webhook.url, secret=webhook.secret, attempts=0, next_at=now()
        )
    )


def take_due(session: Session, *, hold_seconds: float) -> Due | None:
    """One webhook whose job has ended, held back from others for a while; None if none is due."""
    found = session.execute(
        select(DeliveryRecord, JobRecord.status, JobRecord.ended_at)
        .join(JobRecord, JobRecord.id == DeliveryRecord.job_id)
        .where(DeliveryRecord.next_at <= now(), JobRecord.status.in_(ENDED))
        .order_by(DeliveryRecord.next_at)
        .limit(1)
        .with_for_update(of=DeliveryRecord, skip_locked=True)
    ).first()
    if found is None:
        return None
    record, status, ended_at = found
    record.next_at = now() + timedelta(seconds=hold_seconds)
    record.attempts += 1
    return Due(
        job_id=record.job_id,
        url=record.url,
        secret=record.secret,
        attempts=record.attempts,
        status=status,
        ended_at=ended_at,
    )


def schedule(session: Session, job_id: str, *, next_at: datetime | None) -> None:
    """When a webhook is to be sent again; None for never."""
    session.execute(
        update(DeliveryRecord).where(DeliveryRecord.job_id == job_id).values(next_at=next_at)
    )
