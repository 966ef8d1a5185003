from __future__ import annotations

import os
import sys
import time

from service.settings import MiB
from worker.process import JobProcess

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def start(script: str) -> JobProcess:
    return JobProcess([sys.executable, "-c", script], environment=ENVIRONMENT, limits={})


def heard(process: JobProcess) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    while not process.ended:
        lines += process.listen(0.05)
    return [*lines, *process.last_words()]


def test_both_pipes_are_heard_line_by_line_to_the_end() -> None:
    script = (
        "import os; e = int(os.environ['INTRAFUSION_EVENTS']);"
        "os.write(e, b'one\\ntw'); os.write(e, b'o\\n\\nunended'); print('out')"
    )
    with start(script) as process:
        lines = heard(process)
    assert [line for source, line in lines if source == "events"] == ["one", "two", "unended"]
    assert [line for source, line in lines if source == "output"] == ["out"]
    assert process.exit_code == 0
    assert process.exit_signal is None


def test_a_line_without_end_is_cut() -> None:
    with start("print('x' * 5_000_000)") as process:
        lines = heard(process)
    assert all(len(line) <= 1024**2 + 65536 for _, line in lines)


def test_memory_counts_descendants() -> None:
    child = "import time; held = bytearray(80_000_000); print('ready', flush=True); time.sleep(60)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with start(script) as process:
        lines: list[tuple[str, str]] = []
        deadline = time.monotonic() + 20
        while ("output", "ready") not in lines:
            assert time.monotonic() < deadline
            lines += process.listen(0.05)
        assert process.memory() > 80 * MiB
    assert process.ended
