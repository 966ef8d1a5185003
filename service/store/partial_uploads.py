"""Files that arrive in parts: whose they are, how long they will be, and which parts are theirs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from service.store.database import now
from service.store.records import PartialUploadRecord, PartRecord


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
    """Forget one, and its parts; who is about to record another waits, and is then refused."""
    session.get(PartialUploadRecord, id, with_for_update=True)
    delete_parts(session, id)
    session.execute(delete(PartialUploadRecord).where(PartialUploadRecord.id == id))


def list_stale(session: Session, *, before: datetime) -> Sequence[str]:
    """Ids of those begun before that moment."""
    return session.scalars(
        select(PartialUploadRecord.id).where(PartialUploadRecord.created_at < before)
    ).all()


def is_known(session: Session, id: str) -> bool:  # noqa: A002
    """Whether somebody's file has this id."""
    return session.get(PartialUploadRecord, id) is not None


def claim_finish(session: Session, id: str, *, seconds: float) -> bool:  # noqa: A002
    """Keep others from finishing the file for a while; False where another does, or did."""
    moment = now()
    until = PartialUploadRecord.finishing_until
    free = PartialUploadRecord.upload_id.is_(None) & (until.is_(None) | (until < moment))
    return _change(session, id, free, finishing_until=moment + timedelta(seconds=seconds))


def release_finish(session: Session, id: str) -> None:  # noqa: A002
    """Let others try."""
    _change(session, id, finishing_until=None)


def finish(session: Session, id: str, *, upload_id: str) -> None:  # noqa: A002
    """Note what the file became, unless it was given up meanwhile."""
    _change(session, id, upload_id=upload_id)


def _change(session: Session, id: str, *where: ColumnElement[bool], **values: Any) -> bool:  # noqa: A002
    statement = update(PartialUploadRecord).where(PartialUploadRecord.id == id, *where)
    result = session.execute(statement.values(**values))
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def add_part(session: Session, id: str, *, begins: int, bytes: int, name: str) -> None:  # noqa: A002
    """Record a part.

    Raises SQLAlchemy's `IntegrityError` where one begins there already, or where the file is gone.
    """
    session.add(PartRecord(upload_id=id, begins=begins, bytes=bytes, name=name))
    session.flush()


def count_arrived(session: Session, id: str) -> int:  # noqa: A002
    """Bytes of all parts."""
    query = select(func.sum(PartRecord.bytes)).where(PartRecord.upload_id == id)
    return int(session.scalar(query) or 0)


def list_parts(session: Session, id: str) -> Sequence[str]:  # noqa: A002
    """The names of all parts, in their order."""
    return session.scalars(
        select(PartRecord.name).where(PartRecord.upload_id == id).order_by(PartRecord.begins)
    ).all()


def delete_parts(session: Session, id: str) -> None:  # noqa: A002
    """Forget all parts."""
    session.execute(delete(PartRecord).where(PartRecord.upload_id == id))
