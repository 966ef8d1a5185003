"""/v1/compress: upload and submit in one request, for a pipeline that has only curl."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from intrafusion.api import Job, JobRequest, JobSettings
from intrafusion.errors import ErrorCode, IntraFusionError
from service import datasets, models, submission
from service.api.deps import Resources, ResourcesDep, TenantDep
from service.api.jobs import SUBMIT_ERRORS, IdempotencyKey, accepted
from service.api.uploads import DATASET_ERRORS, MODEL_ERRORS, UPLOAD_ERRORS
from service.body import Body
from service.form import Form, PartBegins, PartData, PartEnds, form_boundary, form_error
from service.incoming import FileWriter
from service.problems import explain, responses
from service.store.blobs import Incoming

router = APIRouter(prefix="/v1/compress", tags=["jobs"])

_MAX_FIELDS_BYTES = 1024**2
_FILES = {"file": "model", "calibration": "calibration", "evaluation": "evaluation"}
_HINT = (
    "Send it as curl does with --form file=@model.pt --form 'spec={\"sparsity\": 0.5}' "
    "--form calibration=@samples.npz."
)


def _form_schema() -> dict[str, Any]:
    file = {"type": "string", "format": "binary"}
    return {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": {**file, "description": "The network."},
            "calibration": {**file, "description": "Samples on which consumers are refitted."},
            "evaluation": {**file, "description": "Samples on which both networks are measured."},
            **{
                name: {"type": "string", "description": f"`{name}` of a job, as JSON."}
                for name in JobSettings.model_fields
            },
        },
    }


@router.post(
    "",
    operation_id="compress",
    status_code=202,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": _form_schema()}},
        }
    },
    responses=responses(*UPLOAD_ERRORS, *MODEL_ERRORS, *DATASET_ERRORS, *SUBMIT_ERRORS),
)
async def compress(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    tenant: TenantDep,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Upload a network, and samples if there are any, and queue its compression."""
    with ExitStack() as cleaning:
        received = await _receive(request, resources, cleaning)
        made = await to_thread.run_sync(
            partial(_submit, received, resources, tenant, idempotency_key=idempotency_key)
        )
    return accepted(made, response, resources)


@dataclass
class _Received:
    """The parts of the form: files on disk, and fields as they were written."""

    files: dict[str, tuple[Incoming, str | None]] = field(default_factory=dict)
    fields: dict[str, bytearray] = field(default_factory=dict)


async def _receive(request: Request, resources: Resources, cleaning: ExitStack) -> _Received:
    boundary = form_boundary(request.headers.get("Content-Type", ""))
    body = Body(request.receive)
    try:
        if boundary is None:
            raise form_error("The body is no form", _HINT)
        return await _parts(body, Form(boundary), resources, cleaning)
    except IntraFusionError:
        await body.drain()
        raise


async def _parts(body: Body, form: Form, resources: Resources, cleaning: ExitStack) -> _Received:
    received = _Received()
    limit = resources.settings.max_upload_bytes
    text = 0
    part: bytearray | FileWriter | None = None
    async for chunk in body.chunks():
        for event in form.feed(chunk):
            match event:
                case PartBegins():
                    _refuse_unknown(event, received)
                    if event.field in _FILES:
                        incoming = cleaning.enter_context(resources.blobs.begin())
                        received.files[event.field] = (incoming, event.file_name)
                        part = FileWriter(incoming, limit)
                    else:
                        part = received.fields.setdefault(event.field, bytearray())
                case PartData() if isinstance(part, FileWriter):
                    await part.write(event.content)
                case PartData() if isinstance(part, bytearray):
                    text += len(event.content)
                    if text > _MAX_FIELDS_BYTES:
                        raise form_error("The form's fields are over a megabyte", _HINT)
                    part += event.content
                case PartEnds() if isinstance(part, FileWriter):
                    await part.close()
    form.finish()
    if "file" not in received.files:
        raise form_error("The form has no file", _HINT)
    return received


def _refuse_unknown(part: PartBegins, received: _Received) -> None:
    known = [*_FILES, *JobSettings.model_fields]
    if part.field not in known:
        raise IntraFusionError(
            ErrorCode.UNKNOWN_FIELD,
            f"There is no field {part.field!r}.",
            f"The fields are {', '.join(known)}.",
            known=known,
        )
    if part.field in received.files or part.field in received.fields:
        raise form_error(f"The form has {part.field} twice", _HINT)
    if part.is_file is not (part.field in _FILES):
        kind = "a file" if part.field in _FILES else "text, not a file"
        raise form_error(f"{part.field} must be {kind}", _HINT)


def _submit(
    received: _Received, resources: Resources, tenant: str, *, idempotency_key: str | None
) -> submission.Submission:
    described = {name: _json(name, text) for name, text in received.fields.items()}
    _validate(described | {"model": ""})  # before anything is kept
    ids = {_FILES[name]: _keep(name, received, resources, tenant) for name in received.files}
    return submission.submit_job(
        database=resources.database,
        tenant=tenant,
        quota=resources.settings.quota_queued_jobs,
        request=_validate(described | ids),
        idempotency_key=idempotency_key,
        idempotency_hours=resources.settings.idempotency_hours,
    )


def _keep(name: str, received: _Received, resources: Resources, tenant: str) -> str:
    incoming, file_name = received.files[name]
    keep: Any = models.keep_model if name == "file" else datasets.keep_dataset
    upload, _ = keep(
        database=resources.database,
        tenant=tenant,
        quota=resources.settings.quota_stored_bytes,
        incoming=incoming,
        stated_sha256=None,
        name=file_name,
    )
    return str(upload.id)


def _json(name: str, text: bytearray) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise IntraFusionError(
            ErrorCode.BAD_REQUEST,
            f"{name} is no JSON: {error}.",
            """Write it as in --form 'spec={"sparsity": 0.5}'.""",
            field=name,
        ) from error


def _validate(described: dict[str, Any]) -> JobRequest:
    try:
        return JobRequest.model_validate(described)
    except ValidationError as error:
        errors = [{**entry, "loc": ("body", *entry["loc"])} for entry in error.errors()]
        raise explain(errors) from error
