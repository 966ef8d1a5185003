"""A job's story: /v1/jobs/{id}/events, as a page of JSON or as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from intrafusion.api import ENDED, Event, Job, Page
from intrafusion.errors import ErrorCode, IntraFusionError
from service import jobs
from service.api.deps import DatabaseDep, Limit, TenantDep
from service.problems import responses
from service.store.database import Database

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

EVENT_STREAM = "text/event-stream"
_POLL_SECONDS = 0.25
_KEEP_ALIVE_SECONDS = 10.0
_BATCH = 200


@router.get(
    "/events",
    operation_id="list_events",
    response_model=Page[Event],
    responses={
        200: {
            "description": (
                "A page of events; with `Accept: text/event-stream` all events as they happen, "
                "until the job has ended."
            ),
            "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
        },
        204: {"description": "Server-sent events: the job has ended, and there are no more."},
        **responses(ErrorCode.BAD_REQUEST, ErrorCode.NOT_FOUND),
    },
)
async def list_events(
    job_id: str,
    request: Request,
    database: DatabaseDep,
    tenant: TenantDep,
    after: Annotated[
        int, Query(description="Only events numbered above this.", ge=0, lt=2**53)
    ] = 0,
    cursor: Annotated[
        int | None, Query(description="`next` of the page before.", ge=0, lt=2**53)
    ] = None,
    limit: Limit = 100,
    last_event_id: Annotated[
        int | None,
        Header(description="Where a broken stream goes on: the last `id` seen.", ge=0, lt=2**53),
    ] = None,
) -> Response:
    """The job's story so far, in order; or, as server-sent events, to its end."""
    seen = after if cursor is None else cursor
    look = _Look(database, tenant, job_id)
    if EVENT_STREAM in request.headers.get("Accept", ""):
        return await _stream(look, seen if last_event_id is None else last_event_id)
    page = await look.at_events(seen, limit)
    return JSONResponse(page.model_dump(mode="json"))


@dataclass(frozen=True)
class _Look:
    """Looks at one job, in a thread."""

    database: Database
    tenant: str
    job_id: str

    async def at_job(self) -> Job:
        return await run_in_threadpool(
            jobs.get_job, database=self.database, tenant=self.tenant, id=self.job_id
        )

    async def at_events(self, after: int, limit: int) -> Page[Event]:
        return await run_in_threadpool(
            jobs.list_events,
            database=self.database,
            tenant=self.tenant,
            id=self.job_id,
            after=after,
            limit=limit,
        )


async def _stream(look: _Look, seen: int) -> Response:
    first = await look.at_events(seen, _BATCH)
    job = await look.at_job()
    if job.ended and not first.data:
        return Response(status_code=204)  # which tells a browser not to connect again
    return StreamingResponse(
        _frames(look, seen, first),
        media_type=EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _frames(look: _Look, seen: int, page: Page[Event]) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    spoke = time.monotonic()
    while True:
        for event in page.data:
            seen = event.id
            yield f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
        if page.data:
            spoke = time.monotonic()
            if page.next is None and any(map(_is_last, page.data)):
                return
        elif time.monotonic() - spoke > _KEEP_ALIVE_SECONDS:
            spoke = time.monotonic()
            yield ": still here\n\n"
        if page.next is None:
            await asyncio.sleep(_POLL_SECONDS)
        try:
            page = await look.at_events(seen, _BATCH)
        except IntraFusionError:  # the job was deleted
            return


def _is_last(event: Event) -> bool:
    return event.kind == "status" and event.data["status"] in ENDED
