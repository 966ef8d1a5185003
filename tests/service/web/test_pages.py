"""The page as a browser without JavaScript sees it."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from intrafusion.report import CompressionReport, GroupReport, PlanReport
from service.keys import create_api_key
from service.openapi import examples
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.records import ArtifactRecord
from tests.intrafusion.test_gates import report
from tests.service.conftest import DATASET, MODEL, queued, settle, upload

FORM = {
    "method": "prune",
    "budget": "parameters",
    "amount": "40",
    "input_shape": "",
    "architecture": "a/b",
    "arguments": "",
    "outputs": "onnx",
    "max_accuracy_drop": "1.5",
    "label": "nightly",
}


@pytest.fixture
def page(api: TestClient) -> TestClient:
    return TestClient(api.app, follow_redirects=False)


def finished(
    api: TestClient,
    database: Database,
    blobs: Blobs,
    told: CompressionReport | PlanReport,
    **request: Any,
) -> str:
    """A job that succeeded with this report, or a dry run with this plan."""
    job = queued(api, **request)
    blob = blobs.adopt(io.BytesIO(told.model_dump_json().encode()))
    artifact = ArtifactRecord(
        job_id=job,
        name="report.json" if isinstance(told, CompressionReport) else "plan.json",
        sha256=blob.sha256,
        bytes=blob.bytes,
        media_type="application/json",
    )
    measured = told.model_dump(mode="json", include={"before", "after", "fidelity"})
    settle(database, job, artifacts=[artifact], result=measured)
    return job


def test_the_list_shows_jobs_by_state_and_label(page: TestClient) -> None:
    assert page.get("/").headers["Location"] == "/jobs"
    assert "No jobs yet" in page.get("/jobs").text
    model = upload(page, "models", MODEL, name="net.safetensors")
    job = queued(
        page,
        model=model,
        metadata={"commit": "abc", "label": "nightly"},
        spec={"parameters": 0.5, "macs": 0.3},
    )
    listed = page.get("/jobs").text
    assert "50 % of parameters left, 30 % of MACs left" in listed
    assert f"/jobs/{job}" in listed
    assert "net.safetensors" in listed
    assert "commit:abc" in listed
    for query, there in {
        "status=queued": True,
        "status=failed": False,
        "label=commit:abc": True,
        "label=commit:other": False,
        "label=nightly": True,
    }.items():
        assert (f"/jobs/{job}" in page.get(f"/jobs?{query}").text) is there, query


def test_a_finished_job_shows_what_came_of_it(
    page: TestClient, database: Database, blobs: Blobs
) -> None:
    group = GroupReport(name="conv1.weight", units=32, kept=12, layers=[], parameter_share=1)
    told = report(accuracy=0.90).model_copy(update={"groups": [group]})
    model = upload(page, "models", MODEL)
    finished(page, database, blobs, report(accuracy=0.88), model=model)
    job = finished(page, database, blobs, told, model=model)
    shown = page.get(f"/jobs/{job}").text
    for expected in ("90.00\u202f%", "−1.00 points", "2.0×", "conv1", "12 <span", "report.json"):
        assert expected in shown
    assert 'class="result"' in shown
    assert 'class="job"' in shown
    assert "other jobs" in shown
    assert "live.js" not in shown
    assert "Run again" in shown


def test_a_dry_run_shows_what_would_go_and_can_be_done_in_earnest(
    page: TestClient, database: Database, blobs: Blobs
) -> None:
    plan = PlanReport.model_validate(examples()["PlanReport"])
    job = finished(page, database, blobs, plan, dry_run=True)
    shown = page.get(f"/jobs/{job}").text
    group, after = plan.groups[0], plan.after
    for expected in (f"{after.parameters:,}", f"{group.kept} <span", "only planned", "plan.json"):
        assert expected in shown
    assert "Expected error" in shown
    assert "only planned" in page.get("/jobs").text
    earnest = page.post(f"/jobs/{job}/compress").headers["Location"]
    made = page.get(f"/v1{earnest}").json()
    assert (made["dry_run"], made["retry_of"]) == (False, job)
    again = page.post(f"/jobs/{job}/retry").headers["Location"]
    assert page.get(f"/v1{again}").json()["dry_run"] is True


def test_a_waiting_job_is_followed_with_and_without_javascript(page: TestClient) -> None:
    shown = page.get(f"/jobs/{queued(page)}").text
    assert "/static/live.js" in shown
    assert '<noscript><meta http-equiv="refresh"' in shown
    assert "waiting for a worker" in shown


def test_what_users_write_stays_text(page: TestClient) -> None:
    model = upload(page, "models", MODEL, name="<script>x</script>.pt")
    job = queued(page, model=model, metadata={"<b>": "<img onerror=x>"})
    for path in ("/jobs", f"/jobs/{job}", "/jobs?label=<script>"):
        answer = page.get(path)
        assert "<script>x" not in answer.text
        assert "<img onerror" not in answer.text
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"<[^>]*\s(style|on\w+)=", answer.text)


def test_the_form_makes_a_job(page: TestClient) -> None:
    files = {"file": ("net.safetensors", MODEL), "evaluation": ("t.npz", DATASET)}
    answer = page.post("/jobs/new", data=FORM, files=files)
    assert answer.status_code == 303, answer.text
    (job,) = page.get("/v1/jobs").json()["data"]
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert job["spec"]["method"] == "prune"
    assert job["spec"]["parameters"] == 0.4
    assert job["outputs"] == ["onnx"]
    assert job["metadata"]["label"] == "nightly"
    assert job["calibration"] is None
    assert job["dry_run"] is False
    planned = page.post(
        "/jobs/new", data=FORM | {"max_accuracy_drop": "", "dry_run": "yes"}, files=files
    )
    assert page.get(f"/v1{planned.headers['Location']}").json()["dry_run"] is True


def test_a_file_that_was_not_chosen_is_none(page: TestClient) -> None:
    def part(field: str, file_name: str, content: bytes) -> bytes:
        head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{file_name}"'
        return head.encode() + b"\r\n\r\n" + content + b"\r\n"

    body = part("file", "n.safetensors", MODEL) + part("calibration", "", b"")
    body += part("evaluation", "t.npz", DATASET)
    body += b'--b\r\nContent-Disposition: form-data; name="architecture"\r\n\r\na/b\r\n--b--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert page.post("/jobs/new", content=body, headers=headers).status_code == 303
    (job,) = page.get("/v1/jobs").json()["data"]
    assert job["calibration"] is None
    assert job["evaluation"] is not None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"amount": "many"}, "no number"),
        ({"amount": "140"}, "spec.parameters"),
        ({"arguments": "["}, "no JSON object"),
        ({"architecture": ""}, "parameters only"),
    ],
)
def test_what_is_wrong_with_a_form_is_said_and_the_rest_kept(
    page: TestClient, change: dict[str, str], says: str
) -> None:
    files = {"file": ("net.safetensors", MODEL), "evaluation": ("t.npz", DATASET)}
    answer = page.post("/jobs/new", data=FORM | change, files=files)
    assert answer.status_code in (400, 422)
    assert says in answer.text
    assert 'value="nightly"' in answer.text
    assert page.get("/v1/jobs").json()["data"] == []


def test_jobs_are_cancelled_repeated_and_deleted(page: TestClient) -> None:
    job = queued(page)
    assert page.post(f"/jobs/{job}/cancel").headers["Location"] == f"/jobs/{job}"
    again = page.post(f"/jobs/{job}/retry").headers["Location"]
    assert page.get(f"/v1{again}").json()["retry_of"] == job
    assert page.post(f"/jobs/{job}/delete").headers["Location"] == "/jobs"
    missing = page.get(f"/jobs/{job}")
    assert missing.status_code == 404
    assert "There is no job" in missing.text


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_another_sites_page_changes_nothing(page: TestClient, headers: dict[str, str]) -> None:
    job = queued(page)
    files = {"file": ("net.safetensors", MODEL)}
    assert page.post(f"/jobs/{job}/cancel", headers=headers).status_code == 403
    assert page.post("/jobs/new", data=FORM, files=files, headers=headers).status_code == 403
    assert page.post("/v1/compress", files=files, headers=headers).status_code == 403
    assert page.get(f"/v1/jobs/{job}").json()["status"] == "queued"
    own = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    assert page.post(f"/jobs/{job}/cancel", headers=own).status_code == 303


def test_where_keys_are_asked_for_people_sign_in(page: TestClient, database: Database) -> None:
    mine = queued(page)
    key, _ = create_api_key(database=database, name="me", tenant="default")
    other, _ = create_api_key(database=database, name="them", tenant="other")
    for path in ("/jobs", f"/jobs/{mine}", "/jobs/new"):
        assert page.get(path).headers["Location"] == "/sign-in"
    assert page.post("/sign-in", data={"key": "wrong"}).status_code == 401
    answer = page.post("/sign-in", data={"key": key})
    assert answer.headers["Location"] == "/jobs"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert page.get(f"/jobs/{mine}").status_code == 200
    assert page.get(f"/v1/jobs/{mine}/events").status_code == 200  # what live.js reads
    stranger = TestClient(page.app, follow_redirects=False)
    stranger.post("/sign-in", data={"key": other})
    assert stranger.get(f"/jobs/{mine}").status_code == 404
    assert stranger.post(f"/jobs/{mine}/cancel").status_code == 404
    assert mine not in stranger.get("/jobs").text
    page.post("/sign-out")
    page.cookies.clear()
    assert page.get("/jobs").headers["Location"] == "/sign-in"


def test_a_report_that_was_searched_for_shows_its_curve(
    page: TestClient, database: Database, blobs: Blobs
) -> None:
    content = json.loads(report().model_dump_json())
    content["search"] = {
        "budget": "max_accuracy_drop",
        "limit": 0.01,
        "minimised": "parameters",
        "samples": 10,
        "tries": [
            {"share": 0.5, "parameters": 1, "macs": 1, "accuracy": 0.9, "within": True},
            {"share": 0.2, "parameters": 1, "macs": 1, "accuracy": 0.7, "within": False},
        ],
    }
    job = finished(page, database, blobs, CompressionReport.model_validate(content))
    assert page.get(f"/jobs/{job}").text.count('circle class="tried"') == 2
