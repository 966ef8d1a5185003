"""Models and datasets: what is known of stored bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from intrafusion.api import ENDED
from service.store.database import now
from service.store.records import ArtifactRecord, DatasetRecord, JobRecord, ModelRecord

Upload = TypeVar("Upload", ModelRecord, DatasetRecord)


def add_upload(
    session: Session,
    table: type[Upload],
    *,
    tenant: str,
    id: str,  # noqa: A002
    sha256: str,
    bytes: int,  # noqa: A002
    kind: str,
    name: str | None,
) -> tuple[Upload, bool]:
    """The upload with these bytes, and whether it is new; the first one keeps its id and name."""
    known = find_by_sha256(session, table, sha256, tenant=tenant)
    if known is not None:
        return known, False
    record = table(
        id=id, tenant=tenant, sha256=sha256, bytes=bytes, kind=kind, name=name, created_at=now()
    )
    session.add(record)
    session.flush()
    return record, True


def find_by_sha256(
    session: Session, table: type[Upload], sha256: str, *, tenant: str
) -> Upload | None:
    """The tenant's upload with these bytes."""
    return session.scalar(select(table).where(table.tenant == tenant, table.sha256 == sha256))


def find_upload(
    session: Session,
    table: type[Upload],
    id: str,  # noqa: A002
    *,
    tenant: str,
) -> Upload | None:
    """The tenant's upload with this id."""
    return session.scalar(select(table).where(table.tenant == tenant, table.id == id))


def find_inspection(session: Session, model_id: str) -> dict[str, Any] | None:
    """What a worker found in a model; None before one has looked."""
    return session.scalar(select(ModelRecord.inspection).where(ModelRecord.id == model_id))


def keep_inspection(session: Session, model_id: str, found: dict[str, Any]) -> None:
    """Note what a worker found in a model, unless the model was deleted meanwhile."""
    session.execute(update(ModelRecord).where(ModelRecord.id == model_id).values(inspection=found))


def list_uploads(
    session: Session,
    table: type[Upload],
    *,
    tenant: str,
    before: str | None,
    limit: int,
    sha256: str | None = None,
    name: str | None = None,
) -> Sequence[Upload]:
    """Up to `limit` uploads of the tenant, newest first, older than the one with the id `before`.

    `sha256` and `name` let only uploads of these bytes, or of this file name, through.
    """
    query = select(table).where(table.tenant == tenant).order_by(table.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.id < before)
    if sha256 is not None:
        query = query.where(table.sha256 == sha256)
    if name is not None:
        query = query.where(table.name == name)
    return session.scalars(query).all()


def find_reader(session: Session, id: str) -> str | None:  # noqa: A002
    """The id of a job that has not ended and reads this upload."""
    return session.scalar(
        select(JobRecord.id).where(_reads(id), JobRecord.status.not_in(ENDED)).limit(1)
    )


def delete_upload(session: Session, table: type[Upload], id: str) -> None:  # noqa: A002
    """Forget an upload; its bytes are collected once nothing else refers to them."""
    session.execute(delete(table).where(table.id == id))


def list_unused(session: Session, table: type[Upload], *, before: datetime) -> Sequence[str]:
    """Ids of uploads made before that moment that no job, ended or not, refers to."""
    return session.scalars(
        select(table.id).where(table.created_at < before, ~exists().where(_reads(table.id)))
    ).all()


def _reads(id: str | InstrumentedAttribute[str]) -> ColumnElement[bool]:  # noqa: A002
    columns = (JobRecord.model_id, JobRecord.calibration_id, JobRecord.evaluation_id)
    return or_(*(column == id for column in columns))


def count_stored_bytes(session: Session, *, tenant: str) -> int:
    """Bytes of all uploads and results of the tenant."""
    results = (
        select(func.sum(ArtifactRecord.bytes))
        .join(JobRecord, JobRecord.id == ArtifactRecord.job_id)
        .where(JobRecord.tenant == tenant)
    )
    sums = [
        select(func.sum(table.bytes)).where(table.tenant == tenant)
        for table in (ModelRecord, DatasetRecord)
    ]
    return sum(int(session.scalar(query) or 0) for query in (*sums, results))
