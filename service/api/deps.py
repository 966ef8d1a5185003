"""What endpoints need, made once by the lifespan and handed in by FastAPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request

from service.queue import Queue
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.upkeep import Upkeep


@dataclass(frozen=True)
class Resources:
    """What lives as long as the application."""

    settings: Settings
    database: Database
    blobs: Blobs
    queue: Queue
    upkeep: Upkeep


def _resources(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(_resources)]


def _settings(resources: ResourcesDep) -> Settings:
    return resources.settings


def _database(resources: ResourcesDep) -> Database:
    return resources.database


def _blobs(resources: ResourcesDep) -> Blobs:
    return resources.blobs


SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[Database, Depends(_database)]
BlobsDep = Annotated[Blobs, Depends(_blobs)]

Cursor = Annotated[str | None, Query(description="`next` of the page before.", max_length=64)]
Limit = Annotated[int, Query(description="Most entries on the page.", ge=1, le=200)]
