"""Processes that live with this one: started, started again when they die, stopped at its end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from worker.tether import tethered

log = structlog.get_logger()

_LOOK_SECONDS = 0.2
_LONGEST_PAUSE = 30.0
_SETTLED_SECONDS = 60.0


@dataclass(frozen=True)
class Member:
    """One process: how it is started, and how long it may take to stop."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    stop_seconds: float


@dataclass
class _Life:
    """A member's present process, and when the next may start if that one dies."""

    member: Member
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    not_before: float = 0.0


class Household:
    """Keeps its members alive from `start` to `stop`, in the order they are given.

    Members run in sessions of their own, so that a Ctrl-C in the terminal reaches this
    process alone, and are tied to the thread here that starts them: the kernel kills them
    when this process is killed. What they print goes to `logs`.
    """

    def __init__(self, members: Sequence[Member], *, logs: Path) -> None:
        self._lives = [_Life(member) for member in members]
        self._logs = logs
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="household")

    def start(self) -> None:
        """Start the members and watch over them."""
        self._logs.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the members to stop, last one first, and kill those that take too long."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for life in self._lives:
                self._keep_alive(life)
            self._stopping.wait(_LOOK_SECONDS)
        for life in reversed(self._lives):
            _end(life)

    def _keep_alive(self, life: _Life) -> None:
        moment = time.monotonic()
        if life.process is not None:
            code = life.process.poll()
            if code is None:
                return
            lived = moment - life.started
            life.pause = 0.5 if lived > _SETTLED_SECONDS else min(_LONGEST_PAUSE, 2 * life.pause)
            life.not_before = moment + life.pause
            life.process = None
            log.warning("a process died", name=life.member.name, code=code, again_in=life.pause)
        if moment >= life.not_before:
            life.process = self._start(life.member)
            life.started = moment
            life.pause = max(life.pause, 0.25)

    def _start(self, member: Member) -> subprocess.Popen[bytes]:
        with (self._logs / f"{member.name}.log").open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - the command is ours
                tethered(member.command),
                cwd=member.folder,
                env=dict(member.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def _end(life: _Life) -> None:
    process = life.process
    if process is None or process.poll() is not None:
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(life.member.stop_seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
