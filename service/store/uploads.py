"""Models and datasets: what is known of stored bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.store.database import now
from service.store.records import DatasetRecord, ModelRecord

Upload = TypeVar("Upload", ModelRecord, DatasetRecord)


def add_upload(
    session: Session,
    table: type[Upload],
    *,
    id: str,  # noqa: A002
    sha256: str,
    bytes: int,  # noqa: A002
    kind: str,
    name: str | None,
) -> tuple[Upload, bool]:
    """The upload with these bytes, and whether it is new; the first one keeps its id and name."""
    known = find_by_sha256(session, table, sha256)
    if known is not None:
        return known, False
    record = table(id=id, sha256=sha256, bytes=bytes, kind=kind, name=name, created_at=now())
    session.add(record)
    session.flush()
    return record, True


def find_by_sha256(session: Session, table: type[Upload], sha256: str) -> Upload | None:
    """The upload with these bytes."""
    return session.scalar(select(table).where(table.sha256 == sha256))


def find_upload(session: Session, table: type[Upload], id: str) -> Upload | None:  # noqa: A002
    """The upload with this id."""
    return session.get(table, id)


def list_uploads(
    session: Session, table: type[Upload], *, before: str | None, limit: int
) -> Sequence[Upload]:
    """Up to `limit` uploads, newest first, older than the one with the id `before`."""
    query = select(table).order_by(table.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.id < before)
    return session.scalars(query).all()
