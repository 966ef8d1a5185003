from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from fastapi.testclient import TestClient

from intrafusion.errors import ErrorCode
from intrafusion.spec import METHODS, CompressionSpec
from service.store.database import Database
from service.store.workers import beat


def test_methods_hold_the_schema_of_the_spec(api: TestClient) -> None:
    methods = api.get("/v1/methods").json()["data"]
    assert [method["name"] for method in methods] == list(METHODS)
    for method in methods:
        assert method["description"] == METHODS[method["name"]]
        assert method["spec"] == CompressionSpec.model_json_schema()


def test_architectures_are_listed_by_name(api: TestClient) -> None:
    listed = [entry["name"] for entry in api.get("/v1/architectures").json()["data"]]
    assert listed == sorted(listed)
    assert {"torchvision/resnet18", "timm/resnet18"} <= set(listed)


def test_a_process_that_answers_is_healthy(api: TestClient) -> None:
    assert api.get("/healthz").json()["status"] == "ok"


def test_readiness_names_what_is_missing(api: TestClient, database: Database) -> None:
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    problem = answer.json()
    assert problem["code"] == "unavailable"
    assert problem["detail"] == "Not ready: queue, worker."
    assert problem["details"]["checks"]["database"] == "ok"
    assert problem["details"]["checks"]["blobs"] == "ok"
    with database.write() as session:
        beat(session, name="w")
    assert api.get("/readyz").json()["detail"] == "Not ready: queue."


def test_a_worker_about_to_stop_does_not_count(api: TestClient, database: Database) -> None:
    with database.write() as session:
        beat(session, name="w", draining=True)
    assert "worker" in api.get("/readyz").json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/jobs/a/b/c", 404, "not_found"),
        ("DELETE", "/v1/methods", 405, "method_not_allowed"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
    ],
)
def test_unknown_addresses_and_methods_are_problems(
    api: TestClient, method: str, path: str, status: int, code: str
) -> None:
    answer = api.request(method, path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def test_a_refused_method_is_answered_with_all_that_are_taken(api: TestClient) -> None:
    assert api.put("/v1/jobs").headers["Allow"] == "GET, POST"
    assert api.put("/v1/models/model_1").headers["Allow"] == "DELETE, GET"
    assert api.put("/v1/uploads/upload_1").headers["Allow"] == "DELETE, GET, HEAD, PATCH"


def test_an_unforeseen_error_gives_nothing_away(
    capsys: pytest.CaptureFixture[str], api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(**_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("service.api.jobs.jobs.list_jobs", break_down)
    answer = api.get("/v1/jobs", headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"] == "mine-1"
    logged = capsys.readouterr().err
    assert "ZeroDivisionError" in logged
    assert "mine-1" in logged


def test_an_odd_request_id_is_replaced(api: TestClient) -> None:
    answer = api.get("/healthz", headers={"X-Request-ID": "a b"})
    assert answer.headers["X-Request-ID"].startswith("req_")


@pytest.fixture
def document(api: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = api.get("/openapi.json").json()
    return document


def test_every_endpoint_says_what_it_is_and_how_it_fails(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    codes = {code.code: code for code in ErrorCode}
    seen = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["operationId"] not in seen, (path, method)
            seen.add(operation["operationId"])
            assert operation.get("description"), (path, method)
            for status, answer in operation["responses"].items():
                if int(status) < 400:
                    continue
                content = answer["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                for name in content["examples"]:
                    assert int(codes[name].status) == int(status)
    assert "upload_model" in seen
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_uploads_are_described_as_files(document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/models"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/octet-stream", "multipart/form-data"}


def test_the_server_never_imports_torch() -> None:
    script = (
        "import sys, service.embedded, service.main; service.main.create_app();"
        "service.api.meta.list_architectures();"
        "print([m for m in ('torch', 'numpy', 'ot', 'worker.job') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert told.stdout.strip() == b"[]"
