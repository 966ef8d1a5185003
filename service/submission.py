"""How jobs begin: checked, queued once per idempotency key, or repeated."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from intrafusion.api import ENDED, Job, JobRequest
from intrafusion.dry_run import check_plannable
from intrafusion.errors import ErrorCode, IntraFusionError
from service.ids import new_id
from service.jobs import find_record, job_of
from service.store import jobs as store
from service.store.database import Database
from service.store.deliveries import add_delivery
from service.store.idempotency import find_key, remember_key
from service.store.records import DatasetRecord, ModelRecord
from service.store.uploads import find_upload
from service.tracing import traceparent


@dataclass(frozen=True)
class Submission:
    """A submitted job, and whether this request is the one that made it."""

    job: Job
    new: bool


def submit_job(
    *,
    database: Database,
    tenant: str,
    request: JobRequest,
    idempotency_key: str | None,
    idempotency_hours: float,
    quota: int | None = None,
    retry_of: str | None = None,
) -> Submission:
    """Queue a job, once per idempotency key.

    Raises `NOT_FOUND` for a model or dataset that does not exist, `ARCHITECTURE_MISSING` and
    `INPUT_SHAPE_MISSING` where the request leaves out what its model needs, `INVALID_SPEC` for a
    gate without data to measure it on and for a dry run of what cannot be planned, `JOB_QUOTA`
    where `quota` jobs of the tenant wait already, and `IDEMPOTENCY_MISMATCH` where the key came
    with another request before.
    """
    body = request.model_dump(mode="json")
    canonical = _canonical(request.model_dump() | {"retry_of": retry_of})
    digest = hashlib.sha256(canonical).hexdigest()
    try:
        with database.write() as session:
            if idempotency_key is not None:
                known = find_key(session, idempotency_key, tenant=tenant, hours=idempotency_hours)
                if known is not None:
                    return _repeated(session, known.job_id, known.body_sha256 == digest)
            model = _check(session, request, tenant)
            _check_room(session, tenant, quota)
            record = store.add_job(
                session,
                id=new_id("job"),
                tenant=tenant,
                model_id=request.model,
                model_name=model.name,
                calibration_id=request.calibration,
                evaluation_id=request.evaluation,
                method=request.spec.method,
                metadata=request.metadata,
                request=body,
                retry_of=retry_of,
                request_id=structlog.contextvars.get_contextvars().get("request_id"),
                traceparent=traceparent(),
            )
            if request.webhook is not None:
                add_delivery(session, record.id, request.webhook)
            if idempotency_key is not None:
                remember_key(
                    session,
                    tenant=tenant,
                    key=idempotency_key,
                    body_sha256=digest,
                    job_id=record.id,
                )
            return Submission(job_of(record), new=True)
    except IntegrityError as raced:  # another request with this key won in this very moment
        with database.write() as session:
            known = find_key(session, idempotency_key or "", tenant=tenant, hours=idempotency_hours)
            if known is None:
                raise raced
            return _repeated(session, known.job_id, known.body_sha256 == digest)


def retry_job(
    *,
    database: Database,
    tenant: str,
    id: str,  # noqa: A002
    idempotency_key: str | None,
    idempotency_hours: float,
    quota: int | None = None,
    in_earnest: bool = False,
) -> Submission:
    """Queue a new job that asks for what an ended one asked for; `in_earnest`, no dry run.

    Raises `NOT_FOUND`, `CONFLICT` where the job has not ended, and what `submit_job` raises,
    such as for a model deleted since.
    """
    with database.read() as session:
        record = find_record(session, id, tenant=tenant)
        request = JobRequest.model_validate(record.request)
        if in_earnest:
            request = request.model_copy(update={"dry_run": False})
        if record.status not in ENDED:
            raise IntraFusionError(
                ErrorCode.CONFLICT,
                f"{id} is {record.status}; only a job that has ended can be repeated.",
                "Wait for its end, or submit a new one.",
                status=record.status,
            )
    return submit_job(
        database=database,
        tenant=tenant,
        request=request,
        idempotency_key=idempotency_key,
        idempotency_hours=idempotency_hours,
        quota=quota,
        retry_of=id,
    )


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
    record = store.find_job(session, job_id, tenant=None)
    assert record is not None
    return Submission(job_of(record), new=False)


def _check(session: Session, request: JobRequest, tenant: str) -> ModelRecord:
    """The model, if the request asks for what can be done with it."""
    model = find_upload(session, ModelRecord, request.model, tenant=tenant)
    if model is None:
        raise _missing("model", request.model)
    for field in ("calibration", "evaluation"):
        dataset = getattr(request, field)
        if (
            dataset is not None
            and find_upload(session, DatasetRecord, dataset, tenant=tenant) is None
        ):
            raise _missing(field, dataset)
    if model.kind in ("safetensors", "state_dict") and request.architecture is None:
        raise IntraFusionError(
            ErrorCode.ARCHITECTURE_MISSING,
            f"{request.model} holds parameters only ({model.kind}), without the network's code.",
            'Add "architecture": {"name": …, "arguments": {…}} (--architecture on the command '
            "line), or upload a TorchScript file.",
            kind=model.kind,
        )
    gates = request.gates
    if request.dry_run:
        check_plannable(request.spec, gates)
    if gates is not None and gates.max_accuracy_drop is not None and request.evaluation is None:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            "gates.max_accuracy_drop is set, and there is no evaluation data to measure it on.",
            'Upload samples with labels and add "evaluation": "data_…".',
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
            'Add "input_shapes", such as [[1, 3, 224, 224]] (--input-shape on the command line), '
            "or calibration or evaluation data.",
        )
    return model


def _check_room(session: Session, tenant: str, quota: int | None) -> None:
    if quota is None:
        return
    waiting = store.count_queued(session, tenant=tenant)
    if waiting >= quota:
        raise IntraFusionError(
            ErrorCode.JOB_QUOTA,
            f"{waiting} jobs are queued, and {quota} may be.",
            "Submit again when some of them have started, or cancel some.",
            queued=waiting,
            quota=quota,
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
