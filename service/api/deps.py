"""What endpoints need, made once by the lifespan and handed in by FastAPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.auth import COOKIE, authenticate, refuse_other_sites
from service.queue import Queue
from service.rate_limit import RateLimit
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.parts import Parts
from service.upkeep import Upkeep


@dataclass(frozen=True)
class Resources:
    """What lives as long as the application."""

    settings: Settings
    database: Database
    blobs: Blobs
    parts: Parts
    queue: Queue
    upkeep: Upkeep
    rate_limit: RateLimit | None


_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="API key",
    description="A key made with `intrafusion keys create`.",
)


# Coroutines although they wait for nothing: FastAPI would send plain functions to a thread.
async def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(_resources)]


async def _settings(resources: ResourcesDep) -> Settings:
    return resources.settings


async def _database(resources: ResourcesDep) -> Database:
    return resources.database


async def _blobs(resources: ResourcesDep) -> Blobs:
    return resources.blobs


def _tenant(
    request: Request,
    resources: ResourcesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> str:
    """Whose request it is; counts it."""
    if credentials is None:  # only a key that is sent on purpose shows that a change is meant
        refuse_other_sites(request)
    key = credentials.credentials if credentials else None
    if key is None and request.method in ("GET", "HEAD"):
        key = request.cookies.get(COOKIE)
    tenant = authenticate(database=resources.database, settings=resources.settings, key=key)
    structlog.contextvars.bind_contextvars(tenant=tenant)
    if resources.rate_limit is not None:
        request.state.headers = resources.rate_limit.take(tenant)
    return tenant


KEY_NEEDED = Depends(_tenant)
TenantDep = Annotated[str, KEY_NEEDED]
SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[Database, Depends(_database)]
BlobsDep = Annotated[Blobs, Depends(_blobs)]

Cursor = Annotated[str | None, Query(description="`next` of the page before.", max_length=64)]
Limit = Annotated[int, Query(description="Most entries on the page.", ge=1, le=200)]
