"""Processes die, Redis goes away, people press Ctrl-C: no job is lost, none is done twice."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from tests.e2e.conftest import Server, wait_for
from tests.service.conftest import MODEL


def act(server: Server, act: str, argument: str = "") -> str:
    model = server.upload("models", MODEL)
    return server.submit(
        model=model,
        input_shapes=[[1, 3]],
        architecture={"name": "play"},
        metadata={"act": act, "with": argument},
    )


def has_begun(server: Server, job: str) -> bool:
    return any(event["kind"] == "progress" for event in server.events(job))


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def is_ready(server: Server) -> dict[str, Any] | None:
    answer = server.http.get("/readyz")
    return answer.json() if answer.status_code == 200 else None


def test_cancel_ends_a_running_job_within_two_seconds(stage: Server) -> None:
    job = act(stage, "sleep", "600")
    wait_for(lambda: has_begun(stage, job))
    assert stage.processes("tests.worker.play")
    began = time.monotonic()
    answer = stage.http.post(f"/v1/jobs/{job}/cancel")
    assert answer.json()["status"] == "cancelling"
    found = stage.finish(job)
    assert time.monotonic() - began < 2
    assert found["status"] == "cancelled"
    assert not stage.processes("tests.worker.play")
    assert stage.finish(act(stage, "succeed"))["status"] == "succeeded"


def test_a_killed_worker_loses_no_job_and_does_none_twice(stage: Server) -> None:
    jobs = [act(stage, "sleep", "1"), act(stage, "succeed"), act(stage, "succeed")]
    wait_for(lambda: has_begun(stage, jobs[0]))
    kill(stage.processes("-m worker"))
    for job, attempts in zip(jobs, (2, 1, 1), strict=True):
        found = stage.finish(job)
        assert (found["status"], found["attempt"]) == ("succeeded", attempts)
        assert stage.statuses(job).count("succeeded") == 1


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_given_up(stage: Server) -> None:
    job = act(stage, "sleep", "600")
    for attempt in (1, 2, 3):
        wait_for(
            lambda attempt=attempt: (
                stage.job(job)["attempt"] == attempt and stage.job(job)["progress"]
            )
        )
        kill(stage.processes("-m worker"))
    found = stage.finish(job)
    assert found["status"] == "failed"
    assert found["error"]["code"] == "worker_lost"
    assert found["attempt"] == 3
    assert stage.finish(act(stage, "succeed"))["status"] == "succeeded"


def test_without_a_worker_the_server_is_not_ready_but_takes_jobs(stage: Server) -> None:
    assert is_ready(stage)
    worker = stage.processes("-m worker")[0]
    os.kill(worker, signal.SIGSTOP)  # alive, but silent
    try:
        wait_for(lambda: not is_ready(stage))
        assert stage.http.get("/readyz").json()["detail"] == "Not ready: worker."
        job = act(stage, "succeed")
        assert stage.job(job)["status"] == "queued"
    finally:
        os.kill(worker, signal.SIGCONT)
    assert stage.finish(job)["status"] == "succeeded"
    wait_for(lambda: is_ready(stage))


def test_a_queue_that_dies_costs_nothing(stage: Server) -> None:
    running = act(stage, "sleep", "1")
    wait_for(lambda: has_begun(stage, running))
    kill(stage.processes("redis.sock"))
    waiting = act(stage, "succeed")
    for job in (running, waiting):
        found = stage.finish(job)
        assert (found["status"], found["attempt"]) == ("succeeded", 1)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_restart_goes_on_where_it_stopped(stage: Server, how: signal.Signals) -> None:
    before = stage.http.base_url
    jobs = [act(stage, "sleep", "1"), act(stage, "succeed")]
    wait_for(lambda: has_begun(stage, jobs[0]))
    started = [*stage.processes("-m worker"), *stage.processes("redis.sock")]
    stage.stop(how)
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in started), 10)
    if how is not signal.SIGKILL:
        assert not (stage.home / "server.json").exists()
    stage.start()
    assert stage.http.base_url != before
    for job, attempts in zip(jobs, (2, 1), strict=True):
        found = stage.finish(job)
        assert (found["status"], found["attempt"]) == ("succeeded", attempts)
