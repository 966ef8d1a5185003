"""The REST client: upload, submit, wait, download. Light: importing this costs no torch.

    from intrafusion.client import Client
    with Client("http://127.0.0.1:8000") as client:
        model = client.upload_model("model.pt")
        job = client.submit(JobRequest(model=model.id, input_shapes=[[1, 3, 224, 224]]))
        job = client.wait(job.id)
        client.download(job.id, "model.pt", "small.pt")

Every refusal is raised as the `IntraFusionError` the server meant, with its stable code. A
server that cannot be reached, or stays unready, is `ErrorCode.UNAVAILABLE`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from intrafusion.api import (
    Artifact,
    Dataset,
    Event,
    Job,
    JobRequest,
    JobStatus,
    Model,
    Page,
    Problem,
)
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.report import CompressionReport

CHUNK = 1 << 20
LONGEST_POLL_S = 20
LONGEST_PAUSE_S = 30.0
STRANGER_S = 2.0
BUSY = {429, 502, 503, 504}

EventListener = Callable[[Event], None]
ResponseT = TypeVar("ResponseT", bound=BaseModel)


class Client:
    """A connection to one server. Use it as a context manager, or call `close`.

    `api_key` is sent as a bearer token. `timeout` is the number of seconds one request may
    go without an answer. `patience` is the number of seconds a server may be away before
    the client gives up: every call of this API can be repeated without doing its work twice.
    A server that has never answered gets two seconds at most.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        patience: float = 10.0,
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience
        self._met = False
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=httpx.Timeout(timeout, read=max(timeout, LONGEST_POLL_S + 10)),
                follow_redirects=True,
            )
        except httpx.InvalidURL as invalid:
            raise _bad_address(self.url) from invalid
        if self._http.base_url.scheme not in {"http", "https"}:
            raise _bad_address(self.url)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self) -> bool:
        """Whether the server answers and has its database, queue, blob store and a worker."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def upload_model(self, path: str | Path) -> Model:
        """Upload a model file (.pt, .pt2, .safetensors); the same bytes again give the same id."""
        return self._upload("/v1/models", Path(path), Model)

    def upload_dataset(self, path: str | Path) -> Dataset:
        """Upload samples (.npz, .safetensors); the same bytes again give the same id."""
        return self._upload("/v1/datasets", Path(path), Dataset)

    def submit(self, request: JobRequest, *, idempotency_key: str | None = None) -> Job:
        """Queue a compression and return at once.

        With an `idempotency_key` of your own, calling this again with the same request
        (from another process, say) gives the same job instead of a second one.
        """
        response = self._request(
            "POST",
            "/v1/jobs",
            json=request.model_dump(mode="json", exclude_unset=True),
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
        )
        return _parse(response, Job)

    def job(self, job_id: str, *, wait: int = 0) -> Job:
        """The job as it is now, or as soon as it ends within `wait` seconds."""
        params = {"wait": wait} if wait else {}
        return _parse(self._request("GET", f"/v1/jobs/{job_id}", params=params), Job)

    def jobs(self, *, status: JobStatus | None = None) -> Iterator[Job]:
        """All jobs, newest first, fetched page by page as they are consumed."""
        params = {"status": status} if status else {}
        return self._pages("/v1/jobs", params, Job)

    def wait(
        self,
        job_id: str,
        *,
        timeout: float | None = None,
        on_event: EventListener | None = None,
    ) -> Job:
        """Wait until the job has ended and return it, whatever its status.

        `on_event` is called with each of the job's events in order, once. After `timeout`
        seconds the job is returned as it is then, unended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        poll = LONGEST_POLL_S if on_event is None else 1
        seen = 0
        while True:
            left = poll if deadline is None else min(poll, deadline - time.monotonic())
            job = self.job(job_id, wait=max(0, round(left)))
            if on_event is not None:
                for event in self.events(job_id, after=seen):
                    on_event(event)
                    seen = event.id
            if job.ended or (deadline is not None and time.monotonic() >= deadline):
                return job
            if round(left) <= 0:
                time.sleep(0.1)

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The job's events with a number above `after`, oldest first."""
        return self._pages(f"/v1/jobs/{job_id}/events", {"after": after}, Event)

    def cancel(self, job_id: str) -> Job:
        """Ask the server to stop the job; a job that has ended stays as it is."""
        return _parse(self._request("POST", f"/v1/jobs/{job_id}/cancel"), Job)

    def report(self, job_id: str) -> CompressionReport:
        """What the job did and what it cost. Raises `NOT_FINISHED` before it has succeeded."""
        return _parse(self._request("GET", f"/v1/jobs/{job_id}/report"), CompressionReport)

    def artifacts(self, job_id: str) -> list[Artifact]:
        """The files the job made."""
        return list(self._pages(f"/v1/jobs/{job_id}/artifacts", {}, Artifact))

    def download(self, job_id: str, name: str, path: str | Path) -> Path:
        """Write the artifact `name` to `path` and return the path.

        The file appears whole or not at all, and only when its SHA-256 is the one the server
        states; a broken connection goes on where it stopped. Raises `CHECKSUM_MISMATCH`.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "w+b") as file:
                stated = self._fetch(f"/v1/jobs/{job_id}/artifacts/{name}", file)
                if stated is None:  # a redirect to an object store loses the header
                    stated = self._listed_digest(job_id, name)
                file.flush()
                file.seek(0)
                actual = hashlib.file_digest(file, "sha256").digest()
                os.fsync(file.fileno())
            if stated != actual:
                raise IntraFusionError(
                    ErrorCode.CHECKSUM_MISMATCH,
                    f"{name} arrived with SHA-256 {actual.hex()}; the server stated "
                    f"{stated.hex()}.",
                    "Download it again; if it happens twice, something between here and the "
                    "server changes the bytes.",
                )
            _give_usual_mode(part)
            Path(part).replace(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        return path

    def _fetch(self, address: str, file: Any) -> bytes | None:
        """Stream `address` into `file`; returns the SHA-256 the server states, if any."""
        etag: str | None = None
        retry = self._new_patience()
        while True:
            offset = file.tell()
            headers = {"Accept-Encoding": "identity"}
            if offset and etag:
                headers |= {"Range": f"bytes={offset}-", "If-Range": etag}
            try:
                with self._http.stream("GET", address, headers=headers) as response:
                    if response.is_error:
                        response.read()
                        if response.status_code not in BUSY:
                            raise _refusal(response)
                        retry.after(response)
                        continue
                    if response.status_code != 206:
                        file.seek(0)
                        file.truncate()
                    etag = response.headers.get("ETag")
                    for chunk in response.iter_raw():
                        file.write(chunk)
                        retry.reset()
                    return _stated_digest(response)
            except httpx.TransportError as broken:
                retry.unreachable(self.url, broken)

    def _listed_digest(self, job_id: str, name: str) -> bytes:
        for artifact in self.artifacts(job_id):
            if artifact.name == name:
                return bytes.fromhex(artifact.sha256)
        raise IntraFusionError(
            ErrorCode.NOT_FOUND,
            f"Job {job_id} does not list an artifact {name}.",
            "Ask for one of its artifacts.",
        )

    def _upload(self, address: str, path: Path, kind: type[ResponseT]) -> ResponseT:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
        except OSError as unreadable:
            raise IntraFusionError(
                ErrorCode.NOT_FOUND,
                f"{path} cannot be read: {unreadable.strerror}.",
                "Give the path of a file you may read.",
                path=str(path),
            ) from unreadable
        response = self._request(
            "POST",
            address,
            params={"name": path.name},
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(path.stat().st_size),
                "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
            },
            file=path,
        )
        return _parse(response, kind)

    def _pages(
        self, address: str, params: dict[str, Any], kind: type[ResponseT]
    ) -> Iterator[ResponseT]:
        cursor: str | None = None
        while True:
            asked = params | ({"cursor": cursor} if cursor else {})
            page = _parse(self._request("GET", address, params=asked), Page[Any])
            for entry in page.data:
                yield _check(entry, kind)
            cursor = page.next
            if cursor is None:
                return

    def _request(
        self, method: str, address: str, *, file: Path | None = None, **request: Any
    ) -> httpx.Response:
        """One call, repeated while the server is away or busy; a refusal is raised."""
        retry = self._new_patience()
        while True:
            if file is not None:
                request["content"] = _chunks(file)
            try:
                response = self._http.request(method, address, **request)
            except httpx.TransportError as broken:
                retry.unreachable(self.url, broken)
                continue
            self._met = True
            if response.is_success:
                return response
            if response.status_code not in BUSY:
                raise _refusal(response)
            retry.after(response)

    def _new_patience(self) -> _Patience:
        return _Patience(self._patience if self._met else min(self._patience, STRANGER_S))


class _Patience:
    """How long to go on asking a server that is away or busy."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.reset()

    def reset(self) -> None:
        """The server is there: the next failure is counted as the first."""
        self._since: float | None = None
        self._pause = 0.25

    def after(self, response: httpx.Response) -> None:
        """Pause as long as the busy `response` asks; raises it when patience has run out."""
        try:
            asked = float(response.headers.get("Retry-After", self._pause))
        except ValueError:
            asked = self._pause
        if not self._sleep(asked):
            raise _refusal(response)

    def unreachable(self, url: str, cause: httpx.TransportError) -> None:
        """Pause after a broken connection; raises `UNAVAILABLE` when patience has run out."""
        if not self._sleep(self._pause):
            raise IntraFusionError(
                ErrorCode.UNAVAILABLE,
                f"The server at {url} cannot be reached: {cause or type(cause).__name__}.",
                "Check the address and that the server runs (intrafusion serve).",
                url=url,
            ) from cause

    def _sleep(self, asked: float) -> bool:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        pause = min(max(asked, 0.05), LONGEST_PAUSE_S)
        if now + pause > self._since + self._seconds:
            return False
        time.sleep(pause)
        self._pause = min(self._pause * 2, 4.0)
        return True


