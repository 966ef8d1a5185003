"""The whole service as a user starts it: `intrafusion serve` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = Path(sys.executable).parent / "intrafusion"


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


class Server:
    """`intrafusion serve` on a free port, and an HTTP client for it."""

    def __init__(self, home: Path, **settings: object) -> None:
        self.home = home
        self._settings = {f"INTRAFUSION_{k.upper()}": str(v) for k, v in settings.items()}

    def start(self, host: str = "127.0.0.1") -> None:
        """Start and wait until it says that it is ready."""
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_URL")}
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "console.log").open("ab") as log:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--host", host, "--port", "0", "--home", self.home],
                env=environment | self._settings,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().decode()
        assert "ready" in self.said, (self.home / "console.log").read_text()[-3000:]
        address = json.loads((self.home / "server.json").read_text())
        self.http = httpx.Client(base_url=address["url"], timeout=90)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop and wait for the end."""
        self.http.close()
        self.process.send_signal(how)
        self.process.communicate(timeout=40)

    def processes(self, word: str) -> list[int]:
        """Descendants whose command line has `word`, and all their descendants."""
        found: list[int] = []
        for pid in descendants(self.process.pid):
            if word in command_line(pid):
                found += [pid, *descendants(pid)]
        return list(dict.fromkeys(found))

    def upload(self, what: str, content: bytes) -> str:
        """Upload and return the id."""
        answer = self.http.post(f"/v1/{what}", content=content)
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    def submit(self, **body: Any) -> str:
        """Submit and return the id."""
        answer = self.http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job: str, wait: float = 0) -> dict[str, Any]:
        """The job as it is."""
        answer = self.http.get(f"/v1/jobs/{job}", params={"wait": wait} if wait else {})
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def finish(self, job: str, seconds: float = 120) -> dict[str, Any]:
        """The job when it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.job(job, wait=30)
            if found["ended_at"] is not None:
                return found
            assert time.monotonic() < deadline, found

    def events(self, job: str) -> list[dict[str, Any]]:
        """All events of the job."""
        page = self.http.get(f"/v1/jobs/{job}/events", params={"limit": 200}).json()
        assert page["next"] is None
        events: list[dict[str, Any]] = page["data"]
        return events

    def statuses(self, job: str) -> list[str]:
        """The states the job went through."""
        return [e["data"]["status"] for e in self.events(job) if e["kind"] == "status"]


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    found: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except OSError:
        return found
    for child in children:
        found += [child, *descendants(child)]
    return found


def command_line(pid: int) -> str:
    """What the process was started with."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def install_architecture(folder: Path) -> None:
    """What `pip install --target folder` leaves of a package with an architecture `own/line`."""
    metadata = folder / "own_networks-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: own-networks\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[intrafusion.architectures]\nown/line = own_networks:line\n"
    )
    (folder / "own_networks.py").write_text(
        "from torch import nn\n"
        "def line(width=8):\n"
        "    return nn.Sequential(\n"
        "        nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 14 * 14, 10)\n"
        "    )\n"
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with the real engine for all tests, and an architecture of the users' own."""
    folder = tmp_path_factory.mktemp("server")
    install_architecture(folder / "architectures")
    server = Server(
        folder / "home",
        job_paths=folder / "architectures",
        job_threads=1,  # other tests run beside it
        max_upload_bytes=5_000_000,
        lease_seconds=4,
        sandbox="required",
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose jobs only act (tests.worker.play), for tests that kill parts of it."""
    server = Server(
        tmp_path_factory.mktemp("stage") / "home",
        job_module="tests.worker.play",
        sandbox="off",
        lease_seconds=1.5,
        poll_seconds=0.1,
        heartbeat_seconds=1,
        redeliver_seconds=2,
    )
    server.start()
    yield server
    server.stop()
