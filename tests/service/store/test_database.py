from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from service.settings import Settings
from service.store.database import Database
from service.store.jobs import JobFilter, list_jobs
from service.store.records import DEFAULT_TENANT, EventRecord, JobRecord, Record, WorkerRecord
from tests.service.conftest import ON_BOTH_DATABASES


@ON_BOTH_DATABASES
def test_migrations_make_the_tables_that_the_records_need(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Record.metadata) == []


@ON_BOTH_DATABASES
def test_several_processes_may_migrate_at_once(settings: Settings) -> None:
    databases = [Database(settings.database) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda database: database.migrate(), databases))
    for database in databases:
        database.ping()
        database.close()


@ON_BOTH_DATABASES
def test_jobs_of_an_older_version_are_kept(settings: Settings) -> None:
    database = Database(settings.database)
    database.migrate(to="0001")
    moment = "2026-01-01 00:00:00"
    with database.write() as session:
        session.execute(
            text("INSERT INTO models VALUES ('model_1', 'a', 1, 'x', 'net.pt', :at)"),
            {"at": moment},
        )
        request = '{"spec": {"method": "prune"}, "metadata": {"commit": "abc"}}'
        session.execute(
            text(
                "INSERT INTO jobs (id, status, model_id, request, queued_at, attempt, losses, "
                "event_count) VALUES ('job_1', 'queued', 'model_1', :request, :at, 0, 0, 1)"
            ),
            {"request": request, "at": moment},
        )
        session.execute(
            text("INSERT INTO events VALUES ('job_1', 1, 'log', :at, '{}')"), {"at": moment}
        )
    database.migrate()
    with database.read() as session:
        record = session.get(JobRecord, "job_1")
        assert record is not None
        assert record.model_name == "net.pt"
        assert (record.method, record.request["metadata"]) == ("prune", {"commit": "abc"})
        found = list_jobs(
            session,
            tenant=DEFAULT_TENANT,
            before=None,
            limit=9,
            only=JobFilter(metadata={"commit": "abc"}),
        )
        assert [job.id for job in found] == ["job_1"]
        assert session.get(EventRecord, ("job_1", 1)) is not None
    database.close()


def test_sqlite_keeps_a_write_ahead_log(database: Database) -> None:
    with database.read() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


@ON_BOTH_DATABASES
def test_times_come_back_in_utc(database: Database) -> None:
    there = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    with database.write() as session:
        session.add(WorkerRecord(name="w", started_at=there, heartbeat_at=there))
    with database.read() as session:
        record = session.get(WorkerRecord, "w")
    assert record is not None
    assert record.started_at == there
    assert record.started_at.tzinfo is UTC


@ON_BOTH_DATABASES
def test_a_failed_transaction_changes_nothing(database: Database) -> None:
    moment = datetime.now(UTC)

    def break_off() -> None:
        with database.write() as session:
            session.add(WorkerRecord(name="w", started_at=moment, heartbeat_at=moment))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    with database.read() as session:
        assert session.get(WorkerRecord, "w") is None
