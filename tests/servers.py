"""Servers of other projects that tests run against, started on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import redis

from service.household import Household
from service.redis_server import own_redis


def _find(name: str) -> str:
    """A PostgreSQL program, which Debian keeps off the path."""
    found = shutil.which(name)
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    assert found or installed, f"install postgresql ({name} is missing); .ci/run does"
    return str(installed[-1]) if installed else str(found)


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL server on a socket of its own; gives the folder of the socket.

    PostgreSQL refuses to run as root; as root it is run as the user `postgres`.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data = folder / "data"
    subprocess.run(
        [
            *as_user,
            _find("initdb"),
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    quick = [part for option in ("fsync", "full_page_writes") for part in ("-c", f"{option}=off")]
    server = subprocess.Popen(
        [*as_user, _find("postgres"), "-D", data, "-k", folder, "-h", "", *quick],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        _wait_for(lambda: bool(psycopg.connect(f"host={folder} user=postgres").close()) or True)
        yield str(folder)
    finally:
        postmaster = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)  # at once: what it would still write is thrown away
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def new_database(folder: str, name: str) -> str:
    """A new database on that server; gives its SQLAlchemy address."""
    with psycopg.connect(f"host={folder} user=postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return f"postgresql+psycopg://postgres@/{name}?host={folder}"


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """A server that speaks S3, with a bucket `bucket`; gives the environment that leads to it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(lambda: httpx.get(f"{url}/moto-api/").is_success)
        httpx.put(f"{url}/bucket").raise_for_status()
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
    finally:
        server.terminate()
        server.wait(10)


def start_redis(home: Path) -> Household:
    """A running Redis-protocol server, at the address that `own_redis(home)` has."""
    server = own_redis(home)
    household = Household([server.member], logs=home / "logs")
    household.start()
    with redis.Redis.from_url(server.url) as client:
        _wait_for(lambda: bool(client.ping()))
    return household


def _wait_for(answers: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if answers():
                return
        except (OSError, httpx.HTTPError, psycopg.Error, redis.RedisError):
            assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.05)
