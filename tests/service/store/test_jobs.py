from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from service.ids import new_id
from service.store import jobs
from service.store.database import Database, now
from service.store.events import add_event, list_events
from service.store.jobs import Claim
from service.store.records import ArtifactRecord, JobRecord, ModelRecord
from service.store.uploads import add_upload
from tests.service.conftest import ON_BOTH_DATABASES

TENANT = "a"

pytestmark = ON_BOTH_DATABASES


@pytest.fixture
def job(database: Database) -> str:
    """A queued job."""
    with database.write() as session:
        model, _ = add_upload(
            session,
            ModelRecord,
            tenant=TENANT,
            id=new_id("model"),
            sha256="0" * 64,
            bytes=1,
            kind="x",
            name=None,
        )
        return jobs.add_job(
            session,
            id=new_id("job"),
            tenant=TENANT,
            model_id=model.id,
            model_name=None,
            calibration_id=None,
            evaluation_id=None,
            method="intra-fusion",
            metadata={},
            request={"model": model.id},
        ).id


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session


def claim(session: Session, job: str, worker: str = "w", lease: float = 60) -> Claim:
    held = jobs.claim_job(session, id=job, worker=worker, lease_seconds=lease)
    assert held is not None
    return held


def state(session: Session, job: str) -> JobRecord:
    record = jobs.find_job(session, job, tenant=TENANT)
    assert record is not None
    return record


def statuses(session: Session, job: str) -> list[str]:
    events = list_events(session, job_id=job, after=0, limit=100)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    return [event.data["status"] for event in events if event.kind == "status"]


def test_of_many_claims_at_once_one_succeeds(database: Database, job: str) -> None:
    def attempt(number: int) -> Claim | None:
        with database.write() as session:
            return jobs.claim_job(session, id=job, worker=f"w{number}", lease_seconds=60)

    with ThreadPoolExecutor(8) as pool:
        held = [found for found in pool.map(attempt, range(16)) if found]
    assert len(held) == 1
    with database.read() as session:
        record = state(session, job)
        assert (record.status, record.attempt, record.worker) == ("running", 1, held[0].worker)


def test_an_ended_job_cannot_be_claimed(session: Session, job: str) -> None:
    held = claim(session, job)
    assert jobs.settle_job(session, held, outcome="succeeded")
    assert jobs.claim_job(session, id=job, worker="w", lease_seconds=60) is None
    assert statuses(session, job) == ["queued", "running", "succeeded"]


def test_an_outdated_claim_can_do_nothing(session: Session, job: str) -> None:
    old = claim(session, job, lease=-1)
    assert jobs.reclaim_lost_jobs(session, max_attempts=3) == [job]
    new = claim(session, job)
    assert new.attempt == 2
    assert not jobs.renew_lease(session, old, lease_seconds=60)
    assert not jobs.record_progress(session, old, {"step": "load", "done": 0, "total": 1})
    assert jobs.cancel_requested(session, old) is None
    assert not jobs.settle_job(session, old, outcome="failed", error={"code": "x"})
    assert not jobs.release_job(session, old)
    assert state(session, job).status == "running"
    assert jobs.settle_job(session, new, outcome="succeeded")


def test_a_lost_job_fails_after_its_last_attempt(session: Session, job: str) -> None:
    for attempt in (1, 2, 3):
        assert claim(session, job, lease=-1).attempt == attempt
        assert jobs.any_lost(session)
        assert jobs.reclaim_lost_jobs(session, max_attempts=3) == [job]
    record = state(session, job)
    assert record.status == "failed"
    assert record.error is not None
    assert record.error["code"] == "worker_lost"
    assert record.ended_at is not None
    assert jobs.reclaim_lost_jobs(session, max_attempts=3) == []


def test_a_job_with_a_lease_is_not_lost(session: Session, job: str) -> None:
    held = claim(session, job, lease=-1)
    assert jobs.renew_lease(session, held, lease_seconds=60)
    assert not jobs.any_lost(session)
    assert jobs.reclaim_lost_jobs(session, max_attempts=3) == []


