"""A worker's sign of life, written by its parent process."""

from __future__ import annotations

import os
import secrets
import socket
import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.settings import Settings
from service.store.database import Database
from service.store.workers import beat, retire_worker
from worker.reaper import reap

log = structlog.get_logger()

_NAME = "INTRAFUSION_WORKER_NAME"


def worker_name() -> str:
    """The name of this worker, the same in its parent and in the children it starts.

    No two workers that ever ran share one: a claim made under it cannot be mistaken.
    """
    if _NAME not in os.environ:
        os.environ[_NAME] = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
    return os.environ[_NAME]


class Presence:
    """A thread that says every `heartbeat_seconds` that the worker is alive.

    It also looks after jobs of lost workers, beginning at once.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._draining = False
        self._stopped = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def drain(self) -> None:
        """Let the running job know that the worker is to stop. Safe in a signal handler."""
        self._draining = True
        self._wake.set()

    def stop(self) -> None:
        """Say goodbye and end the thread."""
        self._stopped = True
        self._wake.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        database = Database(self._settings.database)
        while not self._stopped:
            try:
                with database.write() as session:
                    beat(session, name=self._name, draining=self._draining)
                reap(database, max_attempts=self._settings.max_attempts)
            except SQLAlchemyError as error:
                log.warning("the heartbeat could not be written", reason=str(error))
            self._wake.wait(self._settings.heartbeat_seconds)
            self._wake.clear()
        with database.write() as session:
            retire_worker(session, self._name)
        database.close()
