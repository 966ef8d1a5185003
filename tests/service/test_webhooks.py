"""Webhooks, sent to a real HTTP server and checked with the library receivers use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from standardwebhooks import Webhook as Receiver
from standardwebhooks.exceptions import WebhookVerificationError

from service.main import create_app
from service.settings import Settings
from service.store.database import Database
from service.webhooks import deliver_due
from tests.intrafusion.scripted_server import Answer, Script, scripted_server
from tests.service.conftest import ON_BOTH_DATABASES, queued, request_for, settle

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

pytestmark = ON_BOTH_DATABASES


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "webhook_private": True,
            "webhook_retry_seconds": 0.05,
            "webhook_attempts": 3,
            "public_url": "https://compress.example",
        }
    )


@pytest.fixture
def hook() -> Iterator[Script]:
    with scripted_server() as plan:
        plan.on("POST", "/hook", Answer(200, b""))
        yield plan


@pytest.fixture
def deliver(database: Database, settings: Settings) -> Callable[[], int]:
    return lambda: deliver_due(database=database, settings=settings)


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    """The application without its own deliveries, so that the test says when."""
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False) as client:
        tasks = app.state.resources.upkeep._tasks
        (telling,) = (task for task in tasks if task.get_name() == "webhooks")
        assert client.portal is not None
        client.portal.call(telling.cancel)
        yield client


def hooked(api: TestClient, hook: Script, **more: str) -> str:
    return queued(api, webhook={"url": f"{hook.url}/hook", "secret": SECRET} | more)


def notes(api: TestClient, job: str) -> list[str]:
    events = api.get(f"/v1/jobs/{job}/events").json()["data"]
    return [event["data"]["text"] for event in events if event["kind"] == "log"]


def test_a_jobs_end_is_told_once_and_signed(
    api: TestClient, database: Database, hook: Script, deliver: Callable[[], int]
) -> None:
    job = hooked(api, hook)
    assert deliver() == 0  # it has not ended
    settle(database, job)
    assert deliver() == 1
    assert deliver() == 0
    (call,) = hook.calls
    told = Receiver(SECRET).verify(call.body, call.headers)
    assert told["type"] == "job.succeeded"
    assert told["data"] == {
        "id": job,
        "status": "succeeded",
        "url": f"https://compress.example/v1/jobs/{job}",
    }
    with pytest.raises(WebhookVerificationError):
        Receiver(OTHER).verify(call.body, call.headers)
    assert "webhook arrived at attempt 1" in notes(api, job)[0]


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_every_end_is_told(
    api: TestClient, database: Database, hook: Script, deliver: Callable[[], int], end: str
) -> None:
    job = hooked(api, hook)
    if end == "cancelled":
        api.post(f"/v1/jobs/{job}/cancel")
    else:
        error = {"title": "", "status": 500, "code": "internal", "detail": ""}
        settle(database, job, outcome="failed", error=error)
    deliver()
    assert (
        Receiver(SECRET).verify(hook.calls[0].body, hook.calls[0].headers)["type"] == f"job.{end}"
    )


def test_a_receiver_that_fails_gets_it_again_with_the_same_id(
    api: TestClient, database: Database, hook: Script, deliver: Callable[[], int]
) -> None:
    hook.on("POST", "/hook", Answer(500, b""), Answer(200, b""))
    job = hooked(api, hook)
    settle(database, job)
    deliver()
    assert deliver() == 0  # not at once
    time.sleep(0.1)
    assert deliver() == 1
    first, second = hook.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    Receiver(SECRET).verify(second.body, second.headers)
    assert [note.split(":")[0] for note in notes(api, job)] == [
        "webhook failed at attempt 1",
        "webhook arrived at attempt 2",
    ]


@pytest.mark.parametrize(("status", "times"), [(500, 3), (410, 1)])
def test_a_receiver_that_never_answers_well_is_given_up(
    api: TestClient,
    database: Database,
    hook: Script,
    deliver: Callable[[], int],
    status: int,
    times: int,
) -> None:
    hook.on("POST", "/hook", Answer(status, b""))
    job = hooked(api, hook)
    settle(database, job)
    for _ in range(5):
        deliver()
        time.sleep(0.25)
    assert len(hook.calls) == times
    assert "was given up" in notes(api, job)[-1]


def test_redirects_are_not_followed(
    api: TestClient, database: Database, hook: Script, deliver: Callable[[], int]
) -> None:
    hook.on("POST", "/hook", Answer(302, b"", {"Location": f"{hook.url}/inside"}))
    settle(database, hooked(api, hook))
    deliver()
    assert [call.path for call in hook.calls] == ["/hook"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/hook",
        "http://localhost/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
    ],
)
def test_addresses_inside_are_refused(settings: Settings, url: str) -> None:
    strict = settings.model_copy(update={"webhook_private": False})
    with TestClient(create_app(strict)) as api:
        body = request_for(api, webhook={"url": url, "secret": SECRET})
        problem = api.post("/v1/jobs", json=body).json()
    assert problem["code"] == "invalid_spec"
    assert "not public" in problem["detail"]


def test_an_address_that_became_private_is_not_called(
    api: TestClient, database: Database, hook: Script, settings: Settings
) -> None:
    job = hooked(api, hook)
    settle(database, job)
    strict = settings.model_copy(update={"webhook_private": False})
    assert deliver_due(database=database, settings=strict) == 1
    assert hook.calls == []
    assert "was given up" in notes(api, job)[0]


def test_a_secret_is_needed_and_never_told(
    api: TestClient, hook: Script, settings: Settings, database: Database
) -> None:
    webhook = {"url": f"{hook.url}/hook"}
    problem = api.post("/v1/jobs", json=request_for(api, webhook=webhook)).json()
    assert problem["code"] == "invalid_spec"
    assert "whsec_" in problem["hint"]
    weak = webhook | {"secret": "whsec_c2hvcnQ="}
    assert api.post("/v1/jobs", json=request_for(api, webhook=weak)).status_code == 400
    job = hooked(api, hook)
    for path in (f"/v1/jobs/{job}", "/v1/jobs", f"/v1/jobs/{job}/events", f"/jobs/{job}"):
        assert SECRET not in api.get(path).text
    own = settings.model_copy(update={"webhook_secret": OTHER})
    with TestClient(create_app(own)) as other:
        settle(database, queued(other, webhook=webhook))
        deadline = time.monotonic() + 10
        while not hook.calls:  # by the server's own upkeep
            assert time.monotonic() < deadline
            time.sleep(0.05)
    Receiver(OTHER).verify(hook.calls[0].body, hook.calls[0].headers)


def test_a_stream_of_events_ends_although_a_webhook_is_noted_after_the_end(
    api: TestClient, database: Database, hook: Script, deliver: Callable[[], int]
) -> None:
    job = hooked(api, hook)
    settle(database, job)
    deliver()
    answer: Any = api.get(f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"})
    assert "webhook arrived" in answer.text
