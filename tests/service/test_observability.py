"""What an operator sees: metrics, traces, and logs that can be followed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from intrafusion.errors import ErrorCode, IntraFusionError
from service.main import create_app
from service.settings import Settings
from service.store.database import Database
from service.store.jobs import find_job
from service.store.workers import beat
from tests.collector import collecting
from tests.intrafusion.scripted_server import Script
from tests.service.conftest import MODEL, ON_BOTH_DATABASES, queued, settle


def numbers(api: TestClient) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    text = api.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@ON_BOTH_DATABASES
def test_metrics_tell_of_jobs_workers_and_requests(api: TestClient, database: Database) -> None:
    done = queued(api)
    queued(api)
    settle(database, done)
    with database.write() as session:
        beat(session, name="w")
    api.get("/v1/jobs/job_nothing")
    found = numbers(api)
    assert found["intrafusion_jobs", "queued"] == 1
    assert found["intrafusion_jobs", "succeeded"] == 1
    assert found["intrafusion_workers",] == 1
    assert found["intrafusion_longest_wait_seconds",] > 0
    count = "intrafusion_http_request_seconds_count"
    assert found[count, "POST", "/v1/jobs", "202"] == 2
    assert found[count, "GET", "/v1/jobs/{job_id}", "404"] == 1  # a route, never an id
    assert found["intrafusion_received_bytes_total", "/v1/models"] == 2 * len(MODEL)
    assert "job_nothing" not in api.get("/metrics").text


def test_a_jobs_log_can_be_followed_back_to_its_request(
    api: TestClient, database: Database
) -> None:
    model = api.post("/v1/models", content=MODEL).json()["id"]
    body = {"model": model, "input_shapes": [[1, 3]], "architecture": {"name": "a/b"}}
    answer = api.post("/v1/jobs", json=body, headers={"X-Request-ID": "pipeline-7"})
    with database.read() as session:
        job = find_job(session, answer.json()["id"], tenant=None)
    assert job is not None
    assert job.request_id == "pipeline-7"


def test_log_lines_are_json_with_the_request_and_its_tenant(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with TestClient(create_app(settings.model_copy(update={"log_level": "INFO"}))) as api:
        api.get("/v1/jobs", headers={"X-Request-ID": "pipeline-8"})
        api.get("/healthz")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[0] == "{"]
    (line,) = [line for line in lines if line.get("event") == "request"]
    assert line["request_id"] == "pipeline-8"
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/jobs", 200)


@pytest.fixture
def collector() -> Iterator[Script]:
    with collecting() as script:
        yield script


def test_requests_are_traced_where_an_endpoint_is_configured(
    settings: Settings, collector: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    with TestClient(create_app(settings)) as api:
        api.get("/v1/jobs")
        api.get("/healthz")
    sent = b"".join(call.body for call in collector.calls)
    assert b"GET /v1/jobs" in sent
    assert b"intrafusion" in sent
    assert b"healthz" not in sent


@pytest.mark.parametrize(
    "missing", ["opentelemetry.sdk.trace", "opentelemetry.instrumentation.fastapi"]
)
def test_traces_that_cannot_be_made_keep_the_server_from_starting(
    settings: Settings, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
    monkeypatch.setitem(sys.modules, missing, None)  # as where it is not installed
    with pytest.raises(IntraFusionError, match=missing) as refusal:
        create_app(settings)
    assert refusal.value.code is ErrorCode.ENGINE_MISSING
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in refusal.value.hint


def test_without_an_endpoint_nothing_is_traced(settings: Settings, collector: Script) -> None:
    with TestClient(create_app(settings)) as api:
        api.get("/v1/jobs")
    assert collector.calls == []
