"""/v1/compress: upload and submit in one request, for a pipeline that has only curl."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from intrafusion.api import Job, JobRequest, JobSettings
from intrafusion.errors import ErrorCode, IntraFusionError
from service import submission
from service.api.deps import Resources, ResourcesDep, TenantDep
from service.api.jobs import SUBMIT_ERRORS, IdempotencyKey, accepted
from service.api.uploads import DATASET_ERRORS, MODEL_ERRORS, UPLOAD_ERRORS
from service.datasets import DATASETS
from service.form_files import Layout, Received, receive_form
from service.models import MODELS
from service.problems import explain, responses
from service.uploads import Uploads
from service.webhooks import check_webhook

router = APIRouter(prefix="/v1/compress", tags=["jobs"])

FORM_FILES = {"file": "model", "calibration": "calibration", "evaluation": "evaluation"}
"""The files of the form, and what they are to the job."""


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
    layout = Layout(
        files=tuple(FORM_FILES),
        fields=tuple(JobSettings.model_fields),
        limit=resources.settings.max_upload_bytes,
    )
    with ExitStack() as cleaning:
        received = await receive_form(request, resources.blobs, cleaning, layout)
        described = {name: _json(name, text) for name, text in received.fields.items()}
        made = await run_in_threadpool(
            submit_form,
            received,
            described,
            resources,
            tenant,
            idempotency_key=idempotency_key,
        )
    return accepted(made, response, resources)


def submit_form(
    received: Received,
    described: dict[str, Any],
    resources: Resources,
    tenant: str,
    *,
    idempotency_key: str | None,
) -> submission.Submission:
    """Keep the form's files and queue the job that its fields describe."""
    request = _validate(described | {"model": ""})  # before anything is kept
    check_webhook(request.webhook, resources.settings)
    ids = {FORM_FILES[name]: _keep(name, received, resources, tenant) for name in received.files}
    return submission.submit_job(
        database=resources.database,
        tenant=tenant,
        request=_validate(described | ids),
        idempotency_key=idempotency_key,
        idempotency_hours=resources.settings.idempotency_hours,
        quota=resources.settings.quota_queued_jobs,
    )


def _keep(name: str, received: Received, resources: Resources, tenant: str) -> str:
    incoming, file_name = received.files[name]
    uploads: Uploads[Any, Any] = MODELS if name == "file" else DATASETS
    upload, _ = uploads.keep(
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
