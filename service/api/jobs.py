"""/v1/jobs"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import AwareDatetime, BeforeValidator

from intrafusion.api import Job, JobRequest, JobStatus, Page
from intrafusion.errors import ErrorCode, IntraFusionError
from service import jobs, submission
from service.api.deps import (
    Cursor,
    DatabaseDep,
    Limit,
    Resources,
    ResourcesDep,
    SettingsDep,
    TenantDep,
)
from service.problems import responses
from service.store.jobs import JobFilter
from service.submission import Submission
from service.webhooks import check_webhook

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


def _as_written(given: object) -> object:
    """Refuse a number, which pydantic would take for the seconds since 1970."""
    try:
        float(str(given))
    except ValueError:
        return given
    raise ValueError("a number is no moment; write it as 2026-01-31T12:00:00Z")


Moment = Annotated[AwareDatetime, BeforeValidator(_as_written)]

SUBMIT_ERRORS = (
    ErrorCode.BAD_REQUEST,
    ErrorCode.UNKNOWN_FIELD,
    ErrorCode.NOT_FOUND,
    ErrorCode.IDEMPOTENCY_MISMATCH,
    ErrorCode.INVALID_SPEC,
    ErrorCode.ARCHITECTURE_MISSING,
    ErrorCode.INPUT_SHAPE_MISSING,
    ErrorCode.JOB_QUOTA,
)


async def _only_jobs(
    status: Annotated[
        list[JobStatus] | None, Query(description="Only jobs in one of these states.")
    ] = None,
    model: Annotated[
        str | None, Query(description="Only jobs on this model.", max_length=64)
    ] = None,
    method: Annotated[
        str | None, Query(description="Only jobs with this method.", max_length=64)
    ] = None,
    metadata: Annotated[
        list[str] | None,
        Query(
            description="Only jobs with this label, written `name:value`; all of several.",
            examples=[["commit:4f2a9c1"]],
        ),
    ] = None,
    queued_after: Annotated[
        Moment | None, Query(description="Only jobs queued at this moment or later.")
    ] = None,
    queued_before: Annotated[
        Moment | None, Query(description="Only jobs queued before this moment.")
    ] = None,
) -> JobFilter:
    return JobFilter(
        statuses=status or (),
        model=model,
        method=method,
        metadata=dict(_label(text) for text in metadata or ()),
        since=queued_after,
        until=queued_before,
    )


def _label(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise IntraFusionError(
            ErrorCode.BAD_REQUEST,
            f"metadata is {text!r}, which names no value.",
            "Write it as metadata=name:value.",
        )
    return name, value


OnlyJobs = Annotated[JobFilter, Depends(_only_jobs)]


@router.post(
    "",
    operation_id="submit_job",
    status_code=202,
    responses=responses(*SUBMIT_ERRORS),
)
def submit_job(
    body: JobRequest,
    response: Response,
    resources: ResourcesDep,
    tenant: TenantDep,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Queue a compression. `Location` is where to follow it."""
    check_webhook(body.webhook, resources.settings)
    made = submission.submit_job(
        database=resources.database,
        tenant=tenant,
        quota=resources.settings.quota_queued_jobs,
        request=body,
        idempotency_key=idempotency_key,
        idempotency_hours=resources.settings.idempotency_hours,
    )
    return accepted(made, response, resources)


def accepted(made: Submission, response: Response, resources: Resources) -> Job:
    """Have the job published, and say where to follow it."""
    resources.upkeep.wake()
    response.headers["Location"] = f"/v1/jobs/{made.job.id}"
    response.headers["Retry-After"] = "1"
    return made.job


@router.get("", operation_id="list_jobs", responses=responses(ErrorCode.BAD_REQUEST))
def list_jobs(
    database: DatabaseDep,
    tenant: TenantDep,
    only: OnlyJobs,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Job]:
    """The jobs, newest first."""
    return jobs.list_jobs(database=database, tenant=tenant, cursor=cursor, limit=limit, only=only)


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
    tenant: TenantDep,
    settings: SettingsDep,
    wait: Wait = 0,
) -> Job:
    """The job as it is now, or with `wait` as soon as it has ended."""
    deadline = time.monotonic() + min(wait, settings.max_wait_seconds)
    look = partial(jobs.get_job, database=database, tenant=tenant, id=job_id)
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
def cancel_job(job_id: str, database: DatabaseDep, tenant: TenantDep) -> Job:
    """Ask for the job's end. One that has ended stays as it is."""
    return jobs.cancel_job(database=database, tenant=tenant, id=job_id)


@router.post(
    "/{job_id}/retry",
    operation_id="retry_job",
    status_code=202,
    responses=responses(*SUBMIT_ERRORS, ErrorCode.CONFLICT),
)
def retry_job(
    job_id: str,
    response: Response,
    resources: ResourcesDep,
    tenant: TenantDep,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Queue a new job that asks for what an ended one asked for."""
    made = submission.retry_job(
        database=resources.database,
        tenant=tenant,
        quota=resources.settings.quota_queued_jobs,
        id=job_id,
        idempotency_key=idempotency_key,
        idempotency_hours=resources.settings.idempotency_hours,
    )
    return accepted(made, response, resources)


@router.delete(
    "/{job_id}",
    operation_id="delete_job",
    status_code=204,
    responses=responses(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def delete_job(job_id: str, database: DatabaseDep, tenant: TenantDep) -> None:
    """Forget a job that has ended, its events and its files."""
    jobs.delete_job(database=database, tenant=tenant, id=job_id)
