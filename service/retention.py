"""What has outlived its use: old jobs, uploads nobody refers to, bytes without a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice

import structlog

from service.settings import Settings
from service.store import jobs, uploads
from service.store.blobs import Blobs
from service.store.database import Database, now
from service.store.records import DatasetRecord, ModelRecord
from service.store.references import find_referenced
from service.store.uploads import Upload

log = structlog.get_logger()

_BATCH = 200


def expire_records(*, database: Database, settings: Settings) -> int:
    """Delete ended jobs and unused uploads older than `retention_days`; returns how many."""
    if settings.retention_days is None:
        return 0
    before = now() - timedelta(days=settings.retention_days)
    expired = 0
    while True:
        with database.write() as session:
            found = jobs.list_ended(session, before=before, limit=_BATCH)
            expired += sum(jobs.delete_job(session, job_id) for job_id in found)
        if len(found) < _BATCH:
            break
    expired += _expire_unused(database, ModelRecord, before)
    expired += _expire_unused(database, DatasetRecord, before)
    if expired:
        log.info("deleted what was older than the retention time", records=expired)
    return expired


def _expire_unused(database: Database, table: type[Upload], before: datetime) -> int:
    with database.write() as session:
        unused = uploads.list_unused(session, table, before=before)
        for upload_id in unused:
            uploads.delete_upload(session, table, upload_id)
    return len(unused)


def collect_orphans(*, database: Database, blobs: Blobs, settings: Settings) -> int:
    """Remove bytes that no record refers to and that are not new; returns how many blobs.

    Bytes are stored before their record is written, so that new ones may yet get one.
    """
    before = now() - timedelta(hours=settings.orphan_hours)
    removed = 0
    for digests in _batches(blobs.list_old(before=before)):
        with database.read() as session:
            referenced = find_referenced(session, digests)
        for sha256 in set(digests) - referenced:
            removed += blobs.remove_old(sha256, before=before)
    if removed:
        log.info("removed bytes that nothing referred to", blobs=removed)
    return removed


def _batches(digests: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(digests)
    while batch := list(islice(rest, _BATCH)):
        yield batch
