from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import Settings


def test_addresses_are_read_under_their_plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://db/x")
    monkeypatch.setenv("REDIS_URL", "rediss://queue")
    monkeypatch.setenv("BLOB_URL", "s3://bucket")
    settings = Settings()
    assert settings.database == "postgresql+psycopg://db/x"
    assert settings.redis_url == "rediss://queue"
    assert settings.blobs == "s3://bucket"


def test_state_lies_in_home_unless_an_address_is_set(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.database == f"sqlite:///{tmp_path}/intrafusion.db"
    assert settings.blobs == f"file://{tmp_path}/blobs"


def test_another_process_gets_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path / "h",
        redis_url="unix:///r.sock",
        job_memory_bytes=12345,
        sandbox="auto",
        job_paths=[Path("/opt/a"), Path("/opt/b")],
        lease_seconds=2.5,
    )
    script = "from service.settings import Settings; print(Settings().model_dump_json())"
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=dict(os.environ) | settings.environment(),
        capture_output=True,
        check=True,
    ).stdout
    other = Settings.model_validate_json(told)
    expected = {"database_url": settings.database, "blob_url": settings.blobs}
    assert other == settings.model_copy(update=expected)


def test_every_setting_is_documented() -> None:
    assert [n for n, field in Settings.model_fields.items() if not field.description] == []
