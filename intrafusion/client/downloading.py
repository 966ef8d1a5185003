"""Downloading: resumed where it broke off, checked, and then put in place at once."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import partial
from io import BufferedRandom
from pathlib import Path

import httpx

from intrafusion.api import Artifact
from intrafusion.client import calls
from intrafusion.client.answers import BUSY, refusal, stated_digest
from intrafusion.client.steps import Close, Do, Line, Open, Read, Steps
from intrafusion.errors import ErrorCode, IntraFusionError


def download(line: Line, job_id: str, name: str, path: Path) -> Steps[Path]:
    """Write an artifact to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            stated = yield from _fetch(line, f"/v1/jobs/{job_id}/artifacts/{name}", file)
            if stated is None:  # a redirect to an object store loses the header
                stated = yield from _listed_digest(line, job_id, name)
            actual: bytes = yield Do(partial(_settle, file))
        if stated != actual:
            raise IntraFusionError(
                ErrorCode.CHECKSUM_MISMATCH,
                f"{name} arrived with SHA-256 {actual.hex()}; the server stated {stated.hex()}.",
                "Download it again; if it happens twice, something between here and the "
                "server changes the bytes.",
            )
        _give_usual_mode(part)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return path


def _fetch(line: Line, address: str, file: BufferedRandom) -> Steps[bytes | None]:
    """Stream `address` into `file`; gives the SHA-256 the server states, if any."""
    etag: str | None = None
    patience = line.patience()
    while True:
        headers = {"Accept-Encoding": "identity"}
        if file.tell() and etag:
            headers |= {"Range": f"bytes={file.tell()}-", "If-Range": etag}
        response = yield Open(address, headers=headers)
        if isinstance(response, httpx.TransportError):
            yield patience.unreachable(line.url, response)
            continue
        if response.is_error:
            yield from _refuse_unless_busy(response)
            yield patience.busy(response)
            continue
        if response.status_code != 206:
            file.seek(0)
            file.truncate()
        etag = response.headers.get("ETag")
        while (chunk := (yield Read())) and not isinstance(chunk, httpx.TransportError):
            file.write(chunk)
            patience.reset()
        yield Close()
        if not chunk:
            return stated_digest(response)
        yield patience.unreachable(line.url, chunk)


def _refuse_unless_busy(response: httpx.Response) -> Steps[None]:
    said = b""
    while (chunk := (yield Read())) and not isinstance(chunk, httpx.TransportError):
        said += chunk
    yield Close()
    if response.status_code not in BUSY:
        raise refusal(httpx.Response(response.status_code, content=said, request=response.request))


def _listed_digest(line: Line, job_id: str, name: str) -> Steps[bytes]:
    listed = yield from calls.page(line, f"/v1/jobs/{job_id}/artifacts", {}, Artifact)
    for artifact in listed.data:
        if artifact.name == name:
            return bytes.fromhex(artifact.sha256)
    raise IntraFusionError(
        ErrorCode.NOT_FOUND,
        f"Job {job_id} does not list an artifact {name}.",
        "Ask for one of its artifacts.",
    )


def _settle(file: BufferedRandom) -> bytes:
    """Bring the file to disk; gives its SHA-256."""
    file.flush()
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").digest()
    os.fsync(file.fileno())
    return digest


def _give_usual_mode(path: str) -> None:
    """Give a file made by mkstemp, which only its owner may read, the mode `open` would give."""
    umask = os.umask(0)
    os.umask(umask)
    Path(path).chmod(0o666 & ~umask)
