"""/v1/jobs"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response

from intrafusion.api import Event, Job, JobRequest, JobStatus, Page
from intrafusion.errors import ErrorCode
from service import jobs
from service.api.deps import Cursor, DatabaseDep, Limit, ResourcesDep, SettingsDep
from service.problems import responses

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_POLL_SECONDS = 0.2

IdempotencyKey = Annotated[
    str | None,
    Header(
        description=(
            "Any word of your own. Within 24 hours the same key and body give the same job, "
            "and the same key with another body is refused."
        ),
        min_length=1,
        max_length=255,
    ),
]
Wait = Annotated[
    float, Query(description="Seconds to hold the answer until the job has ended.", ge=0)
]


@router.post(
    "",
    operation_id="submit_job",
    status_code=202,
    responses=responses(
        ErrorCode.BAD_REQUEST,
        ErrorCode.UNKNOWN_FIELD,
        ErrorCode.NOT_FOUND,
        ErrorCode.IDEMPOTENCY_MISMATCH,
        ErrorCode.INVALID_SPEC,
        ErrorCode.ARCHITECTURE_MISSING,
        ErrorCode.INPUT_SHAPE_MISSING,
    ),
)
def submit_job(
    body: JobRequest,
    response: Response,
    resources: ResourcesDep,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Queue a compression. `Location` is where to follow it."""
    submission = jobs.submit_job(
        database=resources.database,
        request=body,
        idempotency_key=idempotency_key,
        idempotency_hours=resources.settings.idempotency_hours,
    )
    resources.upkeep.wake()
    response.headers["Location"] = f"/v1/jobs/{submission.job.id}"
    response.headers["Retry-After"] = "1"
    return submission.job


@router.get("", operation_id="list_jobs", responses=responses(ErrorCode.BAD_REQUEST))
def list_jobs(
    database: DatabaseDep,
    cursor: Cursor = None,
    limit: Limit = 50,
    status: Annotated[JobStatus | None, Query(description="Only jobs in this state.")] = None,
) -> Page[Job]:
    """The jobs, newest first."""
    return jobs.list_jobs(database=database, cursor=cursor, limit=limit, status=status)


@router.get(
    "/{job_id}",
    operation_id="get_job",
    responses=responses(ErrorCode.BAD_REQUEST, ErrorCode.NOT_FOUND),
)
async def get_job(
    job_id: str,
    request: Request,
    response: Response,
    database: DatabaseDep,
    settings: SettingsDep,
    wait: Wait = 0,
) -> Job:
    """The job as it is now, or with `wait` as soon as it has ended."""
    deadline = time.monotonic() + min(wait, settings.max_wait_seconds)
    look = partial(jobs.get_job, database=database, id=job_id)
    job = await to_thread.run_sync(look)
    while not job.ended and (left := deadline - time.monotonic()) > 0:
        if await request.is_disconnected():
            break
        await asyncio.sleep(min(_POLL_SECONDS, left))
        job = await to_thread.run_sync(look)
    if not job.ended:
        response.headers["Retry-After"] = "1"
    return job


@router.post(
    "/{job_id}/cancel", operation_id="cancel_job", responses=responses(ErrorCode.NOT_FOUND)
)
def cancel_job(job_id: str, database: DatabaseDep) -> Job:
    """Ask for the job's end. One that has ended stays as it is."""
    return jobs.cancel_job(database=database, id=job_id)


@router.get(
    "/{job_id}/events",
    operation_id="list_events",
    responses=responses(ErrorCode.BAD_REQUEST, ErrorCode.NOT_FOUND),
)
def list_events(
    job_id: str,
    database: DatabaseDep,
    after: Annotated[int, Query(description="Only events numbered above this.", ge=0)] = 0,
    cursor: Annotated[int | None, Query(description="`next` of the page before.", ge=0)] = None,
    limit: Limit = 100,
) -> Page[Event]:
    """The job's story so far, in order."""
    seen = after if cursor is None else cursor
    return jobs.list_events(database=database, id=job_id, after=seen, limit=limit)
