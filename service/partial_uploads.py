"""Uploads that arrive in parts and may be resumed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from intrafusion.api import PartialUpload
from intrafusion.errors import ErrorCode, IntraFusionError
from service.datasets import DATASETS
from service.ids import new_id
from service.models import MODELS
from service.settings import Settings
from service.store import partial_uploads as store
from service.store.database import Database, now
from service.store.parts import Parts
from service.store.records import PartialUploadRecord
from service.uploads import Uploads

_LEAST_BYTES_PER_SECOND = 20e6
"""How fast the parts of a file are put together at the slowest."""

_KINDS: dict[str, Uploads[Any, Any]] = {"model": MODELS, "dataset": DATASETS}


def begin_partial(
    *,
    database: Database,
    parts: Parts,
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
        parts.begin(record.id)
    return _described(record, parts)


def get_partial(*, database: Database, parts: Parts, tenant: str, id: str) -> PartialUpload:  # noqa: A002
    """How much of it has arrived. Raises `NOT_FOUND`."""
    return _described(_find(database, tenant, id), parts)


def delete_partial(*, database: Database, parts: Parts, tenant: str, id: str) -> None:  # noqa: A002
    """Let go of it and what has arrived. Raises `NOT_FOUND`."""
    _find(database, tenant, id)
    _remove(database, parts, id)


def finish_partial(
    *,
    database: Database,
    parts: Parts,
    settings: Settings,
    tenant: str,
    id: str,  # noqa: A002
) -> PartialUpload:
    """Make the whole file the model or dataset that it was announced as.

    Raises what uploading it at once would raise; then nothing is kept of it. Raises `CONFLICT`
    while another request does the same: that both do it is harmless, and a waste.
    """
    record = _find(database, tenant, id)
    with database.write() as session:
        seconds = 60 + record.length / _LEAST_BYTES_PER_SECOND
        claimed = store.claim_finish(session, id, seconds=seconds)
    if not claimed:
        return _finished(database, parts, tenant, id)
    try:
        with parts.whole(id) as incoming:
            upload, _ = _KINDS[record.kind].keep(
                database=database,
                tenant=tenant,
                quota=settings.quota_stored_bytes,
                incoming=incoming,
                stated_sha256=None,
                name=record.name,
            )
    except IntraFusionError:
        _remove(database, parts, id)
        raise
    except BaseException as error:
        record = _find(database, tenant, id)
        if isinstance(error, FileNotFoundError) and record.upload_id is not None:
            return _described(record, parts)  # another request was first, after all
        with database.write() as session:
            store.release_finish(session, id)
        raise
    with database.write() as session:
        store.finish(session, id, upload_id=upload.id)
    parts.remove(id)
    return _described(_find(database, tenant, id), parts)


def _finished(database: Database, parts: Parts, tenant: str, id: str) -> PartialUpload:  # noqa: A002
    """What another request made of it. Raises `CONFLICT` where that is still at it."""
    record = _find(database, tenant, id)
    if record.upload_id is None:
        raise IntraFusionError(
            ErrorCode.CONFLICT,
            f"All of {id} has arrived, and another request is checking it.",
            "Send an empty part at its end in a while, to be told what it became.",
            offset=record.length,
        )
    return _described(record, parts)


def remove_stale(*, database: Database, parts: Parts, settings: Settings) -> int:
    """Let go of what was begun more than `partial_hours` ago; returns how many.

    Parts without an upload, which a killed process may leave, go when they are as old.
    """
    before = now() - timedelta(hours=settings.partial_hours)
    with database.read() as session:
        stale = store.list_stale(session, before=before)
    for upload_id in stale:
        _remove(database, parts, upload_id)
    parts.remove_old(before=before)
    return len(stale)


def _remove(database: Database, parts: Parts, upload_id: str) -> None:
    with database.write() as session:
        store.delete_partial(session, upload_id)
    parts.remove(upload_id)


def _find(database: Database, tenant: str, id: str) -> PartialUploadRecord:  # noqa: A002
    with database.read() as session:
        record = store.find_partial(session, id, tenant=tenant)
    if record is None:
        raise IntraFusionError(
            ErrorCode.NOT_FOUND,
            f"There is no upload {id}.",
            "It was given up, or refused when all of it had arrived; begin a new one with "
            "POST /v1/uploads.",
            id=id,
        )
    return record


def _described(record: PartialUploadRecord, parts: Parts) -> PartialUpload:
    return PartialUpload.model_validate(
        {
            "id": record.id,
            "kind": record.kind,
            "offset": record.length if record.upload_id else parts.arrived(record.id),
            "length": record.length,
            "result": record.upload_id,
        }
    )
