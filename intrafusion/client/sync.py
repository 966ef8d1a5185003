"""The client for programs that wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

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
        self._line = Line(self.url, patience)
        self._http = httpx.Client(**http_options(self.url, api_key, timeout, LONGEST_POLL_S))

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
            return (self._http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    def upload_model(self, path: str | Path) -> Model:
        """Upload a model file (.pt, .pt2, .safetensors); the same bytes again give the same id."""
        return self._run(upload(self._line, Path(path), Model))

    def upload_dataset(self, path: str | Path) -> Dataset:
        """Upload samples (.npz, .safetensors); the same bytes again give the same id."""
        return self._run(upload(self._line, Path(path), Dataset))

    def models(self) -> Iterator[Model]:
        """All uploaded models, newest first."""
        return self._pages("/v1/models", {}, Model)

    def model(self, model_id: str) -> Model:
        """One uploaded model; once a job has loaded it, with what can be pruned in it."""
        return self._run(calls.get(self._line, f"/v1/models/{model_id}", Model))

    def datasets(self) -> Iterator[Dataset]:
        """All uploaded samples, newest first."""
        return self._pages("/v1/datasets", {}, Dataset)

    def delete_model(self, model_id: str) -> None:
        """Have the server forget a model. Raises `CONFLICT` while a job still reads it."""
        self._run(calls.delete(self._line, f"/v1/models/{model_id}"))

    def delete_dataset(self, dataset_id: str) -> None:
        """Have the server forget samples. Raises `CONFLICT` while a job still reads them."""
        self._run(calls.delete(self._line, f"/v1/datasets/{dataset_id}"))

    def submit(self, request: JobRequest, *, idempotency_key: str | None = None) -> Job:
        """Queue a compression and return at once.

        With an `idempotency_key` of your own, calling this again with the same request
        (from another process, say) gives the same job instead of a second one.
        """
        return self._run(calls.submit(self._line, request, idempotency_key))

    def job(self, job_id: str, *, wait: int = 0) -> Job:
        """The job as it is now, or as soon as it ends within `wait` seconds."""
        params = {"wait": wait} if wait else {}
        return self._run(calls.get(self._line, f"/v1/jobs/{job_id}", Job, params))

    def jobs(
        self,
        *,
        status: JobStatus | None = None,
        model: str | None = None,
        method: str | None = None,
        metadata: Mapping[str, str] | None = None,
        queued_after: datetime | None = None,
        queued_before: datetime | None = None,
    ) -> Iterator[Job]:
        """The jobs that all of these let through, newest first, fetched as they are consumed.

        Times are aware datetimes. A job must have every label in `metadata`.
        """
        params = calls.job_params(status, model, method, metadata, queued_after, queued_before)
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
        return self._run(wait(self._line, job_id, timeout, on_event))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The job's events so far with a number above `after`, oldest first."""
        return self._pages(f"/v1/jobs/{job_id}/events", {"after": after}, Event)

    def cancel(self, job_id: str) -> Job:
        """Ask the server to stop the job; a job that has ended stays as it is."""
        return self._run(calls.post(self._line, f"/v1/jobs/{job_id}/cancel", Job))

    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Queue a new job that asks for what an ended one asked for."""
        return self._run(calls.retry(self._line, job_id, idempotency_key))

    def delete(self, job_id: str) -> None:
        """Have the server forget an ended job and its files."""
        self._run(calls.delete(self._line, f"/v1/jobs/{job_id}"))

    def report(self, job_id: str) -> CompressionReport:
        """What the job did and what it cost. Raises `NOT_FINISHED` before it has succeeded."""
        return self._run(calls.get(self._line, f"/v1/jobs/{job_id}/report", CompressionReport))

    def plan(self, job_id: str) -> PlanReport:
        """What the job would do, if it is a dry run. Raises `NOT_FINISHED` before it has ended."""
        return self._run(calls.get(self._line, f"/v1/jobs/{job_id}/plan", PlanReport))

    def artifacts(self, job_id: str) -> list[Artifact]:
        """The files the job made."""
        address = f"/v1/jobs/{job_id}/artifacts"
        return (self._run(calls.page(self._line, address, {}, Artifact))).data

    def download(self, job_id: str, name: str, path: str | Path) -> Path:
        """Write the artifact `name` to `path` and return the path.

        The file appears whole or not at all, and only when its SHA-256 is the one the server
        states; a broken connection goes on where it stopped. Raises `CHECKSUM_MISMATCH`.
        """
        return self._run(download(self._line, job_id, name, Path(path)))

    def _pages(
        self, address: str, params: Mapping[str, Any], kind: type[ResponseT]
    ) -> Iterator[ResponseT]:
        asked = dict(params)
        while True:
            page = self._run(calls.page(self._line, address, asked, kind))
            yield from page.data
            if page.next is None:
                return
            asked["cursor"] = page.next

    def _run(self, steps: Steps[T]) -> T:
        taker = _Taker(self._http)
        outcome: Any = None
        try:
            while True:
                step = steps.send(outcome)
                try:
                    outcome = taker.take(step)
                except httpx.TransportError as broken:
                    outcome = broken
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()
            taker.close()


class _Taker:
    """Takes the steps of one call in the calling thread."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._open: httpx.Response | None = None
        self._chunks: Iterator[bytes] | None = None

    def take(self, step: Step) -> Any:
        match step:
            case Send():
                return self._http.request(
                    step.method,
                    step.address,
                    params=step.params,
                    headers=step.headers,
                    json=step.json,
                    content=None if step.file is None else _chunks(step.file, step.offset),
                )
            case Open():
                return self._begin(step)
            case Read():
                assert self._chunks is not None
                return next(self._chunks, b"")
            case Close():
                self.close()
            case Pause():
                time.sleep(step.seconds)
            case Do():
                return step.work()
        return None

    def _begin(self, step: Open) -> httpx.Response:
        request = self._http.build_request(
            "GET", step.address, params=step.params, headers=step.headers
        )
        if step.silence is not None:
            request.extensions["timeout"]["read"] = step.silence
        self._open = self._http.send(request, stream=True)
        self._chunks = self._open.iter_raw()
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = self._chunks = None


def _chunks(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK):
            yield chunk
