"""An upload's bytes on their way in: one raw body or one multipart part, never held in memory."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable

from anyio import to_thread
from starlette.requests import Request

from intrafusion.errors import ErrorCode, IntraFusionError
from service.body import Body
from service.form import Form, PartBegins, PartData, form_boundary, form_error
from service.store.blobs import CHUNK, Incoming


async def receive_upload(request: Request, incoming: Incoming, *, limit: int) -> str | None:
    """Write the request's file to `incoming`; returns the file name if the request has one.

    Raises `UPLOAD_TOO_LARGE` as soon as more than `limit` bytes are announced or arrive, and
    `BAD_REQUEST` where a multipart body has no or several files.
    """
    waits = request.headers.get("Expect", "").lower() == "100-continue"
    body = Body(request.receive, expects_continue=waits)
    try:
        return await _receive(request, body, incoming, limit)
    except IntraFusionError:
        await body.drain()
        raise


async def _receive(request: Request, body: Body, incoming: Incoming, limit: int) -> str | None:
    boundary = form_boundary(request.headers.get("Content-Type", ""))
    if boundary is not None:
        return await _receive_form(body, Form(boundary), incoming, limit)
    _refuse_announced(request, limit)
    async with FileWriter(incoming.write, limit) as writer:
        async for chunk in body.chunks():
            await writer.write(chunk)
    return None


async def _receive_form(body: Body, form: Form, incoming: Incoming, limit: int) -> str | None:
    found: PartBegins | None = None
    in_file = False
    async with FileWriter(incoming.write, limit) as writer:
        async for chunk in body.chunks():
            for event in form.feed(chunk):
                match event:
                    case PartBegins():
                        in_file = event.is_file
                        if in_file and found is not None:
                            raise form_error("The multipart body holds more than one file")
                        found = event if in_file else found
                    case PartData() if in_file:
                        await writer.write(event.content)
        form.finish()
    if found is None:
        raise form_error("The multipart body holds no file")
    return found.file_name


def stated_digest(request: Request) -> str | None:
    """The hexadecimal SHA-256 that `Repr-Digest` or `Content-Digest` states, if any (RFC 9530).

    Raises `BAD_REQUEST` for one that cannot be read.
    """
    for header in ("Repr-Digest", "Content-Digest"):
        value = request.headers.get(header)
        if value is None:
            continue
        match = re.search(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):", value)
        try:
            digest = base64.b64decode(match[1], validate=True) if match else b""
        except binascii.Error:
            digest = b""
        if match and len(digest) != 32:
            raise IntraFusionError(
                ErrorCode.BAD_REQUEST,
                f"{header} is {value!r}, which holds no SHA-256.",
                "Write it as sha-256=:<base64 of the 32 bytes>:, or leave the header out.",
            )
        if match:
            return digest.hex()
    return None


def _refuse_announced(request: Request, limit: int) -> None:
    announced = request.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit, announced=int(announced))


def _too_large(limit: int, **announced: int) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.UPLOAD_TOO_LARGE,
        f"The upload is over the limit of {limit:,} bytes.",
        "Send a smaller file, or have the operator raise INTRAFUSION_MAX_UPLOAD_BYTES.",
        limit=limit,
        **announced,
    )


class FileWriter:
    """Writes a file chunk by chunk in a thread, while the next chunk arrives.

    `write` is given `chunk` bytes at a time. Raises what `too_large` makes, `UPLOAD_TOO_LARGE` by
    default, as soon as there are more than `limit` bytes.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        limit: int,
        *,
        chunk: int = CHUNK,
        too_large: Callable[[int], IntraFusionError] = _too_large,
    ) -> None:
        self._write = write
        self._limit = limit
        self._chunk = chunk
        self._too_large = too_large
        self._received = 0
        self._buffer = bytearray()
        self._busy: asyncio.Task[None] | None = None

    async def write(self, chunk: bytes) -> None:
        """Take `chunk`, and begin to write once there is enough."""
        self._received += len(chunk)
        if self._received > self._limit:
            raise self._too_large(self._limit)
        self._buffer += chunk
        if len(self._buffer) >= self._chunk:
            await self._flush()

    async def _flush(self) -> None:
        await self._rest()
        chunk = bytes(self._buffer)
        self._buffer.clear()
        self._busy = asyncio.create_task(to_thread.run_sync(self._write, chunk))

    async def _rest(self) -> None:
        if self._busy is not None:
            await self._busy

    async def __aenter__(self) -> FileWriter:
        return self

    async def close(self) -> None:
        """Write what is left."""
        await self._flush()
        await self._rest()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._flush()
        await self._rest()  # also after an error: nobody may close the file under a write
