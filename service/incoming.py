"""An upload's bytes on their way in: one raw body or one multipart part, never held in memory."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from intrafusion.errors import ErrorCode, IntraFusionError
from service.body import Body
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
    kind, options = parse_options_header(request.headers.get("Content-Type", ""))
    form: _OneFile | None = None
    if kind == b"multipart/form-data":
        form = _OneFile(options.get(b"boundary", b""))
    else:
        _refuse_announced(request, limit)
    buffer = bytearray()
    received = 0
    async with _Writer(incoming) as writer:
        async for chunk in body.chunks():
            part = chunk if form is None else form.feed(chunk)
            received += len(part)
            if received > limit:
                raise _too_large(limit)
            buffer += part
            if len(buffer) >= CHUNK:
                await writer.write(bytes(buffer))
                buffer.clear()
        await writer.write(bytes(buffer))
    if form is None:
        return None
    form.finish()
    return form.name


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


class _Writer:
    """Writes and hashes one chunk in a thread while the next one arrives."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._busy: asyncio.Task[None] | None = None

    async def write(self, chunk: bytes) -> None:
        """Begin to write `chunk` as soon as the one before is written."""
        await self._rest()
        self._busy = asyncio.create_task(to_thread.run_sync(self._incoming.write, chunk))

    async def _rest(self) -> None:
        if self._busy is not None:
            await self._busy

    async def __aenter__(self) -> _Writer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._rest()  # also after an error: nobody may close the file under a write


@dataclass
class _Part:
    headers: dict[bytes, bytes]
    is_file: bool = False
    name: str | None = None


class _OneFile:
    """Parses multipart/form-data with exactly one part that is a file."""

    def __init__(self, boundary: bytes) -> None:
        if not boundary:
            raise _form_error("The multipart body's boundary is missing")
        self.name: str | None = None
        self._files = 0
        self._ended = False
        self._part = _Part({})
        self._field = self._value = b""
        self._out = bytearray()
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise _form_error(str(error)) from error

    def feed(self, chunk: bytes) -> bytes:
        """Parse `chunk`; returns what of the file it held."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _form_error(str(error)) from error
        found = bytes(self._out)
        self._out.clear()
        return found

    def finish(self) -> None:
        """Raise `BAD_REQUEST` unless the body was whole and held one file."""
        if not self._ended:
            raise _form_error("The multipart body ends before its closing boundary")
        if self._files == 0:
            raise _form_error("The multipart body holds no file")

    def _begin(self) -> None:
        self._part = _Part({})

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._part.headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._part.headers.get(b"content-disposition", b""))
        if b"filename" in options:
            self._files += 1
            if self._files > 1:
                raise _form_error("The multipart body holds more than one file")
            self._part.is_file = True
            self.name = options[b"filename"].decode(errors="replace") or None

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._part.is_file:
            self._out += data[start:end]

    def _on_end(self) -> None:
        self._ended = True


def _form_error(reason: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.BAD_REQUEST,
        f"{reason.rstrip('.')}.",
        "Send one file, as `curl --form file=@model.pt` or as a raw body with "
        "`curl --data-binary @model.pt`.",
    )
