"""The outbox and the queue, with a real Redis-protocol server that comes and goes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient

from service.household import Household
from service.main import create_app
from service.queue import NAME, Queue, QueueUnreachableError
from service.redis_server import own_redis
from service.settings import Settings
from tests.servers import start_redis
from tests.service.conftest import MODEL, upload


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    url = own_redis(home).url
    return Settings(
        home=home,
        redis_url=url,
        sandbox="off",
        keys="optional",
        log_level="ERROR",
        redeliver_seconds=1,
    )


@pytest.fixture
def server(home: Path) -> Iterator[Household]:
    """A running Redis-protocol server."""
    household = start_redis(home)
    yield household
    household.stop()


def wait_for(condition: Callable[[], Any], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def queued_ids(settings: Settings) -> list[str]:
    client = redis.Redis.from_url(settings.redis_url)
    messages = client.lrange(NAME, 0, -1)
    client.close()
    assert isinstance(messages, list)
    found = []
    for message in messages:
        headers = json.loads(message)["headers"]
        found.append(str(headers["argsrepr"]).strip("[]'\""))
    return found


def submit(api: TestClient) -> str:
    model = upload(api, "models", MODEL)
    body = {"model": model, "input_shapes": [[1, 3]], "architecture": {"name": "a/b"}}
    answer = api.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    return str(answer.json()["id"])


@pytest.mark.usefixtures("server")
def test_a_submitted_job_is_published_once(settings: Settings) -> None:
    with TestClient(create_app(settings)) as api:
        job = submit(api)
        wait_for(lambda: queued_ids(settings))
        time.sleep(2.5)  # longer than two looks of the dispatcher
        assert queued_ids(settings) == [job]
        assert api.get("/readyz").json()["details"]["checks"]["queue"] == "ok"


def test_a_job_submitted_while_redis_is_down_is_published_when_it_returns(
    settings: Settings, home: Path
) -> None:
    with TestClient(create_app(settings)) as api:
        began = time.monotonic()
        job = submit(api)
        assert time.monotonic() - began < 2  # nobody waits for Redis
        household = start_redis(home)
        try:
            wait_for(lambda: queued_ids(settings) == [job])
        finally:
            household.stop()


@pytest.mark.usefixtures("server")
def test_a_queue_that_lost_its_ids_gets_them_again(settings: Settings) -> None:
    with TestClient(create_app(settings)) as api:
        job = submit(api)
        wait_for(lambda: queued_ids(settings) == [job])
        client = redis.Redis.from_url(settings.redis_url)
        client.flushall()
        client.close()
        wait_for(lambda: queued_ids(settings) == [job])


@pytest.mark.usefixtures("server")
def test_a_cancelled_job_is_not_published_again(settings: Settings) -> None:
    with TestClient(create_app(settings)) as api:
        job = submit(api)
        wait_for(lambda: queued_ids(settings) == [job])
        api.post(f"/v1/jobs/{job}/cancel")
        client = redis.Redis.from_url(settings.redis_url)
        client.flushall()
        client.close()
        time.sleep(2.5)
        assert queued_ids(settings) == []


def test_publishing_without_a_server_fails_soon(settings: Settings) -> None:
    queue = Queue(settings)
    began = time.monotonic()
    with pytest.raises(QueueUnreachableError):
        queue.publish("job_x")
    assert time.monotonic() - began < 3
    with pytest.raises(QueueUnreachableError):
        queue.length()
    queue.close()
