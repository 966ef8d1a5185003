from __future__ import annotations

import subprocess
import sys
import time

from tests.worker.conftest import alive
from worker.tether import tethered


def test_the_command_runs_under_its_limits() -> None:
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    command = tethered([sys.executable, "-c", script], limits={"NOFILE": 123})
    assert subprocess.run(command, capture_output=True, check=True).stdout.strip() == b"123"


def test_the_command_dies_with_the_process_that_started_it() -> None:
    script = (
        "import os, subprocess, sys; from worker.tether import tethered;"
        "child = subprocess.Popen(tethered(['sleep', '600']), start_new_session=True);"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    assert alive(child)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_whose_parent_is_gone_does_not_start() -> None:
    wrapper = tethered(["echo", "started"])
    wrapper[4] = "1"  # as though another process had been the parent
    done = subprocess.run(wrapper, capture_output=True, check=False)
    assert done.returncode == 125
    assert done.stdout == b""
