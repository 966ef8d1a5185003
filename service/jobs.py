"""Jobs: submitted once, followed to their end."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from intrafusion.api import Artifact, Event, Job, JobProgress, JobRequest, JobStatus, Page, Problem
from intrafusion.errors import ErrorCode, IntraFusionError
from service.ids import new_id
from service.store import events as event_store
from service.store import jobs as store
from service.store.database import Database
from service.store.idempotency import find_key, remember_key
from service.store.records import ArtifactRecord, DatasetRecord, JobRecord, ModelRecord
from service.store.uploads import find_upload

REPORT = "report.json"


@dataclass(frozen=True)
class Submission:
    """A submitted job, and whether this request is the one that made it."""

    job: Job
    new: bool


def submit_job(
    *,
    database: Database,
    request: JobRequest,
    idempotency_key: str | None,
    idempotency_hours: float,
) -> Submission:
    """Queue a job, once per idempotency key.

    Raises `NOT_FOUND` for a model or dataset that does not exist, `ARCHITECTURE_MISSING` and
    `INPUT_SHAPE_MISSING` where the request leaves out what its model needs, and
    `IDEMPOTENCY_MISMATCH` where the key came with another request before.
    """
    body = request.model_dump(mode="json")
    digest = hashlib.sha256(_canonical(request.model_dump())).hexdigest()
    try:
        with database.write() as session:
            if idempotency_key is not None:
                known = find_key(session, idempotency_key, hours=idempotency_hours)
                if known is not None:
                    return _repeated(session, known.job_id, known.body_sha256 == digest)
            _check(session, request)
            record = store.add_job(
                session,
                id=new_id("job"),
                model_id=request.model,
                calibration_id=request.calibration,
                evaluation_id=request.evaluation,
                request=body,
            )
            if idempotency_key is not None:
                remember_key(session, key=idempotency_key, body_sha256=digest, job_id=record.id)
            return Submission(_job(record), new=True)
    except IntegrityError as raced:  # another request with this key won in this very moment
        with database.write() as session:
            known = find_key(session, idempotency_key or "", hours=idempotency_hours)
            if known is None:
                raise raced
            return _repeated(session, known.job_id, known.body_sha256 == digest)


def _canonical(body: dict[str, Any]) -> bytes:
    """The same bytes for the same request. Raises `BAD_REQUEST` for what no database can keep."""
    try:
        text = json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False)
        if "\\u0000" in text:
            raise ValueError("a NUL character")
        return text.encode()
    except ValueError as error:  # UnicodeEncodeError is one
        raise IntraFusionError(
            ErrorCode.BAD_REQUEST,
            f"The body holds what cannot be kept: {error}.",
            "Leave out NaN, infinity, NUL characters and halves of surrogate pairs.",
        ) from error


def _repeated(session: Session, job_id: str, same_body: bool) -> Submission:
    if not same_body:
        raise IntraFusionError(
            ErrorCode.IDEMPOTENCY_MISMATCH,
            f"This Idempotency-Key came with another request before, which made {job_id}.",
            "Use a new key for a new request, or repeat the first request unchanged.",
            job=job_id,
        )
    record = store.find_job(session, job_id)
    assert record is not None
    return Submission(_job(record), new=False)


def _check(session: Session, request: JobRequest) -> None:
    model = find_upload(session, ModelRecord, request.model)
    if model is None:
        raise _missing("model", request.model)
    for field in ("calibration", "evaluation"):
        dataset = getattr(request, field)
        if dataset is not None and find_upload(session, DatasetRecord, dataset) is None:
            raise _missing(field, dataset)
    if model.kind in ("safetensors", "state_dict") and request.architecture is None:
        raise IntraFusionError(
            ErrorCode.ARCHITECTURE_MISSING,
            f"{request.model} holds parameters only ({model.kind}), without the network's code.",
            'Add "architecture": {"name": …, "arguments": {…}}, or upload a TorchScript file.',
            kind=model.kind,
        )
    if (
        model.kind != "exported"
        and request.input_shapes is None
        and request.calibration is None
        and request.evaluation is None
    ):
        raise IntraFusionError(
            ErrorCode.INPUT_SHAPE_MISSING,
            "A model file does not say what shape its inputs have.",
            'Add "input_shapes", such as [[1, 3, 224, 224]], or calibration or evaluation data.',
        )


def _missing(field: str, id: str) -> IntraFusionError:  # noqa: A002
    uploads = "models" if field == "model" else "datasets"
    return IntraFusionError(
        ErrorCode.NOT_FOUND,
        f"{field} is {id!r}, and there is no such {uploads.removesuffix('s')}.",
        f"Upload it with POST /v1/{uploads} and use the id from the answer.",
        field=field,
        id=id,
    )


def get_job(*, database: Database, id: str) -> Job:  # noqa: A002
    """The job as it is now. Raises `NOT_FOUND`."""
    with database.read() as session:
        return _job(_find(session, id))


def list_jobs(
    *, database: Database, cursor: str | None, limit: int, status: JobStatus | None
) -> Page[Job]:
    """A page of jobs, newest first."""
    with database.read() as session:
        found = store.list_jobs(session, before=cursor, limit=limit + 1, status=status)
    following = found[limit - 1].id if len(found) > limit else None
    return Page(data=[_job(record) for record in found[:limit]], next=following)


def cancel_job(*, database: Database, id: str) -> Job:  # noqa: A002
    """Ask for a job's end and return it; one that has ended stays as it is. Raises `NOT_FOUND`."""
    with database.write() as session:
        _find(session, id)
        store.cancel_job(session, id)
        return _job(_find(session, id))


