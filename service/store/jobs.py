"""A job's life in the records. Every change of state is one conditional UPDATE.

    queued → running → succeeded | failed | cancelled, with cancelling between

Whoever works on a job holds a `Claim`. The store refuses what an outdated claim asks for, so
that a worker that was thought lost and comes back can neither settle nor extend the job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from intrafusion.api import ENDED
from intrafusion.errors import ErrorCode
from service.store.database import now
from service.store.events import add_event
from service.store.records import (
    ArtifactRecord,
    DeliveryRecord,
    EventRecord,
    IdempotencyRecord,
    JobRecord,
    LabelRecord,
)

_HELD = ("running", "cancelling")

Outcome = Literal["succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class Claim:
    """The right to work on a job: its id, the attempt that was claimed, and by whom."""

    job_id: str
    attempt: int
    worker: str


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows; what is left empty lets all through."""

    statuses: Sequence[str] = ()
    model: str | None = None
    method: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None


def add_job(
    session: Session,
    *,
    id: str,  # noqa: A002
    tenant: str,
    model_id: str,
    model_name: str | None,
    calibration_id: str | None,
    evaluation_id: str | None,
    method: str,
    metadata: Mapping[str, str],
    request: dict[str, Any],
    retry_of: str | None = None,
    request_id: str | None = None,
    traceparent: str | None = None,
) -> JobRecord:
    """A new job, queued and not yet published."""
    record = JobRecord(
        id=id,
        tenant=tenant,
        status="queued",
        model_id=model_id,
        model_name=model_name,
        calibration_id=calibration_id,
        evaluation_id=evaluation_id,
        method=method,
        request=request,
        retry_of=retry_of,
        request_id=request_id,
        traceparent=traceparent,
        queued_at=now(),
        attempt=0,
        losses=0,
        event_count=0,
    )
    session.add(record)
    session.flush()
    labels = [LabelRecord(job_id=id, name=name, value=value) for name, value in metadata.items()]
    session.add_all(labels)
    add_event(session, job_id=id, kind="status", data={"status": "queued"})
    session.refresh(record)
    return record


def find_job(session: Session, id: str, *, tenant: str | None) -> JobRecord | None:  # noqa: A002
    """The tenant's job with this id, as the database has it now.

    Only a worker, which acts for all tenants, may leave the tenant open with None.
    """
    query = select(JobRecord).where(JobRecord.id == id)
    if tenant is not None:
        query = query.where(JobRecord.tenant == tenant)
    return session.scalar(query.execution_options(populate_existing=True))


