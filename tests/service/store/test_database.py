from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from service.store.database import Database
from service.store.records import Record, WorkerRecord


def test_migrations_make_the_tables_that_the_records_need(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Record.metadata) == []


def test_several_processes_may_migrate_at_once(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path}/new/x.db") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda database: database.migrate(), databases))
    for database in databases:
        database.ping()
        database.close()


def test_sqlite_keeps_a_write_ahead_log(database: Database) -> None:
    with database.read() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_times_come_back_in_utc(database: Database) -> None:
    there = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    with database.write() as session:
        session.add(WorkerRecord(name="w", started_at=there, heartbeat_at=there))
    with database.read() as session:
        record = session.get(WorkerRecord, "w")
    assert record is not None
    assert record.started_at == there
    assert record.started_at.tzinfo is UTC


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
