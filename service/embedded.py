"""The whole service in one command and one folder: what `intrafusion serve` runs.

The API runs in this process. Beside it run one worker and, unless `REDIS_URL` names a server,
one Redis-protocol server on a socket. Both are started again when they die and die when this
process does. Everything that is kept lies in the home folder, so that a restart goes on where
it stopped.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn

import intrafusion
from intrafusion.errors import ErrorCode, IntraFusionError
from service.household import Household, Member
from service.main import create_app
from service.redis_server import own_redis
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database, database_exists
from service.store.keys import any_api_key
from service.store.workers import count_alive

ADDRESS_FILE = "server.json"

_READY_SECONDS = 60.0


def serve(
    host: str = "127.0.0.1", port: int = 8000, home: str | Path = ".intrafusion", **given: Any
) -> None:
    """Run until SIGINT or SIGTERM. Port 0 takes a free one.

    When all is ready, one line on standard output and `server.json` in `home` tell the URL.
    `given` are further settings, ahead of those in the environment.

    Raises `FORBIDDEN` for an address others can reach where no API key was made,
    `CONFLICT` where another server uses `home` or the port, and `UNAVAILABLE` where no
    Redis-protocol server can be had.
    """
    folder = Path(home).absolute()
    defaults = {"sandbox": _default("SANDBOX", "auto"), "keys": _default("KEYS", "optional")}
    settings = Settings(**(defaults | given | {"home": folder}))
    if not _is_loopback(host):
        _refuse_without_keys(host, settings)
        settings = settings.model_copy(update={"keys": "required"})
    folder.mkdir(parents=True, exist_ok=True)
    with (
        _sigterm_like_ctrl_c(),
        _alone_in(folder),
        _listening(host, port) as listener,
        ExitStack() as cleaning,
    ):
        members = []
        if "redis_url" not in settings.model_fields_set:
            redis = own_redis(folder)
            cleaning.callback(redis.clean)
            members.append(redis.member)
            settings = settings.model_copy(update={"redis_url": redis.url})
        members.append(_worker(settings, folder))
        database = Database(settings.database)
        database.migrate()
        Blobs(settings.blobs, spool=folder / "incoming").clean()
        url = _url(listener)
        household = Household(members, logs=folder / "logs")
        household.start()
        try:
            _run_api(settings, listener, _Announcement(folder, url, database, settings))
        finally:
            household.stop()
            database.close()
            (folder / ADDRESS_FILE).unlink(missing_ok=True)


def _worker(settings: Settings, folder: Path) -> Member:
    environment = dict(os.environ) | settings.environment()
    return Member(
        name="worker",
        command=[sys.executable, "-P", "-m", "worker"],
        environment=environment,
        folder=folder,
        stop_seconds=15,
    )


def _run_api(settings: Settings, listener: socket.socket, announcement: _Announcement) -> None:
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    server = _Server(config, announcement)
    server.run(sockets=[listener])
    if not server.started:
        raise IntraFusionError(
            ErrorCode.INTERNAL, "The API did not start.", "The log above says why."
        )


class _Announcement:
    """Tells where the server is, once it can take jobs and work on them."""

    def __init__(self, folder: Path, url: str, database: Database, settings: Settings) -> None:
        self._folder = folder
        self._url = url
        self._database = database
        self._within = settings.worker_alive_seconds

    async def make(self) -> None:
        """Wait for a worker's first sign of life, then announce."""
        deadline = time.monotonic() + _READY_SECONDS
        while not await asyncio.to_thread(self._worker_alive):
            if time.monotonic() > deadline:
                sys.stderr.write(f"No worker has started; see {self._folder / 'logs'}.\n")
                return
            await asyncio.sleep(0.1)
        address = {"url": self._url, "pid": os.getpid(), "version": intrafusion.__version__}
        draft = self._folder / f".{ADDRESS_FILE}"
        draft.write_text(json.dumps(address))
        draft.replace(self._folder / ADDRESS_FILE)
        sys.stdout.write(f"Intra-Fusion is ready at {self._url} (state in {self._folder})\n")
        sys.stdout.flush()

    def _worker_alive(self) -> bool:
        with self._database.read() as session:
            return count_alive(session, within_seconds=self._within) > 0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announcement: _Announcement) -> None:
        super().__init__(config)
        self._announcement = announcement
        self._announcing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._announcing = asyncio.create_task(self._announcement.make())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._announcing is not None:
            self._announcing.cancel()
        await super().shutdown(sockets=sockets)


def _is_loopback(host: str) -> bool:
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except socket.gaierror as error:
        raise IntraFusionError(
            ErrorCode.BAD_REQUEST, f"{host!r} is no address: {error.strerror}.", "Use 127.0.0.1."
        ) from error
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)


def _refuse_without_keys(host: str, settings: Settings) -> None:
    if database_exists(settings.database):
        database = Database(settings.database)
        database.migrate()
        with database.read() as session:
            found = any_api_key(session)
        database.close()
        if found:
            return
    raise IntraFusionError(
        ErrorCode.FORBIDDEN,
        f"{host} can be reached from other machines, and this server asks for no keys.",
        f"Make one first: intrafusion keys create NAME --home {settings.home}. "
        "Or listen on 127.0.0.1.",
        host=host,
    )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise IntraFusionError(
                ErrorCode.CONFLICT,
                f"Port {port} on {host} cannot be used: {error.strerror}.",
                "Stop what uses it, or choose another; port 0 takes a free one.",
                port=port,
            ) from error
        listener.listen(2048)
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM unwind the stack as SIGINT does, so that everything is stopped in order.

    uvicorn, when it has stopped, raises the signal that stopped it once more.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise IntraFusionError(
                ErrorCode.CONFLICT,
                f"Another server keeps its state in {folder}.",
                "Stop it, or give this one a folder of its own with --home.",
            ) from error
        yield


def _default(name: str, value: str) -> str:
    """What the environment says, or else `value`, the default of a server of one's own."""
    return os.environ.get(f"INTRAFUSION_{name}", value)
