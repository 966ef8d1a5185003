"""The client against a real HTTP server that misbehaves on purpose, byte by byte."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from intrafusion.api import JobRequest
from intrafusion.client import Client
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.spec import CompressionSpec
from tests.intrafusion.scripted_server import Answer, Call, Script, scripted_server

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT)
DIGEST = f"sha-256=:{base64.b64encode(SHA256.digest()).decode()}:"
JOB = {
    "id": "job_1",
    "status": "queued",
    "model": "model_1",
    "spec": {"sparsity": 0.5, "a field of a later version": 1},
    "queued_at": "2026-01-01T00:00:00Z",
}
UPLOAD = {
    "id": "model_1",
    "sha256": SHA256.hexdigest(),
    "bytes": len(CONTENT),
    "kind": "torchscript",
    "created_at": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_server() as plan:
        yield plan


@pytest.fixture
def client(script: Script) -> Iterator[Client]:
    with Client(script.url, api_key="secret", patience=2) as connected:
        yield connected


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt"
    path.write_bytes(CONTENT)
    return path


def test_an_upload_sends_the_bytes_their_digest_their_name_and_the_key(
    script: Script, client: Client, model: Path
) -> None:
    script.on("POST", "/v1/models", Answer(201, UPLOAD))
    assert client.upload_model(model).id == "model_1"
    (call,) = script.calls
    assert call.body == CONTENT
    assert call.headers["repr-digest"] == DIGEST
    assert call.headers["authorization"] == "Bearer secret"
    assert call.query == {"name": ["net.pt"]}


def test_an_upload_is_sent_whole_again_when_the_server_was_busy(
    script: Script, client: Client, model: Path
) -> None:
    busy = Answer(503, b"", {"Retry-After": "0.05"})
    script.on("POST", "/v1/datasets", busy, Answer(201, UPLOAD))
    client.upload_dataset(model)
    assert [call.body for call in script.calls] == [CONTENT, CONTENT]


def test_a_missing_file_is_named(client: Client, tmp_path: Path) -> None:
    with pytest.raises(IntraFusionError, match=r"absent\.pt cannot be read") as raised:
        client.upload_model(tmp_path / "absent.pt")
    assert raised.value.code is ErrorCode.NOT_FOUND


def test_submit_sends_only_what_was_said_under_one_key_however_often(
    script: Script, client: Client
) -> None:
    script.on("POST", "/v1/jobs", Answer(503, b"", {"Retry-After": "0.05"}), Answer(202, JOB))
    request = JobRequest(model="model_1", spec=CompressionSpec(sparsity=0.25))
    job = client.submit(request)
    assert job.spec["a field of a later version"] == 1
    assert [json.loads(call.body) for call in script.calls] == [
        {"model": "model_1", "spec": {"sparsity": 0.25}}
    ] * 2
    keys = {call.headers["idempotency-key"] for call in script.calls}
    assert len(keys) == 1

    client.submit(request, idempotency_key="mine")
    client.submit(request)
    mine, fresh = (call.headers["idempotency-key"] for call in script.calls[-2:])
    assert mine == "mine"
    assert fresh not in keys | {"mine"}


def test_a_refusal_is_raised_as_the_error_the_server_meant(script: Script, client: Client) -> None:
    problem = {
        "title": "There is no such thing",
        "status": 404,
        "code": "not_found",
        "detail": "There is no job job_9.",
        "hint": "Look at GET /v1/jobs.",
        "details": {"code": "job_9", "message": "kept as it is"},
        "request_id": "req_7",
    }
    headers = {"Content-Type": "application/problem+json"}
    script.on("GET", "/v1/jobs/job_9", Answer(404, problem, headers))
    with pytest.raises(IntraFusionError) as raised:
        client.job("job_9")
    error = raised.value
    assert error.code is ErrorCode.NOT_FOUND
    assert (error.message, error.hint) == (problem["detail"], problem["hint"])
    assert error.details == {
        "code": "job_9",
        "message": "kept as it is",
        "request_id": "req_7",
    }
    assert len(script.calls) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(500, b"<html>proxy</html>"), ErrorCode.INTERNAL),
        (Answer(200, b"<html>someone else's site</html>"), ErrorCode.INTERNAL),
        (Answer(200, {"another": "API"}), ErrorCode.INTERNAL),
        (Answer(502, b"bad gateway", {"Retry-After": "60"}), ErrorCode.UNAVAILABLE),
    ],
)
def test_an_answer_of_another_kind_is_an_error_not_a_crash(
    script: Script, client: Client, answer: Answer, code: ErrorCode
) -> None:
    script.on("GET", "/v1/jobs/job_1", answer)
    with pytest.raises(IntraFusionError) as raised:
        client.job("job_1")
    assert raised.value.code is code
    assert raised.value.hint


def test_nobody_there_is_unavailable_once_patience_runs_out() -> None:
    began = time.monotonic()
    with Client("http://127.0.0.1:9", patience=0.6) as client:
        with pytest.raises(IntraFusionError, match="cannot be reached") as raised:
            client.job("job_1")
        assert not client.ready()
    assert raised.value.code is ErrorCode.UNAVAILABLE
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "", "http://host:port"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(IntraFusionError, match="is no server address"):
        Client(url)


def test_lists_are_followed_page_by_page(script: Script, client: Client) -> None:
    def page(call: Call) -> Answer:
        if call.query.get("cursor") == ["two"]:
            return Answer(200, {"data": [JOB | {"id": "job_2"}], "next": None})
        return Answer(200, {"data": [JOB], "next": "two"})

    script.on("GET", "/v1/jobs", page)
    assert [job.id for job in client.jobs(status="queued")] == ["job_1", "job_2"]
    assert all(call.query["status"] == ["queued"] for call in script.calls)


def test_wait_tells_every_event_once_and_in_order(script: Script, client: Client) -> None:
    story = [
        {"id": number, "kind": "log", "at": "2026-01-01T00:00:00Z", "data": {}}
        for number in range(1, 6)
    ]
    told: list[int] = []
    looks = iter([2, 2, 5])

    def events(call: Call) -> Answer:
        upto, after = next(looks), int(call.query["after"][0])
        return Answer(200, {"data": story[after:upto], "next": None})

    running, done = (
        Answer(200, JOB | {"status": "running"}),
        Answer(200, JOB | {"status": "failed"}),
    )
    script.on("GET", "/v1/jobs/job_1", running, running, done)
    script.on("GET", "/v1/jobs/job_1/events", events)
    job = client.wait("job_1", on_event=lambda event: told.append(event.id))
    assert job.status == "failed"
    assert told == [1, 2, 3, 4, 5]


def test_wait_gives_the_unended_job_back_when_the_time_is_up(
    script: Script, client: Client
) -> None:
    script.on("GET", "/v1/jobs/job_1", Answer(200, JOB))
    began = time.monotonic()
    assert not client.wait("job_1", timeout=0.3).ended
    assert 0.25 < time.monotonic() - began < 3


def test_a_broken_download_goes_on_where_it_stopped(
    script: Script, client: Client, tmp_path: Path
) -> None:
    def rest(call: Call) -> Answer:
        assert call.headers["if-range"] == '"abc"'
        start = int(call.headers["range"].removeprefix("bytes=").removesuffix("-"))
        assert 0 < start <= 300_000
        return Answer(206, CONTENT[start:], {"ETag": '"abc"', "Repr-Digest": DIGEST})

    headers = {"ETag": '"abc"', "Repr-Digest": DIGEST}
    script.on("GET", "/v1/jobs/j/artifacts/model.pt", Answer(200, CONTENT, headers, 300_000), rest)
    path = client.download("j", "model.pt", tmp_path / "new folder" / "small.pt")
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["small.pt"]
    usual = tmp_path / "usual"
    usual.touch()
    assert path.stat().st_mode == usual.stat().st_mode


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(
    script: Script, client: Client, tmp_path: Path
) -> None:
    before = Answer(200, b"x" * len(CONTENT), {"ETag": '"old"'}, 200_000)
    after = Answer(200, CONTENT, {"ETag": '"new"', "Repr-Digest": DIGEST})
    script.on("GET", "/v1/jobs/j/artifacts/model.pt", before, after)
    assert client.download("j", "model.pt", tmp_path / "small.pt").read_bytes() == CONTENT


def test_wrong_bytes_never_reach_the_path(script: Script, client: Client, tmp_path: Path) -> None:
    wrong = Answer(200, CONTENT[:-1] + b"!", {"Repr-Digest": DIGEST})
    script.on("GET", "/v1/jobs/j/artifacts/model.pt", wrong)
    path = tmp_path / "small.pt"
    path.write_bytes(b"the one from yesterday")
    with pytest.raises(IntraFusionError, match=SHA256.hexdigest()) as raised:
        client.download("j", "model.pt", path)
    assert raised.value.code is ErrorCode.CHECKSUM_MISMATCH
    assert path.read_bytes() == b"the one from yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_without_the_header_the_listed_digest_is_checked(
    script: Script, client: Client, tmp_path: Path
) -> None:
    listed = {"name": "model.pt", "bytes": len(CONTENT), "sha256": SHA256.hexdigest()}
    script.on("GET", "/v1/jobs/j/artifacts/model.pt", Answer(200, CONTENT))
    script.on("GET", "/v1/jobs/j/artifacts", Answer(200, {"data": [listed], "next": None}))
    assert client.download("j", "model.pt", tmp_path / "a.pt").read_bytes() == CONTENT

    listed["sha256"] = "0" * 64
    with pytest.raises(IntraFusionError, match="the server stated 0000"):
        client.download("j", "model.pt", tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


def test_downloading_what_is_not_there_leaves_nothing(
    script: Script, client: Client, tmp_path: Path
) -> None:
    problem = {"title": "t", "status": 409, "code": "not_finished", "detail": "It runs."}
    script.on("GET", "/v1/jobs/j/artifacts/model.pt", Answer(409, problem))
    with pytest.raises(IntraFusionError) as raised:
        client.download("j", "model.pt", tmp_path / "a.pt")
    assert raised.value.code is ErrorCode.NOT_FINISHED
    assert list(tmp_path.iterdir()) == []
