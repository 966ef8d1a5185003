"""Uploaded samples."""

from __future__ import annotations

import zipfile
from pathlib import Path

from intrafusion.api import Dataset, Page
from intrafusion.calibration.sniff import check_dataset
from service.store.blobs import Incoming
from service.store.database import Database
from service.store.records import DatasetRecord
from service.uploads import described, get_upload, keep_upload, page_uploads, remove_upload


def keep_dataset(
    *,
    database: Database,
    tenant: str,
    quota: int | None,
    incoming: Incoming,
    stated_sha256: str | None,
    name: str | None,
) -> tuple[Dataset, bool]:
    """Check and keep uploaded samples; returns them and whether they are new.

    Raises `CHECKSUM_MISMATCH` or one of the `DATASET` codes; then nothing is kept.
    """
    record, new = keep_upload(
        database=database,
        tenant=tenant,
        quota=quota,
        table=DatasetRecord,
        prefix="data",
        incoming=incoming,
        stated_sha256=stated_sha256,
        name=name,
        sniff=_kind_of,
    )
    return described(record, Dataset), new


def get_dataset(*, database: Database, tenant: str, id: str) -> Dataset:  # noqa: A002
    """The samples with this id. Raises `NOT_FOUND`."""
    return described(
        get_upload(database=database, tenant=tenant, table=DatasetRecord, id=id), Dataset
    )


def list_datasets(
    *,
    database: Database,
    tenant: str,
    cursor: str | None = None,
    limit: int = 50,
    sha256: str | None = None,
    name: str | None = None,
) -> Page[Dataset]:
    """A page of datasets, newest first."""
    records, following = page_uploads(
        database=database,
        tenant=tenant,
        table=DatasetRecord,
        cursor=cursor,
        limit=limit,
        sha256=sha256,
        name=name,
    )
    return Page(data=[described(record, Dataset) for record in records], next=following)


def delete_dataset(*, database: Database, tenant: str, id: str) -> None:  # noqa: A002
    """Forget samples. Raises `NOT_FOUND`, or `CONFLICT` while a job still reads them."""
    remove_upload(database=database, tenant=tenant, table=DatasetRecord, id=id)


def _kind_of(path: Path) -> str:
    check_dataset(path)
    return "npz" if zipfile.is_zipfile(path) else "safetensors"
