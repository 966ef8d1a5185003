from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from service.main import create_app
from service.settings import Settings
from service.store import jobs
from service.store.database import Database, now
from service.store.events import add_event
from service.store.records import IdempotencyRecord
from tests.service.conftest import DATASET, MODEL, queued, settle, upload


@pytest.fixture
def body(api: TestClient) -> dict[str, Any]:
    """A request that is accepted."""
    return {
        "model": upload(api, "models", MODEL),
        "calibration": upload(api, "datasets", DATASET),
        "architecture": {"name": "a/b"},
        "metadata": {"commit": "abc"},
    }


def submit(api: TestClient, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    answer = api.post("/v1/jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def refused(api: TestClient, body: Any, **headers: str) -> dict[str, Any]:
    answer = api.post("/v1/jobs", json=body, headers=headers)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["hint"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    return problem


def test_a_job_is_queued_while_the_queue_is_away(api: TestClient, body: dict[str, Any]) -> None:
    answer = api.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert job["status"] == "queued"
    assert job["spec"]["sparsity"] == 0.5
    assert job["metadata"] == {"commit": "abc"}
    assert job["attempt"] == 0
    assert api.get(answer.headers["Location"]).json() == job
    assert api.get("/v1/jobs").json()["data"] == [job]


def test_a_job_knows_the_name_of_its_network_when_that_is_gone(
    api: TestClient, database: Database
) -> None:
    model = upload(api, "models", MODEL, name="net.safetensors")
    job = queued(api, model=model)
    settle(database, job, error={"title": "x", "status": 500, "code": "x", "detail": "x"})
    assert api.delete(f"/v1/models/{model}").status_code == 204
    assert api.get(f"/v1/jobs/{job}").json()["model_name"] == "net.safetensors"
    assert api.get("/v1/jobs").json()["data"][0]["model_name"] == "net.safetensors"
    assert "net.safetensors" in api.get("/jobs").text


def test_the_same_key_and_body_give_the_same_job(api: TestClient, body: dict[str, Any]) -> None:
    first = submit(api, body, "key-1")
    assert submit(api, dict(reversed(body.items())), "key-1") == first
    assert submit(api, body | {"spec": {"sparsity": 0.5}}, "key-1") == first  # the default, said
    assert submit(api, body, "key-2")["id"] != first["id"]
    assert len(api.get("/v1/jobs").json()["data"]) == 2


def test_the_same_key_with_another_body_is_refused(api: TestClient, body: dict[str, Any]) -> None:
    submit(api, body, "key")
    problem = refused(api, body | {"spec": {"sparsity": 0.6}}, **{"Idempotency-Key": "key"})
    assert (problem["status"], problem["code"]) == (409, "idempotency_mismatch")
    assert len(api.get("/v1/jobs").json()["data"]) == 1


def test_a_key_is_forgotten_after_a_day(
    api: TestClient, body: dict[str, Any], database: Database
) -> None:
    first = submit(api, body, "key")
    with database.write() as session:
        session.execute(
            update(IdempotencyRecord).values(created_at=now() - timedelta(hours=24, seconds=1))
        )
    assert submit(api, body, "key")["id"] != first["id"]


def test_many_requests_with_one_key_make_one_job(api: TestClient, body: dict[str, Any]) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: submit(api, body, "key")["id"], range(16)))
    assert len(set(made)) == 1
    assert len(api.get("/v1/jobs").json()["data"]) == 1


@pytest.mark.parametrize("sparsity", [0, 1, -0.1, 1.5, "half", True])
def test_an_impossible_sparsity_is_refused_by_name(
    api: TestClient, body: dict[str, Any], sparsity: Any
) -> None:
    problem = refused(api, body | {"spec": {"sparsity": sparsity}})
    assert (problem["status"], problem["code"]) == (422, "invalid_spec")
    assert problem["detail"].startswith("spec.sparsity is ")
    assert "Share" in problem["hint"]
    assert problem["details"]["fields"][0]["field"] == "spec.sparsity"


@pytest.mark.parametrize(
    "asked", [{"gates": {"min_speedup": 2}}, {"spec": {"max_output_distance": 0.1}}]
)
def test_a_dry_run_is_refused_what_only_a_network_could_show(
    api: TestClient, body: dict[str, Any], asked: dict[str, Any]
) -> None:
    problem = refused(api, body | {"dry_run": True} | asked)
    assert (problem["status"], problem["code"]) == (422, "invalid_spec")
    assert "makes no network" in problem["detail"]
    assert submit(api, body | {"dry_run": True})["dry_run"] is True
    assert submit(api, body | asked)["dry_run"] is False


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_json_does_not_know_are_refused(
    api: TestClient, body: dict[str, Any], number: str
) -> None:
    text = f'{{"model": "{body["model"]}", "spec": {{"sparsity": {number}}}}}'
    answer = api.post("/v1/jobs", content=text, headers={"Content-Type": "application/json"})
    assert answer.json()["code"] in ("invalid_spec", "bad_request")


@pytest.mark.parametrize(
    ("change", "field", "suggestion"),
    [
        ({"spec": {"sparsty": 0.5}}, "spec.sparsty", "'sparsity'"),
        ({"callibration": "x"}, "callibration", "'calibration'"),
        ({"architecture": {"name": "a", "args": {}}}, "architecture.args", "arguments"),
    ],
)
def test_an_unknown_field_is_refused_with_the_known_ones(
    api: TestClient, body: dict[str, Any], change: dict[str, Any], field: str, suggestion: str
) -> None:
    problem = refused(api, body | change)
    assert (problem["status"], problem["code"]) == (400, "unknown_field")
    assert field in problem["detail"]
    assert suggestion in problem["hint"]


@pytest.mark.parametrize("field", ["model", "calibration", "evaluation"])
def test_an_upload_that_does_not_exist_is_named(
    api: TestClient, body: dict[str, Any], field: str
) -> None:
    problem = refused(api, body | {field: "nowhere"})
    assert (problem["status"], problem["code"]) == (404, "not_found")
    assert problem["details"]["field"] == field


def test_a_state_dict_needs_its_architecture(api: TestClient, body: dict[str, Any]) -> None:
    problem = refused(api, body | {"architecture": None})
    assert (problem["status"], problem["code"]) == (422, "architecture_missing")


def test_without_data_the_input_shape_is_needed(api: TestClient, body: dict[str, Any]) -> None:
    problem = refused(api, body | {"calibration": None})
    assert (problem["status"], problem["code"]) == (422, "input_shape_missing")
    submit(api, body | {"calibration": None, "input_shapes": [[1, 3]]})


@pytest.mark.parametrize(
    "change", [{"input_shapes": [[0, 3]]}, {"outputs": []}, {"outputs": ["onyx"]}, {"model": 7}]
)
def test_other_impossible_values_are_bad_requests(
    api: TestClient, body: dict[str, Any], change: dict[str, Any]
) -> None:
    problem = refused(api, body | change)
    assert (problem["status"], problem["code"]) == (400, "bad_request")
    assert next(iter(change)) in problem["detail"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null"),
        '{"model": "\\ud800"}',
        '{"model": "\\u0000"}',
        '{"model": "m", "architecture": {"name": "a", "arguments": {"x": NaN}}}',
    ],
)
def test_a_body_that_is_no_json_object_is_a_bad_request(api: TestClient, text: str) -> None:
    answer = api.post("/v1/jobs", content=text, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_a_body_without_end_is_not_read(api: TestClient) -> None:
    answer = api.post("/v1/jobs", json={"model": "m" * 2_000_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")


def test_jobs_are_listed_newest_first_in_pages_and_by_state(
    api: TestClient, body: dict[str, Any]
) -> None:
    ids = [submit(api, body)["id"] for _ in range(5)]
    first = api.get("/v1/jobs", params={"limit": 3}).json()
    rest = api.get("/v1/jobs", params={"limit": 3, "cursor": first["next"]}).json()
    assert [job["id"] for job in first["data"] + rest["data"]] == sorted(ids, reverse=True)
    assert rest["next"] is None
    api.post(f"/v1/jobs/{ids[2]}/cancel")
    cancelled = api.get("/v1/jobs", params={"status": "cancelled"}).json()
    assert [job["id"] for job in cancelled["data"]] == [ids[2]]
    assert api.get("/v1/jobs", params={"limit": 0}).json()["code"] == "bad_request"
    assert api.get("/v1/jobs", params={"status": "lost"}).json()["code"] == "bad_request"


def test_cancelling_a_queued_job_ends_it_once(api: TestClient, body: dict[str, Any]) -> None:
    job = submit(api, body)
    cancelled = api.post(f"/v1/jobs/{job['id']}/cancel")
    assert cancelled.status_code == 200
    assert cancelled.json()["status"] == "cancelled"
    assert cancelled.json()["ended_at"] is not None
    assert api.post(f"/v1/jobs/{job['id']}/cancel").json() == cancelled.json()


def test_a_long_poll_answers_when_the_job_ends(api: TestClient, body: dict[str, Any]) -> None:
    job = submit(api, body)
    timer = threading.Timer(0.5, lambda: api.post(f"/v1/jobs/{job['id']}/cancel"))
    timer.start()
    began = time.monotonic()
    answer = api.get(f"/v1/jobs/{job['id']}", params={"wait": 20})
    took = time.monotonic() - began
    timer.join()
    assert answer.json()["status"] == "cancelled"
    assert 0.4 < took < 5


def test_a_long_poll_gives_up_in_time(settings: Settings) -> None:
    short = settings.model_copy(update={"max_wait_seconds": 0.5})
    with TestClient(create_app(short)) as api:
        model = upload(api, "models", MODEL)
        body = {"model": model, "input_shapes": [[1, 3]], "architecture": {"name": "a/b"}}
        job = submit(api, body)
        began = time.monotonic()
        answer = api.get(f"/v1/jobs/{job['id']}", params={"wait": 3600})
        assert 0.4 < time.monotonic() - began < 5
    assert answer.json()["status"] == "queued"
    assert answer.headers["Retry-After"] == "1"


def test_events_come_in_numbered_pages(
    api: TestClient, body: dict[str, Any], database: Database
) -> None:
    job = submit(api, body)["id"]
    with database.write() as session:
        for number in range(4):
            add_event(session, job_id=job, kind="log", data={"text": str(number)})
    page = api.get(f"/v1/jobs/{job}/events", params={"limit": 2}).json()
    assert [event["id"] for event in page["data"]] == [1, 2]
    following = api.get(f"/v1/jobs/{job}/events", params={"after": 0, "cursor": page["next"]})
    assert [event["id"] for event in following.json()["data"]] == [3, 4, 5]
    assert following.json()["next"] is None
    later = api.get(f"/v1/jobs/{job}/events", params={"after": 4}).json()
    assert [event["data"] for event in later["data"]] == [{"text": "3"}]


@pytest.mark.parametrize("path", ["", "/events", "/report", "/artifacts", "/artifacts/model.pt"])
def test_an_unknown_job_is_not_found(api: TestClient, path: str) -> None:
    answer = api.get(f"/v1/jobs/job_nothing{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_worker_that_fell_silent_loses_its_job(
    api: TestClient, body: dict[str, Any], database: Database
) -> None:
    job = submit(api, body)["id"]
    with database.write() as session:
        assert jobs.claim_job(session, id=job, worker="dead", lease_seconds=0)
    deadline = time.monotonic() + 10
    while api.get(f"/v1/jobs/{job}").json()["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert api.get(f"/v1/jobs/{job}").json()["status"] == "queued"
    events = api.get(f"/v1/jobs/{job}/events").json()["data"]
    assert "worker dead was lost" in events[-1]["data"]["reason"]
