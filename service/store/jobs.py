"""A job's life in the records. Every change of state is one conditional UPDATE.

    queued → running → succeeded | failed | cancelled, with cancelling between

Whoever works on a job holds a `Claim`. The store refuses what an outdated claim asks for, so
that a worker that was thought lost and comes back can neither settle nor extend the job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, CursorResult, select, update
from sqlalchemy.orm import Session

from intrafusion.errors import ErrorCode
from service.store.database import now
from service.store.events import add_event
from service.store.records import ArtifactRecord, JobRecord

_HELD = ("running", "cancelling")

Outcome = Literal["succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class Claim:
    """The right to work on a job: its id, the attempt that was claimed, and by whom."""

    job_id: str
    attempt: int
    worker: str


def add_job(
    session: Session,
    *,
    id: str,  # noqa: A002
    model_id: str,
    calibration_id: str | None,
    evaluation_id: str | None,
    request: dict[str, Any],
) -> JobRecord:
    """A new job, queued and not yet published."""
    record = JobRecord(
        id=id,
        status="queued",
        model_id=model_id,
        calibration_id=calibration_id,
        evaluation_id=evaluation_id,
        request=request,
        queued_at=now(),
        attempt=0,
        losses=0,
        event_count=0,
    )
    session.add(record)
    session.flush()
    add_event(session, job_id=id, kind="status", data={"status": "queued"})
    session.refresh(record)
    return record


def find_job(session: Session, id: str) -> JobRecord | None:  # noqa: A002
    """The job with this id, as the database has it now."""
    return session.get(JobRecord, id, populate_existing=True)


def list_jobs(
    session: Session, *, before: str | None, limit: int, status: str | None = None
) -> Sequence[JobRecord]:
    """Up to `limit` jobs, newest first, older than the one with the id `before`."""
    query = select(JobRecord).order_by(JobRecord.id.desc()).limit(limit)
    if before is not None:
        query = query.where(JobRecord.id < before)
    if status is not None:
        query = query.where(JobRecord.status == status)
    return session.scalars(query).all()


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
    artifacts: Sequence[ArtifactRecord] = (),
) -> bool:
    """End the job with its artifacts or its error; False where the claim no longer holds.

    A job that finished before its cancellation reached it has succeeded.
    """
    if not _change(
        session,
        _holds(claim),
        status=outcome,
        error=error,
        ended_at=now(),
        lease_until=None,
    ):
        return False
    session.add_all(artifacts)
    add_event(session, job_id=claim.job_id, kind="status", data=_status(outcome, error))
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


def list_unpublished(session: Session, *, limit: int) -> Sequence[str]:
    """Ids of queued jobs that still have to be put on the queue, oldest first."""
    return session.scalars(
        select(JobRecord.id)
        .where(JobRecord.status == "queued", JobRecord.published_at.is_(None))
        .order_by(JobRecord.queued_at)
        .limit(limit)
    ).all()


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
