"""Jobs, followed to their end and what they made. service.submission is how they begin."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from intrafusion.api import (
    Artifact,
    Event,
    GateOutcome,
    Job,
    JobProgress,
    JobResult,
    Page,
    Problem,
)
from intrafusion.errors import ErrorCode, IntraFusionError
from service.store import events as event_store
from service.store import jobs as store
from service.store.database import Database
from service.store.jobs import JobFilter
from service.store.records import ArtifactRecord, JobRecord


def get_job(*, database: Database, tenant: str, id: str) -> Job:  # noqa: A002
    """The job as it is now. Raises `NOT_FOUND`."""
    with database.read() as session:
        return job_of(find_record(session, id, tenant=tenant))


def list_jobs(
    *,
    database: Database,
    tenant: str,
    cursor: str | None,
    limit: int,
    only: JobFilter | None = None,
) -> Page[Job]:
    """A page of jobs, newest first."""
    with database.read() as session:
        found = store.list_jobs(
            session, tenant=tenant, before=cursor, limit=limit + 1, only=only or JobFilter()
        )
    following = found[limit - 1].id if len(found) > limit else None
    return Page(data=[job_of(record) for record in found[:limit]], next=following)


def cancel_job(*, database: Database, tenant: str, id: str) -> Job:  # noqa: A002
    """Ask for a job's end and return it; one that has ended stays as it is. Raises `NOT_FOUND`."""
    with database.write() as session:
        find_record(session, id, tenant=tenant)
        store.cancel_job(session, id)
        return job_of(find_record(session, id, tenant=tenant))


def delete_job(*, database: Database, tenant: str, id: str) -> None:  # noqa: A002
    """Forget an ended job, its events and its files.

    Raises `NOT_FOUND`, or `CONFLICT` where it has not ended.
    """
    with database.write() as session:
        record = find_record(session, id, tenant=tenant)
        if not store.delete_job(session, id):
            raise IntraFusionError(
                ErrorCode.CONFLICT,
                f"{id} is {record.status}; only a job that has ended can be deleted.",
                f"Cancel it first: POST /v1/jobs/{id}/cancel.",
                status=record.status,
            )


def list_events(*, database: Database, tenant: str, id: str, after: int, limit: int) -> Page[Event]:  # noqa: A002
    """A page of the job's events with numbers above `after`, in order. Raises `NOT_FOUND`."""
    with database.read() as session:
        find_record(session, id, tenant=tenant)
        found = event_store.list_events(session, job_id=id, after=after, limit=limit + 1)
    events = [
        Event.model_validate({"id": e.number, "kind": e.kind, "at": e.at, "data": e.data})
        for e in found[:limit]
    ]
    return Page(data=events, next=str(events[-1].id) if len(found) > limit else None)


def list_artifacts(*, database: Database, tenant: str, id: str) -> Page[Artifact]:  # noqa: A002
    """The files the job made; none before it has succeeded. Raises `NOT_FOUND`."""
    with database.read() as session:
        find_record(session, id, tenant=tenant)
        return Page(data=[_artifact(a) for a in store.list_artifacts(session, id)])


def get_artifact(*, database: Database, tenant: str, id: str, name: str) -> Artifact:  # noqa: A002
    """One file the job made. Raises `NOT_FINISHED` while there may yet be one, or `NOT_FOUND`."""
    with database.read() as session:
        job = job_of(find_record(session, id, tenant=tenant))
        record = store.find_artifact(session, job_id=id, name=name)
        if record is not None:
            return _artifact(record)
        names = [artifact.name for artifact in store.list_artifacts(session, id)]
    if not job.ended:
        raise IntraFusionError(
            ErrorCode.NOT_FINISHED,
            f"{id} is {job.status} and has made no files yet.",
            f"Wait for its end: GET /v1/jobs/{id}?wait=30.",
            status=job.status,
        )
    why = f" because it {job.status}" if job.status == "failed" else ""
    hint = f"It made {', '.join(names)}." if names else f"GET /v1/jobs/{id} says what happened."
    raise IntraFusionError(
        ErrorCode.NOT_FOUND, f"{id} has no file {name!r}{why}.", hint, name=name, names=names
    )


def find_record(session: Session, id: str, *, tenant: str) -> JobRecord:  # noqa: A002
    """The job's record. Raises `NOT_FOUND`."""
    record = store.find_job(session, id, tenant=tenant)
    if record is None:
        raise IntraFusionError(
            ErrorCode.NOT_FOUND, f"There is no job {id}.", "GET /v1/jobs lists them.", id=id
        )
    return record


def job_of(record: JobRecord) -> Job:
    """What the API tells of a job."""
    request: dict[str, Any] = record.request
    return Job.model_validate(
        {
            "id": record.id,
            "status": record.status,
            "model": record.model_id,
            "model_name": record.model_name,
            "spec": request["spec"],
            "calibration": record.calibration_id,
            "evaluation": record.evaluation_id,
            "outputs": request["outputs"],
            "dry_run": request.get("dry_run", False),
            "metadata": request["metadata"],
            "attempt": record.attempt,
            "worker": record.worker,
            "progress": record.progress and JobProgress.model_validate(record.progress),
            "error": record.error and Problem.model_validate(record.error),
            "result": record.result and JobResult.model_validate(record.result),
            "gates": record.gates and GateOutcome.model_validate(record.gates),
            "retry_of": record.retry_of,
            "queued_at": record.queued_at,
            "started_at": record.started_at,
            "ended_at": record.ended_at,
        }
    )


def _artifact(record: ArtifactRecord) -> Artifact:
    return Artifact(
        name=record.name, bytes=record.bytes, sha256=record.sha256, media_type=record.media_type
    )
