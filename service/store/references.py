"""Which stored bytes some record still refers to."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, union
from sqlalchemy.orm import Session

from service.store.records import ArtifactRecord, DatasetRecord, ModelRecord

_TABLES = (ModelRecord, DatasetRecord, ArtifactRecord)


def find_referenced(session: Session, digests: Sequence[str]) -> set[str]:
    """Those of these SHA-256 that an upload or an artifact has."""
    queries = [select(table.sha256).where(table.sha256.in_(digests)) for table in _TABLES]
    return set(session.scalars(union(*queries)))
