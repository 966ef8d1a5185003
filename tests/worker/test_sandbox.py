from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from intrafusion.api import Job
from service.settings import Settings
from service.store.database import Database
from tests.worker.conftest import events_of
from worker import sandbox
from worker.sandbox import SandboxMissingError, job_limits, sandbox_works


def snooped(
    run: Callable[..., Job], database: Database, home: str, mode: str
) -> dict[str, list[str]]:
    job = run("snoop", home, sandbox=mode)
    assert job.status == "succeeded", job.error
    (told,) = [
        event.data["text"]
        for event in events_of(database, job.id)
        if event.kind == "log" and event.data["text"].startswith('{"could"')
    ]
    found: dict[str, list[str]] = json.loads(told)
    return found


def test_a_sandboxed_job_can_do_its_work_and_nothing_else(
    run: Callable[..., Job],
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    found = snooped(run, database, str(settings.home), "required")
    assert found["could"] == ["read the inputs", "write temporary files"]
    assert not {"SECRET_TOKEN", "REDIS_URL", "INTRAFUSION_DATABASE_URL"} & {*found["environment"]}


def test_without_sandbox_the_environment_is_still_cleared(
    run: Callable[..., Job],
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    found = snooped(run, database, str(settings.home), "off")
    assert "read the service's state" in found["could"]  # what the sandbox is there for
    assert "SECRET_TOKEN" not in found["environment"]


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without bubblewrap."""
    sandbox._why_not.cache_clear()
    monkeypatch.setattr(sandbox, "_binary", lambda: None)
    yield
    sandbox._why_not.cache_clear()


@pytest.mark.usefixtures("no_bubblewrap")
def test_a_sandbox_that_is_required_and_missing_is_an_error(settings: Settings) -> None:
    with pytest.raises(SandboxMissingError, match="there is no bwrap"):
        sandbox_works(settings.model_copy(update={"sandbox": "required"}))


@pytest.mark.usefixtures("no_bubblewrap")
def test_auto_goes_without_and_warns(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    from service.logs import configure_logging

    configure_logging("WARNING")
    assert sandbox_works(settings.model_copy(update={"sandbox": "auto"})) is False
    assert "without a sandbox" in capsys.readouterr().err


def test_addresses_are_not_limited_beside_a_gpu(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_gpu_devices", lambda: ["/dev/nvidia0"])
    assert "AS" not in job_limits(settings)
    monkeypatch.setattr(sandbox, "_gpu_devices", list)
    assert job_limits(settings)["AS"] > 0
