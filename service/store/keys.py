"""API keys: which tenant a key belongs to. A key itself is never stored."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.store.database import now
from service.store.records import KeyRecord


def add_api_key(
    session: Session,
    *,
    id: str,  # noqa: A002
    tenant: str,
    name: str,
    sha256: str,
) -> KeyRecord:
    """Note a key by its SHA-256."""
    record = KeyRecord(id=id, tenant=tenant, name=name, sha256=sha256, created_at=now())
    session.add(record)
    session.flush()
    return record


def find_tenant(session: Session, sha256: str) -> str | None:
    """The tenant of the key with this SHA-256, unless it is revoked."""
    return session.scalar(
        select(KeyRecord.tenant).where(KeyRecord.sha256 == sha256, KeyRecord.revoked_at.is_(None))
    )


def any_api_key(session: Session) -> bool:
    """Whether a key was ever made; revoked ones count, so that revoking opens nothing."""
    return session.scalar(select(KeyRecord.id).limit(1)) is not None


def list_api_keys(session: Session) -> Sequence[KeyRecord]:
    """All keys, oldest first."""
    return session.scalars(select(KeyRecord).order_by(KeyRecord.id)).all()


def revoke_api_key(session: Session, id: str) -> bool:  # noqa: A002
    """Let a key open nothing from now on; False where there is no such key."""
    found = session.scalar(
        update(KeyRecord)
        .where(KeyRecord.id == id)
        .values(revoked_at=now())
        .returning(KeyRecord.id)
        .execution_options(synchronize_session=False)
    )
    return found is not None
