"""The client against a real HTTP server that misbehaves on purpose, byte by byte."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import inspect
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from intrafusion.api import JobRequest
from intrafusion.client import AsyncClient, Client
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


class Blocking:
    """An `AsyncClient` on an event loop of its own, called like a `Client`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            called = getattr(self._client, name)(*args, **kwargs)
            awaited = called if inspect.isawaitable(called) else _collected(called)
            return self._runner.run(_awaited(awaited))

        return call

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


async def _awaited(awaited: Any) -> Any:
    return await awaited


async def _collected(entries: Any) -> list[Any]:
    return [entry async for entry in entries]


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_server() as plan:
        for address in ("/v1/models", "/v1/datasets"):
            plan.on("GET", address, Answer(200, {"data": [], "next": None}))
        yield plan


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, script: Script) -> Iterator[Client]:
    if request.param == "sync":
        with Client(script.url, api_key="secret", patience=2) as connected:
            yield connected
        return
    blocking: Any = Blocking(AsyncClient(script.url, api_key="secret", patience=2))
    yield blocking
    blocking.close()


def posted(script: Script) -> list[Call]:
    return [call for call in script.calls if call.method == "POST"]


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, str]:
        public = {name: call for name, call in vars(kind).items() if not name.startswith("_")}
        return {
            name: str(inspect.signature(call).replace(return_annotation=None))
            for name, call in public.items()
        }

    assert calls(Client) == calls(AsyncClient)


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
    (call,) = posted(script)
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
    assert [call.body for call in posted(script)] == [CONTENT, CONTENT]


def test_bytes_that_the_server_has_are_not_sent_again(
    script: Script, client: Client, model: Path
) -> None:
    script.on("GET", "/v1/models", Answer(200, {"data": [UPLOAD], "next": None}))
    assert client.upload_model(model).id == "model_1"
    assert [call.query["sha256"] for call in script.calls] == [[SHA256.hexdigest()]]
    other = UPLOAD | {"sha256": "0" * 64}
    script.on("GET", "/v1/models", Answer(200, {"data": [other], "next": None}))
    script.on("POST", "/v1/models", Answer(201, UPLOAD | {"id": "model_2"}))
    assert client.upload_model(model).id == "model_2"


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


def story(upto: int) -> list[dict[str, Any]]:
    return [
        {"id": number, "kind": "log", "at": "2026-01-01T00:00:00Z", "data": {}}
        for number in range(1, upto + 1)
    ]


def stream(events: list[dict[str, Any]], cut: int | None = None) -> Answer:
    frames = [f"id: {e['id']}\nevent: log\ndata: {json.dumps(e)}\n\n" for e in events]
    body = "retry: 1000\n\n: still here\n\n" + "".join(frames)
    return Answer(200, body.encode(), {"Content-Type": "text/event-stream; charset=utf-8"}, cut)


RUNNING, DONE = (Answer(200, JOB | {"status": status}) for status in ("running", "failed"))


def test_wait_follows_the_stream_and_goes_on_where_it_broke(script: Script, client: Client) -> None:
    told: list[int] = []
    asked: list[str] = []

    def events(call: Call) -> Answer:
        if "text/event-stream" not in call.headers["accept"]:
            after = int(call.query["after"][0])
            return Answer(200, {"data": story(5)[after:], "next": None})
        asked.append(call.headers["last-event-id"])
        seen = int(asked[-1])
        return stream(story(5)[seen:], cut=300 if seen == 0 else None)

    script.on("GET", "/v1/jobs/job_1", RUNNING, DONE)
    script.on("GET", "/v1/jobs/job_1/events", events)
    job = client.wait("job_1", on_event=lambda event: told.append(event.id))
    assert job.status == "failed"
    assert told == [1, 2, 3, 4, 5]
    assert asked[0] == "0"
    assert 0 < int(asked[1]) < 5


def test_wait_looks_at_pages_where_there_is_no_stream(script: Script, client: Client) -> None:
    told: list[int] = []
    looks = iter([2, 2, 5, 5])

    def events(call: Call) -> Answer:
        upto, after = next(looks), int(call.query["after"][0])
        return Answer(200, {"data": story(upto)[after:], "next": None})

    script.on("GET", "/v1/jobs/job_1", RUNNING, RUNNING, DONE)
    script.on("GET", "/v1/jobs/job_1/events", events)
    job = client.wait("job_1", on_event=lambda event: told.append(event.id))
    assert job.status == "failed"
    assert told == [1, 2, 3, 4, 5]


def test_wait_polls_where_answers_may_not_take_long(script: Script, client: Client) -> None:
    def look(call: Call) -> Answer:
        looks = [c for c in script.calls if "wait" not in c.query]
        if "wait" in call.query:
            return Answer(504, b"a proxy's opinion")
        return DONE if len(looks) > 1 else RUNNING

    script.on("GET", "/v1/jobs/job_1", look)
    assert client.wait("job_1").status == "failed"
    assert [("wait" in call.query) for call in script.calls] == [True, False, False]


def test_jobs_are_asked_for_by_what_they_are(script: Script, client: Client) -> None:
    script.on("GET", "/v1/jobs", Answer(200, {"data": [], "next": None}))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    found = client.jobs(model="model_1", metadata={"a": "b:c", "d": "e"}, queued_after=moment)
    assert list(found) == []
    assert script.calls[-1].query == {
        "model": ["model_1"],
        "metadata": ["a:b:c", "d:e"],
        "queued_after": ["2026-01-01T00:00:00+00:00"],
    }


def test_a_retry_is_sent_under_one_key_however_often(script: Script, client: Client) -> None:
    busy = Answer(503, b"", {"Retry-After": "0.05"})
    script.on("POST", "/v1/jobs/job_1/retry", busy, Answer(202, JOB | {"id": "job_2"}))
    assert client.retry("job_1").id == "job_2"
    first, second = (call.headers["idempotency-key"] for call in script.calls)
    assert first == second


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