def list_jobs(
    session: Session, *, tenant: str, before: str | None, limit: int, only: JobFilter
) -> Sequence[JobRecord]:
    """Up to `limit` jobs of the tenant that `only` lets through, newest first.

    They are older than the one with the id `before`.
    """
    query = (
        select(JobRecord)
        .where(JobRecord.tenant == tenant, *_conditions(only))
        .order_by(JobRecord.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(JobRecord.id < before)
    return session.scalars(query).all()


def _conditions(only: JobFilter) -> Iterator[ColumnElement[bool]]:
    if only.statuses:
        yield JobRecord.status.in_(only.statuses)
    if only.model is not None:
        yield JobRecord.model_id == only.model
    if only.method is not None:
        yield JobRecord.method == only.method
    if only.since is not None:
        yield JobRecord.queued_at >= only.since
    if only.until is not None:
        yield JobRecord.queued_at < only.until
    for name, value in only.metadata.items():
        yield JobRecord.id.in_(
            select(LabelRecord.job_id).where(LabelRecord.name == name, LabelRecord.value == value)
        )


def delete_job(session: Session, id: str) -> bool:  # noqa: A002
    """Forget an ended job and all that was kept of it; False where it has not ended."""
    ended = (JobRecord.id == id) & JobRecord.status.in_(ENDED)
    if not _change(session, ended, lease_until=None):  # takes the row's lock
        return False
    for table in (EventRecord, ArtifactRecord, LabelRecord, IdempotencyRecord, DeliveryRecord):
        session.execute(delete(table).where(table.job_id == id))
    session.execute(delete(JobRecord).where(JobRecord.id == id))
    return True


def list_ended(session: Session, *, before: datetime, limit: int) -> Sequence[str]:
    """Ids of jobs that ended before that moment, oldest first."""
    return session.scalars(
        select(JobRecord.id)
        .where(JobRecord.ended_at < before)
        .order_by(JobRecord.ended_at)
        .limit(limit)
    ).all()


def claim_job(session: Session, *, id: str, worker: str, lease_seconds: float) -> Claim | None:  # noqa: A002
    """Take a queued job for `worker`; None where there is nothing to take.

    However often an id is delivered, one claim of a queued job succeeds.
    """
    attempt = session.scalar(
        update(JobRecord)
        .where(JobRecord.id == id, JobRecord.status == "queued")
        .values(
            status="running",
            attempt=JobRecord.attempt + 1,
            worker=worker,
            started_at=now(),
            lease_until=_lease(lease_seconds),
            progress=None,
        )
        .returning(JobRecord.attempt)
        .execution_options(synchronize_session=False)
    )
    if attempt is None:
        return None
    status = {"status": "running", "attempt": attempt, "worker": worker}
    add_event(session, job_id=id, kind="status", data=status)
    return Claim(job_id=id, attempt=attempt, worker=worker)


def renew_lease(session: Session, claim: Claim, *, lease_seconds: float) -> bool:
    """Keep the job for another `lease_seconds`; False where the claim no longer holds."""
    return _change(session, _holds(claim), lease_until=_lease(lease_seconds))


def record_progress(session: Session, claim: Claim, progress: dict[str, Any]) -> bool:
    """Note the step the job is in; False where the claim no longer holds."""
    return _change(session, _holds(claim), progress=progress)


def cancel_requested(session: Session, claim: Claim) -> bool | None:
    """Whether the job is to be cancelled; None where the claim no longer holds."""
    status = session.scalar(select(JobRecord.status).where(_holds(claim)))
    return None if status is None else status == "cancelling"


def cancel_job(session: Session, id: str) -> None:  # noqa: A002
    """Cancel a queued job at once and ask for the end of a running one; else change nothing."""
    moment = now()
    waiting = (JobRecord.id == id) & (JobRecord.status == "queued")
    at_work = (JobRecord.id == id) & (JobRecord.status == "running")
    if _change(session, waiting, status="cancelled", cancelling_at=moment, ended_at=moment):
        add_event(session, job_id=id, kind="status", data={"status": "cancelled"})
    elif _change(session, at_work, status="cancelling", cancelling_at=moment):
        add_event(session, job_id=id, kind="status", data={"status": "cancelling"})


def settle_job(
    session: Session,
    claim: Claim,
    *,
    outcome: Outcome,
    error: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    gates: dict[str, Any] | None = None,
    artifacts: Sequence[ArtifactRecord] = (),
) -> bool:
    """End the job with what it made or its error; False where the claim no longer holds.

    A job that finished before its cancellation reached it has succeeded.
    """
    if not _change(
        session,
        _holds(claim),
        status=outcome,
        error=error,
        result=result,
        gates=gates,
        ended_at=now(),
        lease_until=None,
    ):
        return False
    session.add_all(artifacts)
    data = _status(outcome, error) | ({} if gates is None else {"gates_passed": gates["passed"]})
    add_event(session, job_id=claim.job_id, kind="status", data=data)
    return True


def abandon_job(session: Session, claim: Claim) -> bool:
    """Let the lease run out now: the attempt is lost, and the reaper decides what follows."""
    return _change(session, _holds(claim), lease_until=now())


def release_job(session: Session, claim: Claim) -> bool:
    """Give an unfinished job back to the queue, or end it where its cancellation was asked for."""
    if _change(
        session,
        _holds(claim) & (JobRecord.status == "running"),
        status="queued",
        published_at=None,
        worker=None,
        lease_until=None,
        progress=None,
    ):
        data = {"status": "queued", "reason": "its worker is stopping"}
        add_event(session, job_id=claim.job_id, kind="status", data=data)
        return True
    return settle_job(session, claim, outcome="cancelled")


def any_lost(session: Session) -> bool:
    """Whether some job's lease ran out."""
    return session.scalar(select(JobRecord.id).where(_lost()).limit(1)) is not None


def reclaim_lost_jobs(session: Session, *, max_attempts: int) -> list[str]:
    """Take jobs whose lease ran out from their workers; returns their ids.

    A lost job goes back to the queue until it was lost `max_attempts` times, then it fails
    with `WORKER_LOST`. One that was being cancelled is cancelled.
    """
    lost = session.scalars(select(JobRecord).where(_lost())).all()
    return [job.id for job in lost if _reclaim(session, job, max_attempts)]


def _reclaim(session: Session, job: JobRecord, max_attempts: int) -> bool:
    same = (
        (JobRecord.id == job.id)
        & (JobRecord.attempt == job.attempt)
        & (JobRecord.status == job.status)
        & (JobRecord.lease_until == job.lease_until)
    )
    losses = job.losses + 1
    values: dict[str, Any] = {"losses": losses, "lease_until": None}
    error: dict[str, Any] | None = None
    if job.status == "cancelling":
        values |= {"status": "cancelled", "ended_at": now()}
    elif losses >= max_attempts:
        error = _worker_lost(losses)
        values |= {"status": "failed", "ended_at": now(), "error": error}
    else:
        values |= {"status": "queued", "published_at": None, "worker": None, "progress": None}
    if not _change(session, same, **values):
        return False
    data = _status(values["status"], error) | {"reason": f"its worker {job.worker} was lost"}
    add_event(session, job_id=job.id, kind="status", data=data)
    return True


def list_unpublished(session: Session, *, limit: int, at_once: int | None = None) -> Sequence[str]:
    """Ids of queued jobs that still have to be put on the queue, oldest first.

    `at_once` is the most jobs of one tenant that run, or lie on the queue, at the same time.
    """
    query = (
        select(JobRecord.id, JobRecord.tenant)
        .where(JobRecord.status == "queued", JobRecord.published_at.is_(None))
        .order_by(JobRecord.queued_at)
        .limit(limit)
    )
    if at_once is None:
        return [job_id for job_id, _ in session.execute(query)]
    active = _count_active(session)
    full = [tenant for tenant, count in active.items() if count >= at_once]
    due = []
    for job_id, tenant in session.execute(query.where(JobRecord.tenant.not_in(full))):
        if active[tenant] < at_once:
            active[tenant] += 1
            due.append(job_id)
    return due


def _count_active(session: Session) -> Counter[str]:
    """Jobs that run or lie on the queue, by tenant."""
    published = (JobRecord.status == "queued") & JobRecord.published_at.is_not(None)
    query = (
        select(JobRecord.tenant, func.count())
        .where(JobRecord.status.in_(_HELD) | published)
        .group_by(JobRecord.tenant)
    )
    return Counter({row[0]: row[1] for row in session.execute(query)})


def count_by_status(session: Session) -> dict[str, int]:
    """How many jobs of all tenants are in each state."""
    query = select(JobRecord.status, func.count()).group_by(JobRecord.status)
    return {row[0]: row[1] for row in session.execute(query)}


def oldest_queued(session: Session) -> datetime | None:
    """When the job was queued that has waited longest."""
    query = select(func.min(JobRecord.queued_at)).where(JobRecord.status == "queued")
    return session.scalar(query)


def count_queued(session: Session, *, tenant: str) -> int:
    """How many of the tenant's jobs wait."""
    query = select(func.count()).where(JobRecord.tenant == tenant, JobRecord.status == "queued")
    return session.scalar(query) or 0


def list_waiting(session: Session, *, published_before: datetime, limit: int) -> Sequence[str]:
    """Ids of jobs put on the queue before that moment that no worker has taken, oldest first."""
    return session.scalars(
        select(JobRecord.id)
        .where(JobRecord.status == "queued", JobRecord.published_at < published_before)
        .order_by(JobRecord.queued_at)
        .limit(limit)
    ).all()


def mark_published(session: Session, id: str) -> None:  # noqa: A002
    """Note that the id was put on the queue just now."""
    unclaimed = (JobRecord.id == id) & (JobRecord.status == "queued")
    _change(session, unclaimed, published_at=now())


def list_artifacts(session: Session, job_id: str) -> Sequence[ArtifactRecord]:
    """The files a job made, by name."""
    return session.scalars(
        select(ArtifactRecord).where(ArtifactRecord.job_id == job_id).order_by(ArtifactRecord.name)
    ).all()


def find_artifact(session: Session, *, job_id: str, name: str) -> ArtifactRecord | None:
    """One file a job made."""
    return session.get(ArtifactRecord, (job_id, name))


def _change(session: Session, where: ColumnElement[bool], **values: Any) -> bool:
    statement = update(JobRecord).where(where).values(**values)
    result = session.execute(statement, execution_options={"synchronize_session": False})
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def _holds(claim: Claim) -> ColumnElement[bool]:
    return (
        (JobRecord.id == claim.job_id)
        & (JobRecord.attempt == claim.attempt)
        & (JobRecord.worker == claim.worker)
        & JobRecord.status.in_(_HELD)
    )


def _lost() -> ColumnElement[bool]:
    return JobRecord.status.in_(_HELD) & (JobRecord.lease_until < now())


def _lease(seconds: float) -> datetime:
    return now() + timedelta(seconds=seconds)


def _status(status: str, error: dict[str, Any] | None) -> dict[str, Any]:
    return {"status": status} if error is None else {"status": status, "code": error["code"]}


def _worker_lost(losses: int) -> dict[str, Any]:
    code = ErrorCode.WORKER_LOST
    return {
        "title": code.title,
        "status": int(code.status),
        "code": code.code,
        "detail": f"The worker running this job was lost {losses} times.",
        "hint": "Look into the worker's log: it may be running out of memory. Then submit again.",
        "details": {"losses": losses},
    }
