"""The calls of the REST API, as steps."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from intrafusion.api import Job, JobRequest, JobStatus, Page
from intrafusion.client.answers import ResponseT, check, parse
from intrafusion.client.steps import Line, Send, Steps


def submit(line: Line, request: JobRequest, key: str | None) -> Steps[Job]:
    """Queue a job, once however often the request has to be sent."""
    response = yield from line.ask(
        Send(
            "POST",
            "/v1/jobs",
            json=request.model_dump(mode="json", exclude_unset=True),
            headers={"Idempotency-Key": key or uuid.uuid4().hex},
        )
    )
    return parse(response, Job)


def retry(line: Line, job_id: str, key: str | None) -> Steps[Job]:
    """Queue a job that asks for what an ended one asked for."""
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    response = yield from line.ask(Send("POST", f"/v1/jobs/{job_id}/retry", headers=headers))
    return parse(response, Job)


def get(
    line: Line, address: str, kind: type[ResponseT], params: Mapping[str, Any] | None = None
) -> Steps[ResponseT]:
    """What lies at an address."""
    response = yield from line.ask(Send("GET", address, params=params or {}))
    return parse(response, kind)


def post(line: Line, address: str, kind: type[ResponseT]) -> Steps[ResponseT]:
    """What an action at an address comes to."""
    response = yield from line.ask(Send("POST", address))
    return parse(response, kind)


def delete(line: Line, address: str) -> Steps[None]:
    """Have what lies at an address forgotten."""
    yield from line.ask(Send("DELETE", address))


def page(
    line: Line, address: str, params: Mapping[str, Any], kind: type[ResponseT]
) -> Steps[Page[ResponseT]]:
    """One page of a list."""
    found = yield from get(line, address, Page[Any], params)
    return Page(data=[check(entry, kind) for entry in found.data], next=found.next)


def job_params(
    status: JobStatus | None,
    model: str | None,
    method: str | None,
    metadata: Mapping[str, str] | None,
    queued_after: datetime | None,
    queued_before: datetime | None,
) -> dict[str, Any]:
    """The query of a list of jobs; what is None is left out."""
    given = {
        "status": status,
        "model": model,
        "method": method,
        "metadata": [f"{name}:{value}" for name, value in (metadata or {}).items()] or None,
        "queued_after": queued_after and queued_after.isoformat(),
        "queued_before": queued_before and queued_before.isoformat(),
    }
    return {name: value for name, value in given.items() if value is not None}
