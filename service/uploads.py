"""What models and datasets have in common: bytes that are checked, kept once and listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from intrafusion import api
from intrafusion.api import Page
from intrafusion.errors import ErrorCode, IntraFusionError
from service.ids import Prefix, new_id
from service.store.blobs import Incoming
from service.store.database import Database
from service.store.uploads import (
    Upload,
    add_upload,
    count_stored_bytes,
    delete_upload,
    find_by_sha256,
    find_reader,
    find_upload,
    list_uploads,
)

Described = TypeVar("Described", bound=api.Upload)

Sniff = Callable[[Path], str]
"""Names what a file is by looking at it, or raises `IntraFusionError`. Runs none of its code."""


@dataclass(frozen=True)
class Uploads(Generic[Upload, Described]):
    """All uploads of one sort, as every tenant sees its own.

    Attributes:
        table: where they are recorded.
        prefix: of their ids.
        described: what the API tells of one.
        sniff: says what a file is, and refuses what does not belong here.
    """

    table: type[Upload]
    prefix: Prefix
    described: type[Described]
    sniff: Sniff

    def keep(
        self,
        *,
        database: Database,
        tenant: str,
        quota: int | None,
        incoming: Incoming,
        stated_sha256: str | None,
        name: str | None,
    ) -> tuple[Described, bool]:
        """Check what arrived and keep it; returns it and whether these bytes are new.

        Raises `CHECKSUM_MISMATCH` where the bytes are not the ones the client stated,
        `STORAGE_QUOTA` where the tenant would keep more than `quota` bytes, and what `sniff`
        raises; then nothing is kept.
        """
        blob = incoming.finish()
        if stated_sha256 is not None and stated_sha256 != blob.sha256:
            raise IntraFusionError(
                ErrorCode.CHECKSUM_MISMATCH,
                f"The bytes that arrived have SHA-256 {blob.sha256}, not {stated_sha256}.",
                "Send the file again.",
                received=blob.sha256,
                stated=stated_sha256,
            )
        with database.read() as session:
            known = find_by_sha256(session, self.table, blob.sha256, tenant=tenant)
        if known is not None:
            return self._described(known), False
        if quota is not None:
            _check_room(database, tenant, quota, blob.bytes)
        kind = self.sniff(incoming.path)
        incoming.keep()
        file_name = Path(name.replace("\\", "/")).name[:255] if name else None
        try:
            with database.write() as session:
                record, new = add_upload(
                    session,
                    self.table,
                    tenant=tenant,
                    id=new_id(self.prefix),
                    sha256=blob.sha256,
                    bytes=blob.bytes,
                    kind=kind,
                    name=file_name or None,
                )
            return self._described(record), new
        except IntegrityError:  # the same bytes arrived elsewhere in this very moment
            with database.read() as session:
                known = find_by_sha256(session, self.table, blob.sha256, tenant=tenant)
            assert known is not None
            return self._described(known), False

    def get(self, *, database: Database, tenant: str, id: str) -> Described:  # noqa: A002
        """The upload with this id. Raises `NOT_FOUND`."""
        with database.read() as session:
            return self._described(self._find(session, id, tenant))

    def page(
        self,
        *,
        database: Database,
        tenant: str,
        cursor: str | None,
        limit: int,
        sha256: str | None,
        name: str | None,
    ) -> Page[Described]:
        """A page of uploads, newest first."""
        with database.read() as session:
            found = list_uploads(
                session,
                self.table,
                tenant=tenant,
                before=cursor,
                limit=limit + 1,
                sha256=sha256,
                name=name,
            )
        following = found[limit - 1].id if len(found) > limit else None
        return Page(data=[self._described(record) for record in found[:limit]], next=following)

    def remove(self, *, database: Database, tenant: str, id: str) -> None:  # noqa: A002
        """Forget an upload. Raises `NOT_FOUND`, or `CONFLICT` while a job still reads it."""
        with database.write() as session:
            self._find(session, id, tenant)
            reader = find_reader(session, id)
            if reader is not None:
                raise IntraFusionError(
                    ErrorCode.CONFLICT,
                    f"{id} is read by {reader}, which has not ended.",
                    "Cancel that job or wait for its end.",
                    job=reader,
                )
            delete_upload(session, self.table, id)

    def _find(self, session: Session, id: str, tenant: str) -> Upload:  # noqa: A002
        record = find_upload(session, self.table, id, tenant=tenant)
        if record is None:
            plural = self.table.__tablename__
            raise IntraFusionError(
                ErrorCode.NOT_FOUND,
                f"There is no {plural.removesuffix('s')} {id}.",
                f"GET /v1/{plural} lists them; POST to it uploads one.",
                id=id,
            )
        return record

    def _described(self, record: Upload) -> Described:
        return self.described(
            id=record.id,
            sha256=record.sha256,
            bytes=record.bytes,
            kind=record.kind,
            name=record.name,
            created_at=record.created_at,
        )


def _check_room(database: Database, tenant: str, quota: int, more: int) -> None:
    with database.read() as session:
        stored = count_stored_bytes(session, tenant=tenant)
    if stored + more > quota:
        raise IntraFusionError(
            ErrorCode.STORAGE_QUOTA,
            f"{stored:,} bytes are stored, and these {more:,} would exceed the {quota:,} allowed.",
            "Delete models, datasets or jobs that are no longer needed.",
            stored=stored,
            quota=quota,
        )
