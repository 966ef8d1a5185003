"""What the server is, what it offers and whether it is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from fastapi import APIRouter
from pydantic import BaseModel

from intrafusion.api import Page
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.architectures import ARCHITECTURES
from intrafusion.spec import METHODS, CompressionSpec
from service.api.deps import KEY_NEEDED, Resources, ResourcesDep
from service.problems import responses
from service.store.workers import count_alive

router = APIRouter(tags=["meta"])
log = structlog.get_logger()


class Method(BaseModel):
    """A way of compressing, and the JSON Schema of its spec."""

    name: str
    description: str
    spec: dict[str, Any]


class ArchitectureName(BaseModel):
    """What `architecture.name` of a job may be."""

    name: str


class Health(BaseModel):
    """What is well."""

    status: str = "ok"
    checks: dict[str, str] = {}


@router.get("/v1/methods", operation_id="list_methods", dependencies=[KEY_NEEDED])
def list_methods() -> Page[Method]:
    """The methods and what their specs may say."""
    schema = CompressionSpec.model_json_schema()
    return Page(
        data=[
            Method(name=name, description=description, spec=schema)
            for name, description in METHODS.items()
        ]
    )


@router.get("/v1/architectures", operation_id="list_architectures", dependencies=[KEY_NEEDED])
def list_architectures() -> Page[ArchitectureName]:
    """The architectures a state dict may belong to, as far as this host has their packages."""
    return Page(data=[ArchitectureName(name=name) for name in ARCHITECTURES])


@router.get("/healthz", operation_id="get_health")
async def get_health() -> Health:
    """Whether the process answers."""
    return Health()


@router.get("/readyz", operation_id="get_readiness", responses=responses(ErrorCode.UNAVAILABLE))
def get_readiness(resources: ResourcesDep) -> Health:
    """Whether jobs can be taken and worked on: database, queue, blob store and a live worker."""
    checks = {name: _outcome(name, check, resources) for name, check in _CHECKS.items()}
    failing = [name for name, outcome in checks.items() if outcome != "ok"]
    if failing:
        raise IntraFusionError(
            ErrorCode.UNAVAILABLE,
            f"Not ready: {', '.join(failing)}.",
            "Wait and ask again; if it stays so, the server's log says why.",
            checks=checks,
        )
    return Health(checks=checks)


def _check_worker(resources: Resources) -> None:
    with resources.database.read() as session:
        if not count_alive(session, within_seconds=resources.settings.worker_alive_seconds):
            raise RuntimeError("no worker has said lately that it is alive")


_CHECKS: dict[str, Callable[[Resources], Any]] = {
    "database": lambda resources: resources.database.ping(),
    "queue": lambda resources: resources.queue.length(),
    "blobs": lambda resources: resources.blobs.ping(),
    "worker": _check_worker,
}


def _outcome(name: str, check: Callable[[Resources], Any], resources: Resources) -> str:
    try:
        check(resources)
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer is "not ready" and why
        log.warning("not ready", check=name, reason=str(error))
        return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return "ok"
