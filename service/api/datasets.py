"""/v1/datasets"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from intrafusion.api import Dataset, Page
from intrafusion.errors import ErrorCode
from service.api.deps import Cursor, DatabaseDep, Limit, ResourcesDep, TenantDep
from service.api.uploads import (
    DATASET_ERRORS,
    REQUEST_BODY,
    UPLOAD_ERRORS,
    Name,
    OnlyName,
    OnlySha256,
    take_upload,
)
from service.datasets import DATASETS
from service.problems import responses

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])


@router.post(
    "",
    operation_id="upload_dataset",
    status_code=201,
    openapi_extra=REQUEST_BODY,
    responses={
        200: {"model": Dataset, "description": "The same bytes were uploaded before."},
        **responses(*UPLOAD_ERRORS, *DATASET_ERRORS),
    },
)
async def upload_dataset(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    tenant: TenantDep,
    name: Name = None,
) -> Dataset:
    """Upload samples: `.npz` or safetensors with `inputs` and, if there are any, `labels`.

    The body is the file itself, or one multipart part. The same bytes again give the same id.
    """
    dataset, new = await take_upload(request, resources, tenant, name, DATASETS.keep)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset


@router.get("", operation_id="list_datasets", responses=responses(ErrorCode.BAD_REQUEST))
def list_datasets(
    database: DatabaseDep,
    tenant: TenantDep,
    cursor: Cursor = None,
    limit: Limit = 50,
    sha256: OnlySha256 = None,
    name: OnlyName = None,
) -> Page[Dataset]:
    """The uploaded samples, newest first."""
    return DATASETS.page(
        database=database, tenant=tenant, cursor=cursor, limit=limit, sha256=sha256, name=name
    )


@router.get("/{dataset_id}", operation_id="get_dataset", responses=responses(ErrorCode.NOT_FOUND))
def get_dataset(dataset_id: str, database: DatabaseDep, tenant: TenantDep) -> Dataset:
    """One upload of samples."""
    return DATASETS.get(database=database, tenant=tenant, id=dataset_id)


@router.delete(
    "/{dataset_id}",
    operation_id="delete_dataset",
    status_code=204,
    responses=responses(ErrorCode.NOT_FOUND, ErrorCode.CONFLICT),
)
def delete_dataset(dataset_id: str, database: DatabaseDep, tenant: TenantDep) -> None:
    """Forget samples; jobs that have ended keep what they made of them."""
    DATASETS.remove(database=database, tenant=tenant, id=dataset_id)
