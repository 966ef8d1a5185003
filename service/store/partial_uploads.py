"""Files that arrive in parts: whose they are and how long they will be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.store.database import now
from service.store.records import PartialUploadRecord


def add_partial(
    session: Session,
    *,
    id: str,  # noqa: A002
    tenant: str,
    kind: str,
    name: str | None,
    length: int,
) -> PartialUploadRecord:
    """Note that a file is about to arrive."""
    record = PartialUploadRecord(
        id=id, tenant=tenant, kind=kind, name=name, length=length, created_at=now()
    )
    session.add(record)
    session.flush()
    return record


def find_partial(session: Session, id: str, *, tenant: str) -> PartialUploadRecord | None:  # noqa: A002
    """The tenant's file with this id."""
    return session.scalar(
        select(PartialUploadRecord).where(
            PartialUploadRecord.id == id, PartialUploadRecord.tenant == tenant
        )
    )


def delete_partial(session: Session, id: str) -> None:  # noqa: A002
    """Forget one."""
    session.execute(delete(PartialUploadRecord).where(PartialUploadRecord.id == id))


def list_stale(session: Session, *, before: datetime) -> Sequence[str]:
    """Ids of those begun before that moment."""
    return session.scalars(
        select(PartialUploadRecord.id).where(PartialUploadRecord.created_at < before)
    ).all()
