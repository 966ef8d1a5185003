"""Connections and transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.orm import Session

_SQLITE_BUSY_SECONDS = 30


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def database_exists(url: str) -> bool:
    """False for the address of a SQLite file that is not there yet."""
    address = make_url(url)
    return address.get_backend_name() != "sqlite" or Path(address.database or "").exists()


class Database:
    """The records of one installation; safe to use from several threads and processes.

    `url` is a SQLAlchemy address. For SQLite the file's folder is made if it is missing.
    """

    def __init__(self, url: str) -> None:
        address = make_url(url)
        self._sqlite = address.get_backend_name() == "sqlite"
        if self._sqlite and address.database:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"connect_args": {"timeout": _SQLITE_BUSY_SECONDS}}
        self.engine = create_engine(
            address, pool_pre_ping=not self._sqlite, **(options if self._sqlite else {})
        )
        self._writer = self.engine.execution_options(writes=True)
        if self._sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; nothing is committed."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are committed together at the end, or not at all.

        On SQLite it holds the write lock from its first statement, so that what it reads
        stays true until it commits.
        """
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def ping(self) -> None:
        """Raise SQLAlchemy's `OperationalError` when the database does not answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def migrate(self, *, to: str = "head") -> None:
        """Bring the tables to a version; several processes may call it at once."""
        from alembic import command
        from alembic.config import Config

        with self._migrating() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(7240011)"))
            config = Config()
            config.set_main_option("script_location", "service.store:migrations")
            config.attributes["connection"] = connection
            command.upgrade(config, to)

    @contextmanager
    def _migrating(self) -> Iterator[Connection]:
        """A transaction in which tables may change, on SQLite by making them anew.

        Dropping the old table would count as deleting what others refer to; references are
        therefore checked at the end instead.
        """
        with self._writer.connect() as connection:
            if not self._sqlite:
                with connection.begin():
                    yield connection
                return
            driver: Any = connection.connection.dbapi_connection
            driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
                    if broken:
                        raise RuntimeError(f"the migration broke references: {broken[:5]}")
            finally:
                driver.execute("PRAGMA foreign_keys=ON")

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that starts by reading cannot become a writer while another
    # writes; writers therefore take the lock first and wait for it.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
