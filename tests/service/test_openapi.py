"""The OpenAPI document: committed, true, and with an example for everything."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from fastapi.testclient import TestClient

from intrafusion.api import PLAN_FILE, REPORT_FILE
from service.keys import create_api_key
from service.main import create_app
from service.openapi import examples
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.jobs import JobFilter, claim_job, list_jobs, settle_job
from service.store.records import ArtifactRecord
from tests.service.conftest import running

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "openapi.json"
HERE = Path(__file__).parent
JSON = "application/json"
QUEUED = JobFilter(statuses=("queued",))
SOUND = "positive_data_acceptance,negative_data_rejection"
"""Checks of what a schema lets through, for requests that are not drawn from it."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(json.dumps(create_app(Settings(log_level="ERROR")).openapi()))


def test_the_committed_document_is_the_servers(document: dict[str, Any]) -> None:
    committed = json.loads(COMMITTED.read_text())
    assert committed == document, "write it again: python -m service.openapi > docs/openapi.json"


def test_every_schema_has_an_example_that_fits_it(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        (example,) = schema["examples"]
        whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        jsonschema.validate(example, whole, jsonschema.Draft202012Validator)


def test_every_operation_has_an_id_a_summary_and_says_what_can_go_wrong(
    document: dict[str, Any],
) -> None:
    ids = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            ids.append(operation["operationId"])
            assert operation["description"], (method, path)
            assert any(status.startswith("2") for status in operation["responses"])
            if path.startswith("/v1") and method != "options":
                assert "401" in operation["responses"], (method, path)
    assert len(ids) == len(set(ids))


def test_the_server_gives_the_document(api: TestClient, document: dict[str, Any]) -> None:
    assert api.get("/openapi.json").json() == document


def schemathesis(
    url: str, key: str, folder: Path, *arguments: str | Path, **variables: str
) -> None:
    """Have schemathesis ask the server at `url`; fails with all that it found."""
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            *("--config-file", HERE / "schemathesis.toml"),
            *("run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {key}"),
            *("--header", "Tus-Resumable: 1.0.0"),
            *("--max-examples", "15", "--seed", "1", "--generation-database", "none"),
            *("--no-color", "--exclude-operation-id", "send_part"),
            *("--exclude-operation-id", "get_readiness"),  # there is no worker here: 503
            *("--exclude-checks", "positive_data_acceptance", *arguments),
        ],
        cwd=folder,
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": "tests.service.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
        | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.fixture
def key(database: Database) -> str:
    return create_api_key(database=database, name="schemathesis", tenant="t")[0]


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with running(settings.model_copy(update={"max_wait_seconds": 0.2})) as address:
        yield address


@pytest.mark.slow
def test_schemathesis_finds_nothing(url: str, key: str, tmp_path: Path) -> None:
    """Answers as documented, errors as problems, no crash, nothing without a key.

    Left out: that whatever fits a schema is accepted, because no schema says that a file is a
    network or that two fields exclude each other; and tus parts, which it cannot send.
    """
    schemathesis(url, key, tmp_path, "--phases", "examples,coverage,fuzzing")


@pytest.fixture
def worker(database: Database, blobs: Blobs) -> Iterator[None]:
    """Ends every other job as it comes, with files and a report; the rest stay queued."""
    files = {
        "model.pt": b"small",
        REPORT_FILE: json.dumps(examples()["CompressionReport"]).encode(),
        PLAN_FILE: json.dumps(examples()["PlanReport"]).encode(),
    }
    kept = {name: blobs.adopt(io.BytesIO(content)) for name, content in files.items()}
    stop = threading.Event()

    def work() -> None:
        seen: set[str] = set()
        while not stop.wait(0.02):
            with database.read() as session:
                found = list_jobs(session, tenant="t", before=None, limit=50, only=QUEUED)
            for job in [record.id for record in found if record.id not in seen]:
                seen.add(job)
                if len(seen) % 2:
                    end(job)

    def end(job: str) -> None:
        artifacts = [
            ArtifactRecord(
                job_id=job, name=name, sha256=blob.sha256, bytes=blob.bytes, media_type=JSON
            )
            for name, blob in kept.items()
        ]
        with database.write() as session:
            claim = claim_job(session, id=job, worker="w", lease_seconds=60)
            if claim is not None:  # it was cancelled in this very moment
                settle_job(session, claim, outcome="succeeded", artifacts=artifacts)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


WALKED = {
    ("POST", "/v1/models", 201),
    ("GET", "/v1/models/{}", 200),
    ("DELETE", "/v1/models/{}", 409),  # a job has it
    ("POST", "/v1/jobs", 202),
    ("POST", "/v1/compress", 202),
    ("GET", "/v1/jobs/{}", 200),
    ("GET", "/v1/jobs/{}/events", 200),
    ("GET", "/v1/jobs/{}/report", 200),
    ("GET", "/v1/jobs/{}/report", 409),  # it has not ended
    ("GET", "/v1/jobs/{}/artifacts", 200),
    ("GET", "/v1/jobs/{}/artifacts/{}", 200),
    ("POST", "/v1/jobs/{}/cancel", 200),
    ("POST", "/v1/jobs/{}/retry", 202),
    ("POST", "/v1/jobs/{}/retry", 409),
    ("DELETE", "/v1/jobs/{}", 204),
    ("DELETE", "/v1/jobs/{}", 404),  # it is gone already
    ("GET", "/v1/jobs/{}", 401),
    ("POST", "/v1/uploads", 201),
    ("DELETE", "/v1/uploads/{}", 204),
}
"""What sequences of calls have to come to, for a look at them to be worth anything."""


@pytest.mark.slow
def test_schemathesis_finds_nothing_in_sequences(
    url: str, key: str, worker: None, tmp_path: Path
) -> None:
    """The same of calls that follow one another by the links of the document."""
    report = tmp_path / "calls.har"
    schemathesis(
        *(url, key, tmp_path, "--phases", "stateful", "--exclude-checks", SOUND),
        *("--max-time", "25", "--report-har-path", report),
        SEQUENCES="1",
    )
    calls = json.loads(report.read_text())["log"]["entries"]
    assert {_walked(call) for call in calls} >= WALKED


def _walked(call: dict[str, Any]) -> tuple[str, str, int]:
    """Method, address with ids left out, and status."""
    parts = urlsplit(call["request"]["url"]).path.split("/")
    parts[3:4], parts[5:6] = ["{}"] * len(parts[3:4]), ["{}"] * len(parts[5:6])
    return call["request"]["method"], "/".join(parts), call["response"]["status"]
