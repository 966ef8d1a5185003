"""Whose request it is: an API key names its tenant."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from fastapi import Request

from intrafusion.errors import ErrorCode, IntraFusionError
from service.keys import digest
from service.settings import Settings
from service.store.database import Database
from service.store.keys import any_api_key, find_tenant
from service.store.records import DEFAULT_TENANT

COOKIE = "intrafusion_key"
"""Carries the key of someone who signed in to the page; accepted only for reading."""


def authenticate(*, database: Database, settings: Settings, key: str | None) -> str:
    """The tenant that `key` belongs to.

    Raises `UNAUTHENTICATED` for no key or one that opens nothing. Without a key everything
    belongs to the default tenant where settings allow that and no key was ever made.
    """
    with database.read() as session:
        if key is not None:
            tenant = find_tenant(session, digest(key))
            if tenant is not None:
                return tenant
        elif settings.keys == "optional" and not any_api_key(session):
            return DEFAULT_TENANT
    said = "The API key is unknown or revoked." if key else "The request has no API key."
    raise with_headers(
        IntraFusionError(
            ErrorCode.UNAUTHENTICATED,
            said,
            "Send `Authorization: Bearer <key>`; the operator makes keys with "
            "`intrafusion keys create NAME`.",
        ),
        {"WWW-Authenticate": "Bearer"},
    )


def refuse_other_sites(request: Request) -> None:
    """Raise `FORBIDDEN` for a change that another site's page has a visitor's browser ask for."""
    if request.method in ("GET", "HEAD"):
        return
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("Host")
    if foreign or site not in ("same-origin", "none"):
        raise IntraFusionError(
            ErrorCode.FORBIDDEN,
            "Another site's page sent this request.",
            "Send it from a program, or from this server's own page.",
            origin=origin,
        )


def with_headers(error: IntraFusionError, headers: dict[str, str]) -> IntraFusionError:
    """`error`, whose answer is to have these headers too."""
    told: Any = error
    told.headers = headers
    return error
