"""API keys, as the operator makes and revokes them."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from intrafusion.errors import ErrorCode, IntraFusionError
from service.ids import new_id
from service.settings import Settings
from service.store import keys as store
from service.store.database import Database
from service.store.records import KeyRecord

_PREFIX = "ifk_"
_SECRET_BYTES = 24
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ApiKey:
    """What is known of a key; never the key itself."""

    id: str
    name: str
    tenant: str
    created_at: datetime
    revoked_at: datetime | None


def open_database(home: Path) -> Database:
    """The records of the installation in `home`, or of the one that `DATABASE_URL` names."""
    database = Database(Settings(home=home).database)
    database.migrate()
    return database


def digest(key: str) -> str:
    """What is kept of a key.

    A fast hash is enough: a key is 192 random bits, which nobody guesses, unlike a password.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def create_api_key(*, database: Database, name: str, tenant: str) -> tuple[str, ApiKey]:
    """Make a key; returns it, for the only time, and what is known of it.

    Raises `BAD_REQUEST` for a tenant's name of other than letters, digits, `.`, `_` and `-`.
    """
    if not _TENANT.fullmatch(tenant):
        raise IntraFusionError(
            ErrorCode.BAD_REQUEST,
            f"{tenant!r} is no name for a tenant.",
            "Use up to 64 letters, digits, dots, dashes and underscores.",
        )
    key = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    with database.write() as session:
        record = store.add_api_key(
            session, id=new_id("key"), tenant=tenant, name=name[:255], sha256=digest(key)
        )
        return key, _known(record)


def list_api_keys(*, database: Database) -> list[ApiKey]:
    """All keys, oldest first, revoked ones too."""
    with database.read() as session:
        return [_known(record) for record in store.list_api_keys(session)]


def revoke_api_key(*, database: Database, id: str) -> None:  # noqa: A002
    """Let a key open nothing from now on. Raises `NOT_FOUND`."""
    with database.write() as session:
        if not store.revoke_api_key(session, id):
            raise IntraFusionError(
                ErrorCode.NOT_FOUND, f"There is no key {id}.", "intrafusion keys list shows them."
            )


def _known(record: KeyRecord) -> ApiKey:
    return ApiKey(
        id=record.id,
        name=record.name,
        tenant=record.tenant,
        created_at=record.created_at,
        revoked_at=record.revoked_at,
    )