def _bad_address(url: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.BAD_REQUEST,
        f"{url!r} is no server address.",
        "Give one such as http://127.0.0.1:8000.",
        url=url,
    )


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _give_usual_mode(path: str) -> None:
    """Give a file made by mkstemp, which only its owner may read, the mode `open` would give."""
    umask = os.umask(0)
    os.umask(umask)
    Path(path).chmod(0o666 & ~umask)


def _stated_digest(response: httpx.Response) -> bytes | None:
    """The SHA-256 in `Repr-Digest: sha-256=:base64:` (RFC 9530)."""
    for entry in response.headers.get("Repr-Digest", "").split(","):
        algorithm, _, value = entry.strip().partition("=")
        if algorithm == "sha-256":
            with suppress(ValueError):
                return base64.b64decode(value.strip(":"), validate=True)
    return None


def _parse(response: httpx.Response, kind: type[ResponseT]) -> ResponseT:
    try:
        content = response.json()
    except ValueError as not_json:
        raise _unreadable(str(response.request.url), response.text[:200]) from not_json
    return _check(content, kind)


def _check(content: Any, kind: type[ResponseT]) -> ResponseT:
    try:
        return kind.model_validate(content)
    except ValidationError as invalid:
        raise _unreadable(kind.__name__, str(invalid)) from invalid


def _unreadable(where: str, what: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.INTERNAL,
        f"The server's answer ({where}) cannot be read: {what}.",
        "Check that the address is that of an Intra-Fusion server, and that client and server "
        "have the same version.",
    )


def _refusal(response: httpx.Response) -> IntraFusionError:
    """The error a refusing `response` carries as problem+json, or one that says it has none."""
    try:
        problem = Problem.model_validate(response.json())
    except ValueError:
        code = ErrorCode.UNAVAILABLE if response.status_code in BUSY else ErrorCode.INTERNAL
        return IntraFusionError(
            code,
            f"The server answered {response.status_code} {response.reason_phrase} without "
            "saying why.",
            "Check that the address is that of an Intra-Fusion server.",
            status=response.status_code,
        )
    return error_of(problem)


def error_of(problem: Problem) -> IntraFusionError:
    """The `IntraFusionError` that `problem`, a refusal or a failed job's error, stands for."""
    error = IntraFusionError(ErrorCode.from_code(problem.code), problem.detail, problem.hint)
    error.details.update(problem.details)
    if problem.request_id:
        error.details["request_id"] = problem.request_id
    return error
