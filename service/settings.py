"""Every variable the server and the worker read, in one place.

Each setting is read from the environment as `INTRAFUSION_<NAME>`; the three addresses are
also read under the plain names that hosting platforms set (`DATABASE_URL`, `REDIS_URL`,
`BLOB_URL`). What is kept on disk lies in `home` unless an address says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MiB = 1024**2
GiB = 1024**3

Keys = Literal["required", "optional"]
Sandbox = Literal["required", "auto", "off"]


def _address(name: str) -> AliasChoices:
    return AliasChoices(name, f"INTRAFUSION_{name}", name.upper())


class Settings(BaseSettings):
    """Settings of one installation; the same for its API processes and its workers."""

    model_config = SettingsConfigDict(
        env_prefix="INTRAFUSION_", extra="ignore", populate_by_name=True, frozen=True
    )

    home: Path = Field(
        default=Path(".intrafusion"),
        description="Folder for the database, blobs and job folders where no address is set.",
    )
    database_url: str = Field(
        default="",
        validation_alias=_address("database_url"),
        description="SQLAlchemy address of the records. Empty: SQLite in `home`.",
    )
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        validation_alias=_address("redis_url"),
        description="Address of the queue: `redis://`, `rediss://` or `unix:///path/to.sock`.",
    )
    blob_url: str = Field(
        default="",
        validation_alias=_address("blob_url"),
        description="Address of the blob store, such as `s3://bucket`. Empty: a folder in `home`.",
    )

    keys: Keys = Field(
        default="required",
        description=(
            "`required`: every request needs an API key. `optional`: only once a key has been "
            "made; for servers that only this machine can reach."
        ),
    )
    quota_requests_per_minute: int | None = Field(
        default=None,
        gt=0,
        description="Requests a tenant may send in a minute, to all API processes. Unset: any.",
    )
    quota_queued_jobs: int | None = Field(
        default=None, gt=0, description="Jobs of a tenant that may wait. Unset: any number."
    )
    quota_running_jobs: int | None = Field(
        default=None,
        gt=0,
        description="Jobs of a tenant that may run at once; more wait. Unset: any number.",
    )
    quota_stored_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Bytes of uploads and results a tenant may keep. Unset: any number.",
    )

    max_upload_bytes: int = Field(
        default=5 * GiB, gt=0, description="Largest model or dataset accepted, in bytes."
    )
    idempotency_hours: float = Field(
        default=24, gt=0, description="How long an `Idempotency-Key` is remembered."
    )
    link_downloads: bool = Field(
        default=False,
        description=(
            "Whether downloads are redirected to an object store, by links that anyone may use "
            "for an hour, instead of passing through the server."
        ),
    )
    max_wait_seconds: float = Field(
        default=60, gt=0, description="Longest a `GET /v1/jobs/{id}?wait=` may hold its answer."
    )

    retention_days: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Days after which ended jobs, and uploads that no job refers to, are deleted. "
            "Unset: they stay until someone deletes them."
        ),
    )
    orphan_hours: float = Field(
        default=24,
        gt=0,
        description="Age at which stored bytes that no record refers to are removed.",
    )
    collect_seconds: float = Field(
        default=3600, gt=0, description="How often the server looks for what has outlived its use."
    )

    webhook_secret: str | None = Field(
        default=None,
        pattern=r"^whsec_[A-Za-z0-9+/]{32,}={0,2}$",
        description="Signs webhooks whose job has no secret of its own: `whsec_` and base64.",
    )
    webhook_private: bool = Field(
        default=False,
        description="Whether webhooks may go to private and loopback addresses.",
    )
    webhook_retry_seconds: float = Field(
        default=5, gt=0, description="Pause before a failed webhook is sent again; it doubles."
    )
    webhook_attempts: int = Field(
        default=14, gt=0, description="How often a webhook is sent before it is given up."
    )
    public_url: str = Field(
        default="",
        description="Address under which others reach this server; written into webhooks.",
    )
    partial_hours: float = Field(
        default=48, gt=0, description="Hours after which an unfinished resumable upload goes."
    )

    job_seconds: int = Field(
        default=6 * 3600, gt=0, description="Wall time after which a job is stopped."
    )
    job_memory_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Memory a job may use, in bytes. Unset: nine tenths of the machine's.",
    )
    job_output_bytes: int = Field(
        default=20 * GiB, gt=0, description="Largest single file a job may write, in bytes."
    )
    job_threads: int | None = Field(
        default=None, gt=0, description="CPU threads a job computes on. Unset: one per core."
    )
    job_module: str = Field(
        default="worker.job",
        description="Python module run as the job process; another one only in tests.",
    )
    job_paths: Annotated[list[Path], NoDecode] = Field(
        default_factory=list,
        description=(
            "Further folders that jobs may read and import from, such as one with your own "
            "architectures; separated by colons."
        ),
    )
    sandbox: Sandbox = Field(
        default="required",
        description=(
            "`required`: jobs run under bubblewrap or not at all. `auto`: without sandbox, and "
            "with a warning, where bubblewrap does not work. `off`: never sandboxed."
        ),
    )

    lease_seconds: float = Field(
        default=30, gt=0, description="Silence after which a running job counts as lost."
    )
    max_attempts: int = Field(
        default=3, gt=0, description="How often a job may lose its worker before it fails."
    )
    poll_seconds: float = Field(
        default=0.25,
        gt=0,
        description="How often a running job is checked for cancellation and its limits.",
    )
    heartbeat_seconds: float = Field(
        default=5, gt=0, description="How often a worker says that it is alive."
    )
    redeliver_seconds: float = Field(
        default=30,
        gt=0,
        description="A queued job is published again when the queue has been empty this long.",
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log line written."
    )

    @field_validator("job_paths", mode="before")
    @classmethod
    def _split_paths(cls, given: object) -> object:
        if isinstance(given, str):
            return [path for path in given.split(":") if path]
        return given

    @property
    def database(self) -> str:
        """The address of the records with `home` filled in."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'intrafusion.db'}"

    @property
    def blobs(self) -> str:
        """The address of the blob store with `home` filled in."""
        return self.blob_url or (self.home.absolute() / "blobs").as_uri()

    @property
    def jobs_folder(self) -> Path:
        """Where workers lay out the folders of running jobs."""
        return self.home.absolute() / "jobs"

    @property
    def worker_alive_seconds(self) -> float:
        """Age of a heartbeat after which its worker counts as gone."""
        return 3 * self.heartbeat_seconds

    def environment(self) -> dict[str, str]:
        """The environment variables that give another process these same settings."""
        values = self.model_dump(mode="json", exclude_none=True)
        values["database_url"], values["blob_url"] = self.database, self.blobs
        values["home"] = str(self.home.absolute())
        values["job_paths"] = ":".join(str(path) for path in self.job_paths)
        return {f"INTRAFUSION_{name.upper()}": str(value) for name, value in values.items()}
