"""The same client for programs with an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import httpx
from anyio import to_thread

from intrafusion.api import Artifact, Dataset, Event, Job, JobRequest, JobStatus, Model
from intrafusion.client import calls
from intrafusion.client.answers import ResponseT
from intrafusion.client.downloading import download
from intrafusion.client.steps import (
    CHUNK,
    Close,
    Do,
    Line,
    Open,
    Pause,
    Read,
    Send,
    Step,
    Steps,
    T,
    http_options,
)
from intrafusion.client.uploading import upload
from intrafusion.client.waiting import LONGEST_POLL_S, EventListener, wait
from intrafusion.report import CompressionReport, PlanReport


class AsyncClient:
    """`Client` on an event loop: the same calls, awaited. Lists are asynchronous iterators.

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
        self._line = Line(self.url, patience)
        self._http = httpx.AsyncClient(**http_options(self.url, api_key, timeout, LONGEST_POLL_S))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ready(self) -> bool:
        """Whether the server answers and has its database, queue, blob store and a worker."""
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    async def upload_model(self, path: str | Path) -> Model:
        """Upload a model file (.pt, .pt2, .safetensors); the same bytes again give the same id."""
        return await self._run(upload(self._line, Path(path), Model))

    async def upload_dataset(self, path: str | Path) -> Dataset:
        """Upload samples (.npz, .safetensors); the same bytes again give the same id."""
        return await self._run(upload(self._line, Path(path), Dataset))

    def models(self) -> AsyncIterator[Model]:
        """All uploaded models, newest first."""
        return self._pages("/v1/models", {}, Model)

    async def model(self, model_id: str) -> Model:
        """One uploaded model; once a job has loaded it, with what can be pruned in it."""
        return await self._run(calls.get(self._line, f"/v1/models/{model_id}", Model))

    def datasets(self) -> AsyncIterator[Dataset]:
        """All uploaded samples, newest first."""
        return self._pages("/v1/datasets", {}, Dataset)

    async def delete_model(self, model_id: str) -> None:
        """Have the server forget a model. Raises `CONFLICT` while a job still reads it."""
        await self._run(calls.delete(self._line, f"/v1/models/{model_id}"))

    async def delete_dataset(self, dataset_id: str) -> None:
        """Have the server forget samples. Raises `CONFLICT` while a job still reads them."""
        await self._run(calls.delete(self._line, f"/v1/datasets/{dataset_id}"))

    async def submit(self, request: JobRequest, *, idempotency_key: str | None = None) -> Job:
        """Queue a compression and return at once.

        With an `idempotency_key` of your own, calling this again with the same request
        (from another process, say) gives the same job instead of a second one.
        """
        return await self._run(calls.submit(self._line, request, idempotency_key))

    async def job(self, job_id: str, *, wait: int = 0) -> Job:
        """The job as it is now, or as soon as it ends within `wait` seconds."""
        params = {"wait": wait} if wait else {}
        return await self._run(calls.get(self._line, f"/v1/jobs/{job_id}", Job, params))

    def jobs(
        self,
        *,
        status: JobStatus | None = None,
        model: str | None = None,
        method: str | None = None,
        metadata: Mapping[str, str] | None = None,
        queued_after: datetime | None = None,
        queued_before: datetime | None = None,
    ) -> AsyncIterator[Job]:
        """The jobs that all of these let through, newest first, fetched as they are consumed.

        Times are aware datetimes. A job must have every label in `metadata`.
        """
        params = calls.job_params(status, model, method, metadata, queued_after, queued_before)
        return self._pages("/v1/jobs", params, Job)

    async def wait(
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
        return await self._run(wait(self._line, job_id, timeout, on_event))

    def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """The job's events so far with a number above `after`, oldest first."""
        return self._pages(f"/v1/jobs/{job_id}/events", {"after": after}, Event)

    async def cancel(self, job_id: str) -> Job:
        """Ask the server to stop the job; a job that has ended stays as it is."""
        return await self._run(calls.post(self._line, f"/v1/jobs/{job_id}/cancel", Job))

    async def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Queue a new job that asks for what an ended one asked for."""
        return await self._run(calls.retry(self._line, job_id, idempotency_key))

    async def delete(self, job_id: str) -> None:
        """Have the server forget an ended job and its files."""
        await self._run(calls.delete(self._line, f"/v1/jobs/{job_id}"))

    async def report(self, job_id: str) -> CompressionReport:
        """What the job did and what it cost. Raises `NOT_FINISHED` before it has succeeded."""
        return await self._run(
            calls.get(self._line, f"/v1/jobs/{job_id}/report", CompressionReport)
        )

    async def plan(self, job_id: str) -> PlanReport:
        """What the job would do, if it is a dry run. Raises `NOT_FINISHED` before it has ended."""
        return await self._run(calls.get(self._line, f"/v1/jobs/{job_id}/plan", PlanReport))

    async def artifacts(self, job_id: str) -> list[Artifact]:
        """The files the job made."""
        address = f"/v1/jobs/{job_id}/artifacts"
        return (await self._run(calls.page(self._line, address, {}, Artifact))).data

    async def download(self, job_id: str, name: str, path: str | Path) -> Path:
        """Write the artifact `name` to `path` and return the path.

        The file appears whole or not at all, and only when its SHA-256 is the one the server
        states; a broken connection goes on where it stopped. Raises `CHECKSUM_MISMATCH`.
        """
        return await self._run(download(self._line, job_id, name, Path(path)))

    async def _pages(
        self, address: str, params: Mapping[str, Any], kind: type[ResponseT]
    ) -> AsyncIterator[ResponseT]:
        asked = dict(params)
        while True:
            page = await self._run(calls.page(self._line, address, asked, kind))
            for entry in page.data:
                yield entry
            if page.next is None:
                return
            asked["cursor"] = page.next

    async def _run(self, steps: Steps[T]) -> T:
        taker = _Taker(self._http)
        outcome: Any = None
        try:
            while True:
                step = steps.send(outcome)
                try:
                    outcome = await taker.take(step)
                except httpx.TransportError as broken:
                    outcome = broken
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()
            await taker.close()


class _Taker:
    """Takes the steps of one call on the event loop, and long work in a thread."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._open: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def take(self, step: Step) -> Any:
        match step:
            case Send():
                return await self._http.request(
                    step.method,
                    step.address,
                    params=step.params,
                    headers=step.headers,
                    json=step.json,
                    content=None if step.file is None else _chunks(step.file, step.offset),
                )
            case Open():
                return await self._begin(step)
            case Read():
                assert self._chunks is not None
                return await anext(self._chunks, b"")
            case Close():
                await self.close()
            case Pause():
                await anyio.sleep(step.seconds)
            case Do():
                return await to_thread.run_sync(step.work)
        return None

    async def _begin(self, step: Open) -> httpx.Response:
        request = self._http.build_request(
            "GET", step.address, params=step.params, headers=step.headers
        )
        if step.silence is not None:
            request.extensions["timeout"]["read"] = step.silence
        self._open = await self._http.send(request, stream=True)
        self._chunks = self._open.aiter_raw()
        return self._open

    async def close(self) -> None:
        if self._open is not None:
            await self._open.aclose()
        self._open = self._chunks = None


async def _chunks(path: Path, offset: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(offset)
        while chunk := await file.read(CHUNK):
            yield chunk
