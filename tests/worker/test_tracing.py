"""A trace goes from a request to the steps of the job it made; so do numbers and log lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from service.logs import configure_logging
from service.main import create_app
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from tests.collector import collecting, spans
from tests.intrafusion.scripted_server import Script
from tests.service.conftest import queued
from worker.run import run_delivered
from worker.tracing import send_last_spans


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    with collecting() as script:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", script.url)
        yield script


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The supervisor's, with an API that asks for no key."""
    return settings.model_copy(update={"keys": "optional", "redis_url": "unix:///no.sock"})


def deliver(settings: Settings, database: Database, blobs: Blobs, job: str) -> None:
    run_delivered(job, settings=settings, database=database, blobs=blobs, worker="w")


def test_the_trace_of_a_request_goes_on_in_its_job(
    settings: Settings, database: Database, blobs: Blobs, collector: Script
) -> None:
    with TestClient(create_app(settings)) as api:
        job = queued(api, metadata={"act": "succeed"})
    deliver(settings, database, blobs, job)
    send_last_spans()
    found = spans(collector)
    request, attempt = found["POST /v1/jobs"], found["job"]
    assert attempt.trace_id == request.trace_id
    assert attempt.parent_span_id == request.span_id
    told = {a.key: a.value.string_value or a.value.int_value for a in attempt.attributes}
    assert (told["job_id"], told["attempt"], told["ending"]) == (job, 1, "done")
    for step in ("start", "fuse"):
        assert found[step].parent_span_id == attempt.span_id
        assert attempt.start_time_unix_nano <= found[step].start_time_unix_nano
        assert found[step].end_time_unix_nano <= attempt.end_time_unix_nano


def test_a_failed_job_is_an_error_in_its_trace(
    settings: Settings, database: Database, blobs: Blobs, collector: Script
) -> None:
    with TestClient(create_app(settings)) as api:
        job = queued(api, metadata={"act": "fail", "with": "weights_not_finite"})
    deliver(settings, database, blobs, job)
    send_last_spans()
    status = spans(collector)["job"].status
    assert (status.code, status.message) == (2, "No good.")


def test_a_worker_that_cannot_make_traces_does_not_start() -> None:
    begin = "import sys; sys.modules['opentelemetry.sdk.trace'] = None; import worker.__main__ as w"
    done = subprocess.run(
        [sys.executable, "-c", f"{begin}; sys.exit(w.main())"],
        env=os.environ
        | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "INTRAFUSION_SANDBOX": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == os.EX_CONFIG, done.stderr
    assert "opentelemetry.sdk.trace" in done.stderr
    assert "intrafusion[tracing]" in done.stderr


def test_the_log_leads_from_a_request_to_what_its_job_printed(
    settings: Settings, database: Database, blobs: Blobs, capsys: pytest.CaptureFixture[str]
) -> None:
    with TestClient(create_app(settings)) as api:
        job = queued(api, headers={"X-Request-ID": "pipeline-9"}, metadata={"act": "succeed"})
        configure_logging("INFO")
        deliver(settings, database, blobs, job)
        numbers = api.get("/metrics").text
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[0] == "{"]
    told = {line["event"]: line for line in lines if line.get("request_id") == "pipeline-9"}
    assert told["the job said"]["text"] == "a printed line"
    assert told["job ended"]["job_id"] == job
    assert {"start", "fuse"} <= told["job ended"]["seconds"].keys()
    assert "intrafusion_queue_wait_seconds_count 1.0" in numbers
    assert 'intrafusion_step_seconds_count{step="fuse"} 1.0' in numbers
