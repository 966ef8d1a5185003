"""/v1/uploads: resumable uploads by the tus protocol, version 1.0 (tus.io).

Written here because the one maintained server for FastAPI, tuspyserver 4.4, takes a part before
it asks who sends it, and answers a finished upload before it knows whether the file is any good.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from intrafusion.api import PartialUpload
from intrafusion.errors import ErrorCode, IntraFusionError
from service import partial_uploads as uploads
from service.api.deps import Resources, ResourcesDep, TenantDep
from service.api.uploads import DATASET_ERRORS, MODEL_ERRORS
from service.body import Body
from service.incoming import FileWriter
from service.problems import responses

VERSION = "1.0.0"
PART = "application/offset+octet-stream"


async def _check_version(
    response: Response, tus_resumable: Annotated[str | None, Header()] = None
) -> None:
    response.headers["Tus-Resumable"] = VERSION
    if tus_resumable != VERSION:
        error = IntraFusionError(
            ErrorCode.TUS_VERSION,
            f"Tus-Resumable is {tus_resumable!r}.",
            f"Use a client of tus {VERSION}, which sends Tus-Resumable: {VERSION}.",
        )
        raise error


router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
_TUS = [Depends(_check_version)]
_MISSING = responses(ErrorCode.NOT_FOUND, ErrorCode.TUS_VERSION, ErrorCode.UNAVAILABLE)


@router.options("", operation_id="describe_uploads", status_code=204)
def describe_uploads(response: Response, resources: ResourcesDep) -> None:
    """What this server can of tus."""
    response.headers["Tus-Resumable"] = VERSION
    response.headers["Tus-Version"] = VERSION
    response.headers["Tus-Extension"] = "creation,termination,expiration"
    response.headers["Tus-Max-Size"] = str(resources.settings.max_upload_bytes)


@router.post(
    "",
    operation_id="begin_upload",
    status_code=201,
    dependencies=_TUS,
    responses=responses(ErrorCode.BAD_REQUEST, ErrorCode.UPLOAD_TOO_LARGE, ErrorCode.TUS_VERSION),
)
def begin_upload(
    response: Response,
    resources: ResourcesDep,
    tenant: TenantDep,
    upload_length: Annotated[int, Header(description="Bytes of the whole file.", ge=0)],
    upload_metadata: Annotated[
        str,
        Header(description="`kind` (model or dataset) and `filename`, each in base64."),
    ] = "",
) -> PartialUpload:
    """Begin a resumable upload. `Location` is where its parts go."""
    metadata = _metadata(upload_metadata)
    begun = uploads.begin_partial(
        database=resources.database,
        parts=resources.parts,
        settings=resources.settings,
        tenant=tenant,
        kind=metadata.get("kind", "model"),
        name=metadata.get("filename"),
        length=upload_length,
    )
    response.headers["Location"] = f"/v1/uploads/{begun.id}"
    return begun


def _metadata(header: str) -> dict[str, str]:
    found = {}
    for entry in filter(None, (part.strip() for part in header.split(","))):
        name, _, value = entry.partition(" ")
        try:
            found[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise IntraFusionError(
                ErrorCode.BAD_REQUEST,
                f"Upload-Metadata holds {entry!r}, whose value is not base64 of text.",
                "Write it as: kind bW9kZWw=, filename bmV0LnB0",
            ) from error
    return found


@router.head(
    "/{upload_id}",
    operation_id="stat_upload",
    response_class=Response,
    dependencies=_TUS,
    responses=_MISSING,
)
def stat_upload(
    upload_id: str, response: Response, resources: ResourcesDep, tenant: TenantDep
) -> Response:
    """Where to go on: `Upload-Offset`."""
    found = _look(resources, tenant, upload_id)
    return Response(headers=_headers(found) | {"Cache-Control": "no-store"})


@router.get(
    "/{upload_id}",
    operation_id="get_upload",
    responses=responses(ErrorCode.NOT_FOUND, ErrorCode.UNAVAILABLE),
)
def get_upload(upload_id: str, resources: ResourcesDep, tenant: TenantDep) -> PartialUpload:
    """How much has arrived, and the id of what it became."""
    return _look(resources, tenant, upload_id)


@router.patch(
    "/{upload_id}",
    operation_id="send_part",
    status_code=204,
    dependencies=_TUS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {PART: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    responses=responses(
        ErrorCode.BAD_REQUEST,
        ErrorCode.NOT_FOUND,
        ErrorCode.CONFLICT,
        ErrorCode.UPLOAD_TOO_LARGE,
        ErrorCode.STORAGE_QUOTA,
        ErrorCode.TUS_VERSION,
        ErrorCode.NOT_A_PART,
        ErrorCode.UNAVAILABLE,
        *MODEL_ERRORS,
        *DATASET_ERRORS,
    ),
)
async def send_part(
    upload_id: str,
    request: Request,
    resources: ResourcesDep,
    tenant: TenantDep,
    upload_offset: Annotated[int, Header(description="Where the part begins.", ge=0)],
) -> Response:
    """Send the next part; with the last one the file is checked and becomes what it is.

    `Content-Location` then is the address of the model or dataset.
    """
    body = Body(request.receive)
    try:
        if request.headers.get("Content-Type") != PART:
            raise IntraFusionError(
                ErrorCode.NOT_A_PART,
                "The body is no part of an upload.",
                f"Send it with Content-Type: {PART}.",
            )
        found = await run_in_threadpool(_look, resources, tenant, upload_id)
        if found.result is None:
            await _append(resources, found, body, upload_offset)
    except IntraFusionError:
        await body.drain()
        raise
    found = await run_in_threadpool(_look, resources, tenant, upload_id)
    if found.offset == found.length and found.result is None:
        found = await run_in_threadpool(
            uploads.finish_partial,
            database=resources.database,
            parts=resources.parts,
            settings=resources.settings,
            tenant=tenant,
            id=upload_id,
        )
    return Response(status_code=204, headers=_headers(found))


async def _append(resources: Resources, found: PartialUpload, body: Body, offset: int) -> None:
    """Write the part as it arrives; what arrived before a broken connection stays."""

    def beyond(limit: int) -> IntraFusionError:
        return IntraFusionError(
            ErrorCode.UPLOAD_TOO_LARGE,
            f"The part reaches beyond the {found.length:,} bytes that were announced.",
            "Begin a new upload with the right Upload-Length.",
            length=found.length,
        )

    parts = resources.parts
    part = await run_in_threadpool(parts.append, found.id, offset)
    try:
        room = found.length - offset
        async with FileWriter(part.write, room, chunk=parts.chunk, too_large=beyond) as writer:
            try:
                async for chunk in body.chunks():
                    await writer.write(chunk)
            except ClientDisconnect:
                await writer.close()
                raise
    finally:
        await run_in_threadpool(part.close)


@router.delete(
    "/{upload_id}",
    operation_id="give_up_upload",
    status_code=204,
    dependencies=_TUS,
    responses=_MISSING,
)
def give_up_upload(upload_id: str, resources: ResourcesDep, tenant: TenantDep) -> None:
    """Let go of an upload and of what has arrived."""
    uploads.delete_partial(
        database=resources.database, parts=resources.parts, tenant=tenant, id=upload_id
    )


def _look(resources: Resources, tenant: str, upload_id: str) -> PartialUpload:
    return uploads.get_partial(
        database=resources.database, parts=resources.parts, tenant=tenant, id=upload_id
    )


def _headers(found: PartialUpload) -> dict[str, str]:
    headers = {
        "Tus-Resumable": VERSION,
        "Upload-Offset": str(found.offset),
        "Upload-Length": str(found.length),
    }
    if found.result is not None:
        headers["Content-Location"] = f"/v1/{found.kind}s/{found.result}"
    return headers
