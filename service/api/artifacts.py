"""What a job made: /v1/jobs/{id}/report, …/plan and …/artifacts"""

from __future__ import annotations

import base64
import re
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from intrafusion.api import PLAN_FILE, REPORT_FILE, Artifact, Page
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.report import CompressionReport, PlanReport
from service import jobs
from service.api.deps import BlobsDep, DatabaseDep, SettingsDep, TenantDep
from service.problems import problem_response, responses
from service.store.blobs import Blobs

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["artifacts"])

_LINK_SECONDS = 3600
_MEDIA: dict[str, Any] = {
    media_type: {} for media_type in ("application/octet-stream", "application/json", "text/html")
}
"""Networks, reports, and reports as a page."""
_MISSING = responses(ErrorCode.NOT_FOUND, ErrorCode.NOT_FINISHED)


@router.get(
    "/report",
    operation_id="get_report",
    response_model=CompressionReport,
    responses=_MISSING,
)
async def get_report(
    job_id: str, request: Request, database: DatabaseDep, tenant: TenantDep, blobs: BlobsDep
) -> Response:
    """What the compression did and what it cost."""
    artifact = await run_in_threadpool(
        jobs.get_artifact, database=database, tenant=tenant, id=job_id, name=REPORT_FILE
    )
    return await _send(request, artifact, blobs)


@router.get("/plan", operation_id="get_plan", response_model=PlanReport, responses=_MISSING)
async def get_plan(
    job_id: str, request: Request, database: DatabaseDep, tenant: TenantDep, blobs: BlobsDep
) -> Response:
    """What the compression would remove: the answer of a job with `dry_run`."""
    artifact = await run_in_threadpool(
        jobs.get_artifact, database=database, tenant=tenant, id=job_id, name=PLAN_FILE
    )
    return await _send(request, artifact, blobs)


@router.get("/artifacts", operation_id="list_artifacts", responses=responses(ErrorCode.NOT_FOUND))
def list_artifacts(job_id: str, database: DatabaseDep, tenant: TenantDep) -> Page[Artifact]:
    """The files the job made; none before it has succeeded."""
    return jobs.list_artifacts(database=database, tenant=tenant, id=job_id)


@router.head("/artifacts/{name}", operation_id="stat_artifact", responses=_MISSING)
@router.get(
    "/artifacts/{name}",
    operation_id="download_artifact",
    response_class=StreamingResponse,
    responses={
        200: {"content": _MEDIA, "description": "The whole file."},
        206: {"content": _MEDIA, "description": "The range that was asked for."},
        307: {"description": "The object store that holds the file, where that is enabled."},
        304: {"description": "The file is the one in `If-None-Match`."},
        **responses(ErrorCode.NOT_FOUND, ErrorCode.NOT_FINISHED, ErrorCode.RANGE_NOT_SATISFIABLE),
    },
)
async def download_artifact(
    job_id: str,
    name: str,
    request: Request,
    database: DatabaseDep,
    tenant: TenantDep,
    blobs: BlobsDep,
    settings: SettingsDep,
) -> Response:
    """One file, or a `Range` of it. `ETag` is its SHA-256, `Repr-Digest` the same for checking."""
    artifact = await run_in_threadpool(
        jobs.get_artifact, database=database, tenant=tenant, id=job_id, name=name
    )
    if request.method == "GET" and settings.link_downloads:
        link = blobs.link(artifact.sha256, seconds=_LINK_SECONDS)
        if link is not None:
            return RedirectResponse(link, headers={"Cache-Control": "no-store"})
    return await _send(request, artifact, blobs, attachment=True)


async def _send(
    request: Request, artifact: Artifact, blobs: Blobs, *, attachment: bool = False
) -> Response:
    etag = f'"{artifact.sha256}"'
    digest = base64.b64encode(bytes.fromhex(artifact.sha256)).decode()
    headers = {
        "ETag": etag,
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    if attachment:
        headers["Content-Disposition"] = f'attachment; filename="{artifact.name}"'
    if _matches(request.headers.get("If-None-Match"), etag):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("Range")
    if request.headers.get("If-Range", etag) != etag or request.method == "HEAD":
        wanted = None
    try:
        part = byte_range(wanted, artifact.bytes)
    except IntraFusionError as error:
        whole = {"Content-Range": f"bytes */{artifact.bytes}"}
        return problem_response(error, request.state.request_id, headers=whole)
    start, end = part or (0, artifact.bytes)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.bytes}"
    if request.method == "HEAD":
        return Response(headers=headers, media_type=artifact.media_type)
    return StreamingResponse(
        blobs.stream(artifact.sha256, start, end),
        status_code=200 if part is None else 206,
        headers=headers,
        media_type=artifact.media_type,
    )


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and byte after the last of a `Range` header; None for the whole file.

    As RFC 9110 allows, a header that is malformed or asks for several ranges is ignored.
    Raises `RANGE_NOT_SATISFIABLE` for one range that lies outside the `size` bytes.
    """
    match = re.fullmatch(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", header or "")
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        end = min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= end:
        raise IntraFusionError(
            ErrorCode.RANGE_NOT_SATISFIABLE,
            f"The file has {size} bytes; {header} lies outside.",
            "Ask for a range within them, or leave the Range header out.",
            bytes=size,
        )
    return start, end


def _matches(header: str | None, etag: str) -> bool:
    given = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return "*" in given or etag in given
