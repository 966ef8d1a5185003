"""Uploading: not at all where the server has the bytes; a large file goes on where it broke off."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from intrafusion.api import Dataset, Model, Upload
from intrafusion.client.answers import BUSY, parse, refusal
from intrafusion.client.calls import get, page
from intrafusion.client.steps import Do, Line, Send, Steps
from intrafusion.errors import ErrorCode, IntraFusionError

UploadT = TypeVar("UploadT", bound=Upload)

UPLOADS: Mapping[type[Any], str] = {Model: "/v1/models", Dataset: "/v1/datasets"}
LARGE = 64 * 1024**2
"""Bytes from which on a file is sent so that it can be resumed."""
_TUS = {"Tus-Resumable": "1.0.0"}
_CONFLICT = 409


def upload(line: Line, path: Path, kind: type[UploadT]) -> Steps[UploadT]:
    """Upload a file, unless the server has its bytes already."""
    digest: bytes = yield Do(partial(_digest, path))
    address = UPLOADS[kind]
    known = yield from page(line, address, {"sha256": digest.hex(), "limit": 1}, kind)
    for entry in known.data:
        if entry.sha256 == digest.hex():  # a server of an older version lists all
            return entry
    size = path.stat().st_size
    if size >= LARGE:
        return (yield from _resumable(line, path, size, kind, digest.hex()))
    response = yield from line.ask(
        Send(
            "POST",
            address,
            params={"name": path.name},
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size),
                "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
            },
            file=path,
        )
    )
    return parse(response, kind)


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as unreadable:
        raise IntraFusionError(
            ErrorCode.NOT_FOUND,
            f"{path} cannot be read: {unreadable.strerror}.",
            "Give the path of a file you may read.",
            path=str(path),
        ) from unreadable


def _resumable(
    line: Line, path: Path, size: int, kind: type[UploadT], sha256: str
) -> Steps[UploadT]:
    """Send a file by tus 1.0, going on after a broken connection with what has not arrived.

    Patience is counted anew whenever more of the file has arrived. Raises `CHECKSUM_MISMATCH`
    where the server has other bytes than `path`, which may have changed meanwhile.
    """
    words = {"kind": kind.__name__.lower(), "filename": path.name}
    metadata = ",".join(
        f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in words.items()
    )
    headers = {**_TUS, "Upload-Length": str(size), "Upload-Metadata": metadata}
    begun = yield from line.ask(Send("POST", "/v1/uploads", headers=headers))
    where = urlsplit(begun.headers["Location"]).path
    patience, offset = line.patience(), 0
    while True:
        answer = yield _rest(where, path, offset, size)
        if isinstance(answer, httpx.TransportError):
            yield patience.unreachable(line.url, answer)
        elif answer.is_success and "Content-Location" in answer.headers:
            made = yield from get(line, answer.headers["Content-Location"], kind)
            break
        elif answer.is_success or answer.status_code in {_CONFLICT, *BUSY}:
            yield patience.busy(answer)  # 409: it still reads what was cut off, or checks the file
        else:
            raise refusal(answer)
        found = yield from line.ask(Send("HEAD", where, headers=_TUS))
        arrived = int(found.headers["Upload-Offset"])
        if arrived > offset or arrived == size:  # a large file is being checked for a while
            patience.reset()
        offset = arrived
    if made.sha256 != sha256:
        raise IntraFusionError(
            ErrorCode.CHECKSUM_MISMATCH,
            f"The server has SHA-256 {made.sha256} of {path}, which had {sha256} at first.",
            "Upload it again when nothing writes to it.",
        )
    return made


def _rest(where: str, path: Path, offset: int, size: int) -> Send:
    """What has not arrived yet; nothing of a file that the server has but did not look at."""
    headers = {
        **_TUS,
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(size - offset),
        "Upload-Offset": str(offset),
    }
    return Send("PATCH", where, headers=headers, file=path, offset=offset)