def test_a_released_job_is_published_again_at_no_cost(session: Session, job: str) -> None:
    jobs.mark_published(session, job)
    held = claim(session, job)
    assert jobs.list_unpublished(session, limit=10) == []
    assert jobs.release_job(session, held)
    assert jobs.list_unpublished(session, limit=10) == [job]
    assert state(session, job).losses == 0


def test_cancelling_a_queued_job_ends_it(session: Session, job: str) -> None:
    jobs.cancel_job(session, job)
    assert state(session, job).status == "cancelled"
    assert jobs.claim_job(session, id=job, worker="w", lease_seconds=60) is None


def test_cancelling_a_running_job_asks_its_worker(session: Session, job: str) -> None:
    held = claim(session, job)
    assert jobs.cancel_requested(session, held) is False
    jobs.cancel_job(session, job)
    jobs.cancel_job(session, job)
    assert jobs.cancel_requested(session, held) is True
    assert jobs.settle_job(session, held, outcome="cancelled")
    assert statuses(session, job) == ["queued", "running", "cancelling", "cancelled"]


def test_a_job_being_cancelled_is_not_run_again(session: Session, job: str) -> None:
    held = claim(session, job, lease=-1)
    jobs.cancel_job(session, job)
    assert jobs.reclaim_lost_jobs(session, max_attempts=3) == [job]
    assert state(session, job).status == "cancelled"
    assert not jobs.release_job(session, held)


def test_releasing_a_job_being_cancelled_cancels_it(session: Session, job: str) -> None:
    held = claim(session, job)
    jobs.cancel_job(session, job)
    assert jobs.release_job(session, held)
    assert state(session, job).status == "cancelled"


def test_cancelling_an_ended_job_changes_nothing(session: Session, job: str) -> None:
    jobs.settle_job(session, claim(session, job), outcome="succeeded")
    jobs.cancel_job(session, job)
    assert state(session, job).status == "succeeded"


def test_artifacts_appear_with_the_settlement(session: Session, job: str) -> None:
    held = claim(session, job)
    artifact = ArtifactRecord(job_id=job, name="a", sha256="1" * 64, bytes=1, media_type="x/y")
    assert jobs.settle_job(session, held, outcome="succeeded", artifacts=[artifact])
    assert [found.name for found in jobs.list_artifacts(session, job)] == ["a"]


def test_waiting_jobs_are_those_published_and_not_taken(session: Session, job: str) -> None:
    later = now() + timedelta(seconds=1)
    assert jobs.list_waiting(session, published_before=later, limit=10) == []
    jobs.mark_published(session, job)
    assert jobs.list_waiting(session, published_before=later, limit=10) == [job]
    claim(session, job)
    assert jobs.list_waiting(session, published_before=later, limit=10) == []


def test_events_written_at_once_are_numbered_without_gaps(database: Database, job: str) -> None:
    def write(number: int) -> None:
        with database.write() as session:
            add_event(session, job_id=job, kind="log", data={"text": str(number)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    with database.read() as session:
        events = list_events(session, job_id=job, after=0, limit=100)
    assert [event.number for event in events] == list(range(1, 26))


def test_of_one_tenant_only_so_many_jobs_go_on_the_queue(session: Session, job: str) -> None:
    def add(tenant: str) -> str:
        return jobs.add_job(
            session,
            id=new_id("job"),
            tenant=tenant,
            model_id="m",
            model_name=None,
            calibration_id=None,
            evaluation_id=None,
            method="prune",
            metadata={},
            request={},
        ).id

    second, third, other = add(TENANT), add(TENANT), add("b")
    assert set(jobs.list_unpublished(session, limit=9)) == {job, second, third, other}
    assert set(jobs.list_unpublished(session, limit=9, at_once=2)) == {job, second, other}
    jobs.mark_published(session, job)
    held = claim(session, job)
    jobs.mark_published(session, second)
    assert jobs.list_unpublished(session, limit=9, at_once=2) == [other]
    jobs.settle_job(session, held, outcome="succeeded")
    assert set(jobs.list_unpublished(session, limit=9, at_once=2)) == {third, other}
