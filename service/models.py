"""Uploaded networks."""

from __future__ import annotations

from intrafusion.api import Model, Page
from intrafusion.program.sniff import kind_of
from service.store.blobs import Incoming
from service.store.database import Database
from service.store.records import ModelRecord
from service.uploads import described, get_upload, keep_upload, page_uploads, remove_upload


def keep_model(
    *,
    database: Database,
    tenant: str,
    quota: int | None,
    incoming: Incoming,
    stated_sha256: str | None,
    name: str | None,
) -> tuple[Model, bool]:
    """Check and keep an uploaded network; returns it and whether it is new.

    Raises `NOT_A_MODEL`, `CORRUPT_MODEL`, `UNSAFE_PICKLE` or `CHECKSUM_MISMATCH`; then
    nothing is kept.
    """
    record, new = keep_upload(
        database=database,
        tenant=tenant,
        quota=quota,
        table=ModelRecord,
        prefix="model",
        incoming=incoming,
        stated_sha256=stated_sha256,
        name=name,
        sniff=kind_of,
    )
    return described(record, Model), new


def get_model(*, database: Database, tenant: str, id: str) -> Model:  # noqa: A002
    """The network with this id. Raises `NOT_FOUND`."""
    return described(get_upload(database=database, tenant=tenant, table=ModelRecord, id=id), Model)


def list_models(
    *,
    database: Database,
    tenant: str,
    cursor: str | None = None,
    limit: int = 50,
    sha256: str | None = None,
    name: str | None = None,
) -> Page[Model]:
    """A page of networks, newest first."""
    records, following = page_uploads(
        database=database,
        tenant=tenant,
        table=ModelRecord,
        cursor=cursor,
        limit=limit,
        sha256=sha256,
        name=name,
    )
    return Page(data=[described(record, Model) for record in records], next=following)


def delete_model(*, database: Database, tenant: str, id: str) -> None:  # noqa: A002
    """Forget a network. Raises `NOT_FOUND`, or `CONFLICT` while a job still reads it."""
    remove_upload(database=database, tenant=tenant, table=ModelRecord, id=id)