def list_events(*, database: Database, id: str, after: int, limit: int) -> Page[Event]:  # noqa: A002
    """A page of the job's events with numbers above `after`, in order. Raises `NOT_FOUND`."""
    with database.read() as session:
        _find(session, id)
        found = event_store.list_events(session, job_id=id, after=after, limit=limit + 1)
    events = [
        Event.model_validate({"id": e.number, "kind": e.kind, "at": e.at, "data": e.data})
        for e in found[:limit]
    ]
    return Page(data=events, next=str(events[-1].id) if len(found) > limit else None)


def list_artifacts(*, database: Database, id: str) -> Page[Artifact]:  # noqa: A002
    """The files the job made; none before it has succeeded. Raises `NOT_FOUND`."""
    with database.read() as session:
        _find(session, id)
        return Page(data=[_artifact(a) for a in store.list_artifacts(session, id)])


def get_artifact(*, database: Database, id: str, name: str) -> Artifact:  # noqa: A002
    """One file the job made. Raises `NOT_FINISHED` while there may yet be one, or `NOT_FOUND`."""
    with database.read() as session:
        job = _job(_find(session, id))
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


def _find(session: Session, id: str) -> JobRecord:  # noqa: A002
    record = store.find_job(session, id)
    if record is None:
        raise IntraFusionError(
            ErrorCode.NOT_FOUND, f"There is no job {id}.", "GET /v1/jobs lists them.", id=id
        )
    return record


def _job(record: JobRecord) -> Job:
    request: dict[str, Any] = record.request
    return Job.model_validate(
        {
            "id": record.id,
            "status": record.status,
            "model": record.model_id,
            "spec": request["spec"],
            "calibration": record.calibration_id,
            "evaluation": record.evaluation_id,
            "outputs": request["outputs"],
            "metadata": request["metadata"],
            "attempt": record.attempt,
            "worker": record.worker,
            "progress": record.progress and JobProgress.model_validate(record.progress),
            "error": record.error and Problem.model_validate(record.error),
            "queued_at": record.queued_at,
            "started_at": record.started_at,
            "ended_at": record.ended_at,
        }
    )


def _artifact(record: ArtifactRecord) -> Artifact:
    return Artifact(
        name=record.name, bytes=record.bytes, sha256=record.sha256, media_type=record.media_type
    )
