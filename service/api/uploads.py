"""How an upload's request looks, for models and datasets alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request
from starlette.concurrency import run_in_threadpool

from intrafusion.errors import ErrorCode
from service.api.deps import Resources
from service.incoming import receive_upload, stated_digest

T = TypeVar("T")

Name = Annotated[
    str | None,
    Query(description="The file's name, for people; a multipart body brings its own."),
]

OnlySha256 = Annotated[
    str | None,
    Query(description="Only the upload of these bytes.", pattern=r"^[0-9a-f]{64}$"),
]
OnlyName = Annotated[
    str | None, Query(description="Only uploads of this file name.", max_length=255)
]

UPLOAD_ERRORS = (
    ErrorCode.BAD_REQUEST,
    ErrorCode.CHECKSUM_MISMATCH,
    ErrorCode.UPLOAD_TOO_LARGE,
    ErrorCode.STORAGE_QUOTA,
    ErrorCode.INTERNAL,
)

MODEL_ERRORS = (ErrorCode.NOT_A_MODEL, ErrorCode.CORRUPT_MODEL, ErrorCode.UNSAFE_PICKLE)
DATASET_ERRORS = (
    ErrorCode.NOT_A_DATASET,
    ErrorCode.DATASET_WITHOUT_INPUTS,
    ErrorCode.DATASET_DTYPE_MISMATCH,
    ErrorCode.DATASET_NOT_FINITE,
    ErrorCode.DATASET_LABELS_INVALID,
    ErrorCode.DATASET_TOO_SMALL,
)

REQUEST_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": "Repr-Digest",
            "in": "header",
            "description": "`sha-256=:<base64>:` of the bytes; checked when they have arrived.",
            "schema": {"type": "string"},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    },
}


async def take_upload(
    request: Request,
    resources: Resources,
    tenant: str,
    name: str | None,
    keep: Callable[..., tuple[T, bool]],
) -> tuple[T, bool]:
    """Receive the request's file and `keep` it; nothing stays behind where that fails."""
    stated = stated_digest(request)
    with resources.blobs.begin() as incoming:
        own_name = await receive_upload(
            request, incoming, limit=resources.settings.max_upload_bytes
        )
        return await run_in_threadpool(
            keep,
            database=resources.database,
            tenant=tenant,
            quota=resources.settings.quota_stored_bytes,
            incoming=incoming,
            stated_sha256=stated,
            name=name or own_name,
        )
