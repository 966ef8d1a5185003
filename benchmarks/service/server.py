"""The service as a process of its own, and jobs that lie in its records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.ids import new_id
from service.store.database import Database, now
from service.store.records import DEFAULT_TENANT, JobRecord


@contextmanager
def server(home: Path, **settings: object) -> Iterator[tuple[str, int]]:
    """`intrafusion serve` in `home`; its address and process id."""
    environment = os.environ | {f"INTRAFUSION_{k.upper()}": str(v) for k, v in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "intrafusion.cli", "serve", "--port", "0", "--home", home],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield json.loads((home / "server.json").read_text())["url"], process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def resident(pid: int, field: str = "VmRSS") -> int:
    """Bytes of memory a process holds, or with VmHWM held at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def stored_jobs(home: Path, count: int) -> str:
    """Write so many jobs as a year of pipelines leaves; returns one id."""
    home.mkdir()
    database = Database(f"sqlite:///{home / 'intrafusion.db'}")
    database.migrate()
    request = {"spec": {"method": "prune"}, "outputs": [], "metadata": {}}
    with database.write() as session:
        for _ in range(count):
            session.add(
                JobRecord(
                    id=(job := new_id("job")),
                    tenant=DEFAULT_TENANT,
                    status="succeeded",
                    model_id="model_1",
                    method="prune",
                    request=request,
                    queued_at=now(),
                    ended_at=now(),
                )
            )
    database.close()
    return job
