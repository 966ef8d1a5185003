from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from service.household import Household, Member


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def member(name: str, script: Sequence[str], folder: Path, stop_seconds: float = 5) -> Member:
    return Member(
        name=name,
        command=["sh", "-c", "; ".join(script)],
        environment=dict(os.environ),
        folder=folder,
        stop_seconds=stop_seconds,
    )


def test_a_member_that_dies_is_started_again_and_all_are_stopped(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    household = Household(
        [member("one", ["echo $$ >> pids", "echo hello", "exec sleep 600"], tmp_path)],
        logs=tmp_path / "logs",
    )
    household.start()
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 1)
    os.kill(int(pids.read_text().split()[0]), signal.SIGKILL)
    wait_for(lambda: len(pids.read_text().split()) == 2)
    household.stop()
    for pid in pids.read_text().split():
        assert not Path(f"/proc/{pid}").exists()
    assert (tmp_path / "logs" / "one.log").read_text() == "hello\nhello\n"


def test_a_member_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    stubborn = ["trap '' TERM", "echo $$ > pid", "while true; do sleep 0.1; done"]
    household = Household(
        [member("stubborn", stubborn, tmp_path, stop_seconds=0.5)], logs=tmp_path / "logs"
    )
    household.start()
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    began = time.monotonic()
    household.stop()
    assert 0.4 < time.monotonic() - began < 3
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_member_that_keeps_dying_is_started_ever_more_rarely(tmp_path: Path) -> None:
    household = Household([member("weak", ["echo x >> starts"], tmp_path)], logs=tmp_path / "logs")
    household.start()
    time.sleep(2.5)
    household.stop()
    assert 2 <= len((tmp_path / "starts").read_text().split()) <= 4
