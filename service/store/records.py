"""The tables. Portable SQL only: the same records lie in SQLite or PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DEFAULT_TENANT = "default"
"""Whose everything is where no keys are asked for."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, also where the database keeps no time zone (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Record(DeclarativeBase):
    """What all tables have in common."""

    metadata = MetaData(
        naming_convention={  # so that a migration on either database can name what it changes
            "ix": "%(table_name)s_by_%(column_0_name)s",
            "uq": "%(table_name)s_unique_%(column_0_name)s",
            "fk": "%(table_name)s_%(column_0_name)s_to_%(referred_table_name)s",
            "pk": "%(table_name)s_key",
        }
    )
    type_annotation_map: ClassVar = {
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(none_as_null=True),
        int: BigInteger(),
    }


class KeyRecord(Record):
    """An API key. What is kept of the key itself is its SHA-256."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class UploadRecord:
    """Columns of a stored upload; its bytes lie in the blob store under `sha256`."""

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int]
    kind: Mapped[str] = mapped_column(String(32))
    name: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime]


class ModelRecord(UploadRecord, Record):
    """An uploaded network."""

    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("tenant", "sha256"),
        Index("models_by_tenant", "tenant", "id"),
    )

    inspection: Mapped[dict[str, Any] | None] = mapped_column(deferred=True)
    """An InspectionReport, once a worker has loaded it; too long to be read along with lists."""


class DatasetRecord(UploadRecord, Record):
    """Uploaded samples."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("tenant", "sha256"),
        Index("datasets_by_tenant", "tenant", "id"),
    )


class JobRecord(Record):
    """One compression: what was asked for, where it stands, and who works on it."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_by_status", "status", "published_at"),
        Index("jobs_by_lease", "lease_until"),
        Index("jobs_by_end", "ended_at"),
        Index("jobs_by_tenant", "tenant", "id"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    model_id: Mapped[str] = mapped_column(String(64), index=True)
    """Not a foreign key, like those of the datasets: an ended job outlives what it read."""
    model_name: Mapped[str | None] = mapped_column(String(255))
    calibration_id: Mapped[str | None] = mapped_column(String(64), index=True)
    evaluation_id: Mapped[str | None] = mapped_column(String(64), index=True)
    method: Mapped[str] = mapped_column(String(64))
    request: Mapped[dict[str, Any]]
    """The JobRequest as it was accepted, defaults filled in."""
    progress: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    """A Problem, for failed jobs."""
    result: Mapped[dict[str, Any] | None]
    """A JobResult, for succeeded jobs."""
    gates: Mapped[dict[str, Any] | None]
    """A GateOutcome, for succeeded jobs that have gates."""
    retry_of: Mapped[str | None] = mapped_column(String(64))
    request_id: Mapped[str | None] = mapped_column(String(128))
    """The request that made it, as the logs know it."""
    traceparent: Mapped[str | None] = mapped_column(String(64))
    """The span of that request, where it was traced."""

    queued_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    published_at: Mapped[datetime | None]
    """The outbox mark: when the id was last put on the queue; None while that is still to do."""
    attempt: Mapped[int] = mapped_column(default=0)
    """Counts starts. With `worker` it fences: only the holder of the present attempt may write."""
    losses: Mapped[int] = mapped_column(default=0)
    """Counts attempts that ended because their worker fell silent."""
    worker: Mapped[str | None] = mapped_column(String(255))
    lease_until: Mapped[datetime | None]
    event_count: Mapped[int] = mapped_column(default=0)


class LabelRecord(Record):
    """One entry of a job's metadata, by which jobs are found."""

    __tablename__ = "labels"
    __table_args__ = (Index("labels_by_name", "name", "value", "job_id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[str] = mapped_column(String(500))


class EventRecord(Record):
    """One numbered line of a job's story."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime]
    data: Mapped[dict[str, Any]]


class ArtifactRecord(Record):
    """One file a job made; its bytes lie in the blob store under `sha256`."""

    __tablename__ = "artifacts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int]
    media_type: Mapped[str] = mapped_column(String(255))


class IdempotencyRecord(Record):
    """An `Idempotency-Key` and the job its first request made."""

    __tablename__ = "idempotency_keys"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[datetime] = mapped_column(index=True)


class DeliveryRecord(Record):
    """A webhook that is sent once its job has ended, until it arrives."""

    __tablename__ = "deliveries"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str | None] = mapped_column(String(255))
    """The job's own; None for the server's."""
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime | None] = mapped_column(index=True)
    """When it may be sent next; None once it arrived or was given up."""


class PartialUploadRecord(Record):
    """A file that arrives in parts; service.store.parts has what has arrived of it."""

    __tablename__ = "partial_uploads"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    """What it becomes: `model` or `dataset`."""
    name: Mapped[str | None] = mapped_column(String(255))
    length: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(index=True)
    upload_id: Mapped[str | None] = mapped_column(String(64))
    """The model or dataset that it became."""
    finishing_until: Mapped[datetime | None]
    """Until when no other request need try to make it what it becomes."""


class PartRecord(Record):
    """A part in an object store. No two of an upload begin at the same place."""

    __tablename__ = "parts"

    upload_id: Mapped[str] = mapped_column(ForeignKey("partial_uploads.id"), primary_key=True)
    begins: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bytes: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))


class TimingRecord(Record):
    """One bar of a histogram; service.store.timings says of what."""

    __tablename__ = "timings"

    timed: Mapped[str] = mapped_column(String(16), primary_key=True)
    label: Mapped[str] = mapped_column(String(64), primary_key=True)
    bound: Mapped[str] = mapped_column(String(16), primary_key=True)
    """The most seconds that are counted here."""
    count: Mapped[int]
    seconds: Mapped[float] = mapped_column(Double())
    """All that is counted here, together."""


class WorkerRecord(Record):
    """A worker process and when it last said that it is alive."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    draining: Mapped[bool] = mapped_column(default=False)
    """Set when it was told to stop: it then returns its job to the queue."""
