"""What models and datasets have in common: bytes that are checked, kept once and listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import IntegrityError

from intrafusion import api
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


def described(record: Upload, kind: type[Described]) -> Described:
    """What the API tells of an upload."""
    return kind(
        id=record.id,
        sha256=record.sha256,
        bytes=record.bytes,
        kind=record.kind,
        name=record.name,
        created_at=record.created_at,
    )


def keep_upload(
    *,
    database: Database,
    tenant: str,
    quota: int | None,
    table: type[Upload],
    prefix: Prefix,
    incoming: Incoming,
    stated_sha256: str | None,
    name: str | None,
    sniff: Sniff,
) -> tuple[Upload, bool]:
    """Check what arrived and keep it; returns its record and whether these bytes are new.

    Raises `CHECKSUM_MISMATCH` where the bytes are not the ones the client stated,
    `STORAGE_QUOTA` where the tenant would keep more than `quota` bytes, and what `sniff` raises.
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
        known = find_by_sha256(session, table, blob.sha256, tenant=tenant)
    if known is not None:
        return known, False
    if quota is not None:
        _check_room(database, tenant, quota, blob.bytes)
    kind = sniff(incoming.path)
    incoming.keep()
    file_name = Path(name.replace("\\", "/")).name[:255] if name else None
    try:
        with database.write() as session:
            return add_upload(
                session,
                table,
                tenant=tenant,
                id=new_id(prefix),
                sha256=blob.sha256,
                bytes=blob.bytes,
                kind=kind,
                name=file_name or None,
            )
    except IntegrityError:  # the same bytes arrived elsewhere in this very moment
        with database.read() as session:
            known = find_by_sha256(session, table, blob.sha256, tenant=tenant)
        assert known is not None
        return known, False


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


def get_upload(
    *,
    database: Database,
    tenant: str,
    table: type[Upload],
    id: str,  # noqa: A002
) -> Upload:
    """The upload with this id. Raises `NOT_FOUND`."""
    with database.read() as session:
        record = find_upload(session, table, id, tenant=tenant)
    if record is None:
        raise _absent(table, id)
    return record


def page_uploads(
    *,
    database: Database,
    tenant: str,
    table: type[Upload],
    cursor: str | None,
    limit: int,
    sha256: str | None,
    name: str | None,
) -> tuple[list[Upload], str | None]:
    """A page of uploads, newest first, and the cursor of the next page."""
    with database.read() as session:
        found = list(
            list_uploads(
                session,
                table,
                tenant=tenant,
                before=cursor,
                limit=limit + 1,
                sha256=sha256,
                name=name,
            )
        )
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def remove_upload(
    *,
    database: Database,
    tenant: str,
    table: type[Upload],
    id: str,  # noqa: A002
) -> None:
    """Forget an upload. Raises `NOT_FOUND`, or `CONFLICT` while a job still reads it."""
    with database.write() as session:
        if find_upload(session, table, id, tenant=tenant) is None:
            raise _absent(table, id)
        reader = find_reader(session, id)
        if reader is not None:
            raise IntraFusionError(
                ErrorCode.CONFLICT,
                f"{id} is read by {reader}, which has not ended.",
                "Cancel that job or wait for its end.",
                job=reader,
            )
        delete_upload(session, table, id)


def _absent(table: type[Upload], id: str) -> IntraFusionError:  # noqa: A002
    what = table.__tablename__.removesuffix("s")
    return IntraFusionError(
        ErrorCode.NOT_FOUND,
        f"There is no {what} {id}.",
        f"GET /v1/{table.__tablename__} lists them; POST to it uploads one.",
        id=id,
    )
