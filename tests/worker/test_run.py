"""From claim to settlement, with a job process that behaves in every way it might."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from intrafusion.api import Artifact, Job
from intrafusion.report import InspectionReport
from service import jobs as service_jobs
from service.models import get_model
from service.settings import Settings
from service.store import jobs as store
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.records import DEFAULT_TENANT
from service.store.workers import beat
from tests.worker.conftest import events_of
from worker.run import run_delivered

Run = Callable[..., Job]


def list_artifacts(database: Database, job: str) -> list[Artifact]:
    return service_jobs.list_artifacts(database=database, tenant=DEFAULT_TENANT, id=job).data


@pytest.fixture
def deliver(settings: Settings, database: Database, blobs: Blobs) -> Callable[[str], bool]:
    return partial(run_delivered, settings=settings, database=database, blobs=blobs, worker="w")


@pytest.fixture
def begin(
    submit: Callable[..., str], deliver: Callable[[str], bool], database: Database
) -> Callable[..., tuple[str, threading.Thread]]:
    """Starts a job beside the test and returns when it has said something."""

    def begin(act: str, argument: str = "") -> tuple[str, threading.Thread]:
        job = submit(act, argument)
        thread = threading.Thread(target=deliver, args=(job,))
        thread.start()
        wait_for(lambda: any(e.kind == "progress" for e in events_of(database, job)))
        return job, thread

    return begin


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_job_that_ends_well(run: Run, database: Database, settings: Settings) -> None:
    job = run("succeed")
    assert job.status == "succeeded"
    assert job.attempt == 1
    assert job.error is None
    assert job.ended_at is not None
    artifacts = service_jobs.list_artifacts(
        database=database, tenant=DEFAULT_TENANT, id=job.id
    ).data
    assert [artifact.name for artifact in artifacts] == [
        "model.pt",
        "model.safetensors",
        "report.html",
        "report.json",
    ]
    assert list(settings.jobs_folder.iterdir()) == []
    story = [(event.kind, event.data) for event in events_of(database, job.id)]
    assert story[0] == ("status", {"status": "queued"})
    assert story[-1] == ("status", {"status": "succeeded"})
    assert ("metric", {"name": "answer", "value": 42}) in story
    assert ("log", {"text": "a printed line"}) in story
    assert ("progress", {"step": "fuse", "done": 4, "total": 4}) in story


def test_a_second_delivery_finds_nothing_to_do(
    submit: Callable[..., str], deliver: Callable[[str], bool], database: Database
) -> None:
    job = submit("succeed")
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(deliver, [job] * 3))
    assert sorted(outcomes) == [False, False, True]
    assert deliver(job) is False
    found = service_jobs.get_job(database=database, tenant=DEFAULT_TENANT, id=job)
    assert (found.status, found.attempt) == ("succeeded", 1)


def test_an_unknown_id_is_nothing_to_do(deliver: Callable[[str], bool]) -> None:
    assert deliver("job_unknown") is False


def test_a_failing_disk_costs_the_attempt_at_once(
    submit: Callable[..., str],
    deliver: Callable[[str], bool],
    database: Database,
    settings: Settings,
) -> None:
    job = submit("succeed")
    for blob in (settings.home / "blobs" / "sha256").rglob("*"):
        if blob.is_file():
            blob.unlink()
    with pytest.raises(FileNotFoundError):
        deliver(job)
    with database.write() as session:
        assert store.reclaim_lost_jobs(session, max_attempts=3) == [job]
    assert service_jobs.get_job(database=database, tenant=DEFAULT_TENANT, id=job).status == "queued"
    assert list(settings.jobs_folder.iterdir()) == []


def test_an_error_of_the_engine_becomes_the_jobs_error(run: Run) -> None:
    job = run("fail", "weights_not_finite")
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == "weights_not_finite"
    assert (job.error.detail, job.error.hint) == ("No good.", "Do better.")
    assert job.error.details == {"at": 7}
    assert job.error.status == 422


FOUND = InspectionReport(
    source="play", parameters=2, macs=2, inputs=[], groups=[], frozen=[], coverage=0.5
)


def test_what_was_found_in_a_model_is_kept_though_the_job_failed(
    run: Run, database: Database
) -> None:
    job = run("look_and_fail", FOUND.model_dump_json())
    assert job.error is not None
    assert job.error.code == "nothing_to_prune"
    model = get_model(database=database, tenant=DEFAULT_TENANT, id=job.model)
    assert model.inspection == FOUND
    run("look_and_fail", FOUND.model_copy(update={"macs": 3}).model_dump_json())  # not asked again
    assert get_model(database=database, tenant=DEFAULT_TENANT, id=job.model) == model


@pytest.mark.parametrize(
    "found",
    [
        '{"coverage": "all"}',
        FOUND.model_dump_json().replace("0.5", "1e999"),
    ],
)
def test_an_unusable_inspection_is_not_kept_and_spoils_no_job(
    run: Run, database: Database, found: str
) -> None:
    job = run("look_and_fail", found)
    assert job.error is not None
    assert job.error.code == "nothing_to_prune"
    model = get_model(database=database, tenant=DEFAULT_TENANT, id=job.model)
    assert model.inspection is None


@pytest.mark.parametrize("sandbox", ["off", "required"])
def test_a_crash_is_told_by_its_signal(run: Run, sandbox: str) -> None:
    job = run("crash", sandbox=sandbox)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == "job_crashed"
    assert "SIGSEGV" in job.error.detail


@pytest.mark.parametrize("sandbox", ["off", "required"])
def test_a_job_may_use_so_much_memory_and_no_more(run: Run, sandbox: str) -> None:
    job = run("hog", sandbox=sandbox)
    assert job.error is not None
    assert job.error.code == "out_of_memory"
    assert "400 MiB" in job.error.detail


def test_a_job_may_run_so_long_and_no_longer(run: Run) -> None:
    began = time.monotonic()
    job = run("sleep", "600", job_seconds=1)
    assert time.monotonic() - began < 5
    assert job.error is not None
    assert job.error.code == "time_limit"


@pytest.mark.parametrize(
    ("act", "argument", "code"),
    [
        ("end_early", "", "job_crashed"),
        ("forget", "model.pt", "internal"),
        ("forget", "report.json", "internal"),
        ("link", "/etc/hostname", "internal"),
        ("link", "report.json", "internal"),
        ("lie", "", "internal"),
        ("measure_nothing", "", "internal"),
    ],
)
def test_results_that_are_none_fail_the_job(
    run: Run, database: Database, act: str, argument: str, code: str
) -> None:
    job = run(act, argument)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == code
    assert (
        service_jobs.list_artifacts(database=database, tenant=DEFAULT_TENANT, id=job.id).data == []
    )


def test_a_job_that_babbles_is_heard_only_so_long(run: Run, database: Database) -> None:
    job = run("babble", "20000")
    assert job.status == "succeeded"
    lines = [event.data["text"] for event in events_of(database, job.id) if event.kind == "log"]
    assert len(lines) == 501
    assert lines[0] == "line 0"
    assert lines[-1] == "further lines are left out"


def test_events_that_are_none_are_told_as_lines(run: Run, database: Database) -> None:
    job = run("babble", "0")
    assert job.status == "succeeded"
    lines = [event.data["text"] for event in events_of(database, job.id) if event.kind == "log"]
    assert sum("unreadable event" in line for line in lines) == 2


def test_cancelling_ends_the_process_within_two_seconds(
    begin: Callable[..., tuple[str, threading.Thread]], database: Database
) -> None:
    job, thread = begin("sleep", "600")
    began = time.monotonic()
    service_jobs.cancel_job(database=database, tenant=DEFAULT_TENANT, id=job)
    thread.join(timeout=10)
    assert time.monotonic() - began < 2
    assert (
        service_jobs.get_job(database=database, tenant=DEFAULT_TENANT, id=job).status == "cancelled"
    )


@pytest.mark.parametrize("sandbox", ["off", "required"])
def test_no_descendant_outlives_its_job(
    sandbox: str, submit: Callable[..., str], settings: Settings, database: Database, blobs: Blobs
) -> None:
    seconds = f"{600 + random.random():.12f}"  # so that no other process looks the same
    job = submit("breed", seconds)
    changed = settings.model_copy(update={"sandbox": sandbox})
    with ThreadPoolExecutor(1) as pool:
        pool.submit(
            run_delivered, job, settings=changed, database=database, blobs=blobs, worker="w"
        )
        wait_for(lambda: count_processes("sleep", seconds) == 1)
        service_jobs.cancel_job(database=database, tenant=DEFAULT_TENANT, id=job)
    wait_for(lambda: count_processes("sleep", seconds) == 0)
    assert (
        service_jobs.get_job(database=database, tenant=DEFAULT_TENANT, id=job).status == "cancelled"
    )


def count_processes(*command: str) -> int:
    line = b"".join(word.encode() + b"\0" for word in command)
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            count += path.read_bytes() == line
    return count


def test_a_stopping_worker_returns_its_job(
    begin: Callable[..., tuple[str, threading.Thread]], database: Database
) -> None:
    job, thread = begin("sleep", "600")
    with database.write() as session:
        beat(session, name="w", draining=True)
    thread.join(timeout=10)
    found = service_jobs.get_job(database=database, tenant=DEFAULT_TENANT, id=job)
    assert (found.status, found.attempt, found.progress) == ("queued", 1, None)


def test_a_job_taken_back_is_left_to_its_new_owner(
    begin: Callable[..., tuple[str, threading.Thread]], database: Database
) -> None:
    job, thread = begin("sleep", "600")
    with database.write() as session:
        record = store.find_job(session, job, tenant=None)
        assert record is not None
        record.attempt += 1
        record.worker = "another"
    thread.join(timeout=10)
    assert not thread.is_alive()
    found = service_jobs.get_job(database=database, tenant=DEFAULT_TENANT, id=job)
    assert (found.status, found.worker) == ("running", "another")


def test_a_job_that_runs_keeps_its_lease(run: Run, database: Database, settings: Settings) -> None:
    taken: list[bool] = []

    def look() -> None:
        for _ in range(20):
            time.sleep(0.1)
            with database.write() as session:
                taken.extend(map(bool, store.reclaim_lost_jobs(session, max_attempts=3)))

    watcher = threading.Thread(target=look)
    watcher.start()
    job = run("sleep", "1.5", lease_seconds=0.6)
    watcher.join()
    assert (job.status, job.attempt) == ("succeeded", 1)
    assert not taken
