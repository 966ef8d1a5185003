"""/v1/models"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from intrafusion.api import Model, Page
from intrafusion.errors import ErrorCode
from service import models
from service.api.deps import Cursor, DatabaseDep, Limit, ResourcesDep, TenantDep
from service.api.uploads import (
    MODEL_ERRORS,
    REQUEST_BODY,
    UPLOAD_ERRORS,
    Name,
    OnlyName,
    OnlySha256,
    take_upload,
)
from service.models import MODELS
from service.problems import responses

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.post(
    "",
    operation_id="upload_model",
    status_code=201,
    openapi_extra=REQUEST_BODY,
    responses={
        200: {"model": Model, "description": "The same bytes were uploaded before."},
        **responses(*UPLOAD_ERRORS, *MODEL_ERRORS),
    },
)
async def upload_model(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    tenant: TenantDep,
    name: Name = None,
) -> Model:
    """Upload a network: TorchScript, `.pt2`, or a state dict as safetensors or `.pt`.

    The body is the file itself, or one multipart part. The same bytes again give the same id.
    """
    model, new = await take_upload(request, resources, tenant, name, MODELS.keep)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/models/{model.id}"
    return model


@router.get("", operation_id="list_models", responses=responses(ErrorCode.BAD_REQUEST))
def list_models(
    database: DatabaseDep,
    tenant: TenantDep,
    cursor: Cursor = None,
    limit: Limit = 50,
    sha256: OnlySha256 = None,
    name: OnlyName = None,
) -> Page[Model]:
    """The uploaded networks, newest first."""
    return MODELS.page(
        database=database, tenant=tenant, cursor=cursor, limit=limit, sha256=sha256, name=name
    )


@router.get("/{model_id}", operation_id="get_model", responses=responses(ErrorCode.NOT_FOUND))
def get_model(model_id: str, database: DatabaseDep, tenant: TenantDep) -> Model:
    """One uploaded network; once a job has loaded it, also what can be pruned in it."""
    return models.get_model(database=database, tenant=tenant, id=model_id)


@router.delete(
    "/{model_id}",
    operation_id="delete_model",
    status_code=204,
    responses=responses(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def delete_model(model_id: str, database: DatabaseDep, tenant: TenantDep) -> None:
    """Forget a network; jobs that have ended keep what they made of it."""
    MODELS.remove(database=database, tenant=tenant, id=model_id)
