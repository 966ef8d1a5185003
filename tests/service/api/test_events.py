"""A job's events as a stream, over a real connection."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx

from service.store.database import Database
from service.store.events import add_event
from tests.service.conftest import queued, settle

STREAM = {"Accept": "text/event-stream"}


def frames(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream as they arrive, without comments."""
    frame: dict[str, Any] = {}
    for line in response.iter_lines():
        if not line and "data" in frame:
            yield frame
        if not line:
            frame = {}
            continue
        name, _, value = line.partition(": ")
        frame[name] = value


def note(database: Database, job: str, text: str) -> None:
    with database.write() as session:
        add_event(session, job_id=job, kind="log", data={"text": text})


def test_events_arrive_as_they_happen_until_the_job_has_ended(
    live: httpx.Client, database: Database
) -> None:
    job = queued(live)
    with live.stream("GET", f"/v1/jobs/{job}/events", headers=STREAM) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        arriving = frames(response)
        assert json.loads(next(arriving)["data"])["data"] == {"status": "queued"}
        for text in ("one", "two"):
            note(database, job, text)
            began = time.monotonic()
            frame = next(arriving)
            assert time.monotonic() - began < 3
            assert frame["event"] == "log"
            event = json.loads(frame["data"])
            assert event["data"] == {"text": text}
            assert str(event["id"]) == frame["id"]
        settle(database, job)
        told = [json.loads(frame["data"])["data"]["status"] for frame in arriving]
    assert told == ["running", "succeeded"]


def test_a_broken_stream_goes_on_where_it_stopped(live: httpx.Client, database: Database) -> None:
    job = queued(live)
    for number in range(2, 8):
        note(database, job, str(number))
    settle(database, job)
    path = f"/v1/jobs/{job}/events"
    with live.stream("GET", path, headers=STREAM) as response:
        arriving = frames(response)
        seen = [next(arriving)["id"] for _ in range(3)]
    resumed = {**STREAM, "Last-Event-ID": seen[-1]}
    with live.stream("GET", path, headers=resumed) as response:
        seen += [frame["id"] for frame in frames(response)]
    assert seen == [str(number) for number in range(1, 10)]
    over = live.get(path, headers={**STREAM, "Last-Event-ID": seen[-1]})
    assert over.status_code == 204  # which keeps a browser from connecting again


def test_a_stream_of_many_events_leaves_none_out(live: httpx.Client, database: Database) -> None:
    job = queued(live)
    with database.write() as session:
        for number in range(450):
            add_event(session, job_id=job, kind="log", data={"text": str(number)})
    settle(database, job)
    answer = live.get(f"/v1/jobs/{job}/events", headers=STREAM)
    assert answer.text.count("\nid: ") == 453


def test_a_deleted_job_ends_its_stream(live: httpx.Client, database: Database) -> None:
    job = queued(live)
    lines: list[str] = []

    def listen() -> None:
        with live.stream("GET", f"/v1/jobs/{job}/events", headers=STREAM) as response:
            lines.extend(response.iter_lines())

    thread = threading.Thread(target=listen)
    thread.start()
    settle(database, job)
    live.delete(f"/v1/jobs/{job}")
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_an_unknown_job_and_a_bad_number_are_refused(live: httpx.Client) -> None:
    assert live.get("/v1/jobs/job_x/events", headers=STREAM).json()["code"] == "not_found"
    job = queued(live)
    answer = live.get(f"/v1/jobs/{job}/events", headers={**STREAM, "Last-Event-ID": "soon"})
    assert answer.json()["code"] == "bad_request"
