"""Whose request it is: an API key names its tenant, who has so many requests a minute."""

from __future__ import annotations

import math
import time
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

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
    raise _with_headers(
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


class RateLimit:
    """So many requests a minute for each tenant, counted in this process."""

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, tenant: str) -> dict[str, str]:
        """Count a request; returns the headers that tell how many are left.

        Raises `TOO_MANY_REQUESTS` with `Retry-After` when none is.
        """
        granted = self._limiter.hit(self._item, tenant)
        window = self._limiter.get_window_stats(self._item, tenant)
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        headers = {
            "RateLimit-Policy": f'"requests";q={self._item.amount};w=60',
            "RateLimit": f'"requests";r={window.remaining if granted else 0};t={seconds}',
        }
        if granted:
            return headers
        raise _with_headers(
            IntraFusionError(
                ErrorCode.TOO_MANY_REQUESTS,
                f"More than {self._item.amount} requests came within a minute.",
                f"Go on in {seconds} seconds; wait for jobs with ?wait= or a stream of events.",
            ),
            headers | {"Retry-After": str(seconds)},
        )


def _with_headers(error: IntraFusionError, headers: dict[str, str]) -> IntraFusionError:
    told: Any = error
    told.headers = headers
    return error
