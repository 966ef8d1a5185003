"""Uploads that arrive in parts and may be resumed, each part appended to a file on this host."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from intrafusion.api import PartialUpload
from intrafusion.errors import ErrorCode, IntraFusionError
from service.datasets import DATASETS
from service.ids import new_id
from service.models import MODELS
from service.settings import Settings
from service.store import partial_uploads as store
from service.store.blobs import Blobs
from service.store.database import Database, now
from service.store.records import PartialUploadRecord
from service.uploads import Uploads

_KINDS: dict[str, Uploads[Any, Any]] = {"model": MODELS, "dataset": DATASETS}


def begin_partial(
    *,
    database: Database,
    blobs: Blobs,
    settings: Settings,
    tenant: str,
    kind: str,
    name: str | None,
    length: int,
) -> PartialUpload:
    """Make room for a file. Raises `BAD_REQUEST` for its kind or `UPLOAD_TOO_LARGE`."""
    if kind not in _KINDS:
        raise IntraFusionError(
            ErrorCode.BAD_REQUEST,
            f"The upload's kind is {kind!r}.",
            "Say `model` or `dataset` (in base64) as `kind` of Upload-Metadata.",
            kinds=list(_KINDS),
        )
    if length > settings.max_upload_bytes:
        raise IntraFusionError(
            ErrorCode.UPLOAD_TOO_LARGE,
            f"The upload is over the limit of {settings.max_upload_bytes:,} bytes.",
            "Send a smaller file, or have the operator raise INTRAFUSION_MAX_UPLOAD_BYTES.",
            limit=settings.max_upload_bytes,
        )
    with database.write() as session:
        record = store.add_partial(
            session,
            id=new_id("upload"),
            tenant=tenant,
            kind=kind,
            name=name and name[:255],
            length=length,
        )
        blobs.partial(record.id).touch()
        return _described(record, blobs)


def get_partial(*, database: Database, blobs: Blobs, tenant: str, id: str) -> PartialUpload:  # noqa: A002
    """How much of it has arrived. Raises `NOT_FOUND`."""
    return _described(_find(database, tenant, id), blobs)


def delete_partial(*, database: Database, blobs: Blobs, tenant: str, id: str) -> None:  # noqa: A002
    """Let go of it and what has arrived. Raises `NOT_FOUND`."""
    _find(database, tenant, id)
    _remove(database, blobs, id)


@contextmanager
def appending(path: Path, offset: int) -> Iterator[BinaryIO]:
    """The file, to be written to from `offset` on by this request alone.

    Raises `CONFLICT` where another request is writing, or where `offset` is not its end.
    """
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise IntraFusionError(
                ErrorCode.CONFLICT,
                "Another request is sending a part of this upload.",
                "Wait for it, then ask with HEAD where to go on.",
            ) from error
        arrived = file.seek(0, os.SEEK_END)
        if arrived != offset:
            raise IntraFusionError(
                ErrorCode.CONFLICT,
                f"{arrived} bytes have arrived; the part begins at {offset}.",
                "Ask with HEAD where to go on.",
                offset=arrived,
            )
        yield file


def finish_partial(
    *,
    database: Database,
    blobs: Blobs,
    settings: Settings,
    tenant: str,
    id: str,  # noqa: A002
) -> PartialUpload:
    """Make the whole file the model or dataset that it was announced as.

    Raises what uploading it at once would raise; then nothing is kept of it.
    """
    record = _find(database, tenant, id)
    path = blobs.partial(id)
    try:
        upload, _ = _KINDS[record.kind].keep(
            database=database,
            tenant=tenant,
            quota=settings.quota_stored_bytes,
            incoming=blobs.whole(path),
            stated_sha256=None,
            name=record.name,
        )
    except IntraFusionError:
        _remove(database, blobs, id)
        raise
    path.unlink(missing_ok=True)
    with database.write() as session:
        found = store.find_partial(session, id, tenant=tenant)
        if found is not None:
            found.upload_id = upload.id
    return _described(_find(database, tenant, id), blobs)


def remove_stale(*, database: Database, blobs: Blobs, settings: Settings) -> int:
    """Let go of what was begun more than `partial_hours` ago; returns how many."""
    before = now() - timedelta(hours=settings.partial_hours)
    with database.read() as session:
        stale = store.list_stale(session, before=before)
    for upload_id in stale:
        _remove(database, blobs, upload_id)
    return len(stale)


def _remove(database: Database, blobs: Blobs, upload_id: str) -> None:
    with database.write() as session:
        store.delete_partial(session, upload_id)
    blobs.partial(upload_id).unlink(missing_ok=True)


def _find(database: Database, tenant: str, id: str) -> PartialUploadRecord:  # noqa: A002
    with database.read() as session:
        record = store.find_partial(session, id, tenant=tenant)
    if record is None:
        raise IntraFusionError(
            ErrorCode.NOT_FOUND,
            f"There is no upload {id}.",
            "It may have been given up; begin a new one with POST /v1/uploads.",
            id=id,
        )
    return record


def _arrived(record: PartialUploadRecord, blobs: Blobs) -> int:
    try:
        return blobs.partial(record.id).stat().st_size
    except FileNotFoundError as elsewhere:
        raise IntraFusionError(
            ErrorCode.UNAVAILABLE,
            f"What has arrived of {record.id} does not lie on this host.",
            "Ask again, for another host to answer; the operator should let the proxy send "
            "/v1/uploads/ of one client to one host.",
            id=record.id,
        ) from elsewhere


def _described(record: PartialUploadRecord, blobs: Blobs) -> PartialUpload:
    arrived = record.length if record.upload_id else _arrived(record, blobs)
    return PartialUpload.model_validate(
        {
            "id": record.id,
            "kind": record.kind,
            "offset": arrived,
            "length": record.length,
            "result": record.upload_id,
        }
    )
