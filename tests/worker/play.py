"""A job process that acts out what the order's metadata says, to see how it is supervised."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from intrafusion.report import (
    CompensationReport,
    CompressionReport,
    Measurement,
)
from intrafusion.spec import CompressionSpec
from worker.messages import ORDER, Order

REPORT = CompressionReport(
    intrafusion_version="0",
    torch_version="0",
    source="play",
    spec=CompressionSpec(),
    decided=CompressionSpec(),
    before=Measurement(parameters=2, macs=2),
    after=Measurement(parameters=1, macs=1),
    fidelity=None,
    groups=[],
    compensation=CompensationReport(mode="none"),
    seconds={},
)

FOLDER = Path(sys.argv[1])
OUT = FOLDER / "out"


def say(**message: object) -> None:
    os.write(int(os.environ["INTRAFUSION_EVENTS"]), json.dumps(message).encode() + b"\n")


def write_results() -> None:
    (OUT / "model.pt").write_bytes(b"small")
    (OUT / "model.safetensors").write_bytes(b"also small")
    (OUT / "report.json").write_text(REPORT.model_dump_json())


def succeed(_: str) -> None:
    for done in range(5):
        say(kind="progress", step="fuse", done=done, total=4)
    say(kind="metric", name="answer", value=42)
    print("a printed line")
    write_results()
    say(kind="done")


def look_and_fail(found: str) -> None:
    """Write down what was found in the model, if asked to, and fail."""
    if order.inspect:
        (OUT / "inspection.json").write_text(found)
    fail("nothing_to_prune")


def sleep(seconds: str) -> None:
    say(kind="progress", step="plan", done=0, total=1)
    time.sleep(float(seconds))
    succeed("")


def fail(code: str) -> None:
    say(kind="error", code=code, message="No good.", hint="Do better.", details={"at": 7})
    sys.exit(1)


def crash(_: str) -> None:
    ctypes.string_at(0)


def hog(_: str) -> None:
    held = []
    while True:
        held.append(os.urandom(10_000_000))
        time.sleep(0.01)


def end_early(_: str) -> None:
    write_results()


def forget(name: str) -> None:
    write_results()
    (OUT / name).unlink()
    say(kind="done")


def link(target: str) -> None:
    write_results()
    (OUT / "model.pt").unlink()
    (OUT / "model.pt").symlink_to(target)
    say(kind="done")


def lie(_: str) -> None:
    write_results()
    (OUT / "report.json").write_text('{"accuracy": "excellent"}')
    say(kind="done")


def measure_nothing(_: str) -> None:
    write_results()
    nothing = REPORT.after.model_copy(update={"accuracy": float("nan")})
    report = REPORT.model_copy(update={"before": nothing, "after": nothing}).model_dump()
    (OUT / "report.json").write_text(json.dumps(report))
    say(kind="done")


def babble(lines: str) -> None:
    for number in range(int(lines)):
        print("line", number)
    say(kind="nonsense")
    os.write(int(os.environ["INTRAFUSION_EVENTS"]), b"\xff{no json\n")
    succeed("")


def breed(seconds: str) -> None:
    """Start a child in a session of its own, and stay."""
    subprocess.Popen(["sleep", seconds], start_new_session=True)
    say(kind="progress", step="plan", done=0, total=1)
    time.sleep(600)


def snoop(home: str) -> None:
    """Try everything a sandboxed job must not be able to do; print what it could."""
    could = []

    def attempt(what: str, action: object) -> None:
        try:
            action()  # type: ignore[operator]
        except OSError:
            return
        could.append(what)

    attempt("read the service's state", lambda: os.listdir(home))
    attempt("read the inputs", lambda: (FOLDER / "inputs" / ORDER).read_bytes())
    attempt("change the inputs", lambda: (FOLDER / "inputs" / ORDER).write_bytes(b""))
    attempt("add an input", lambda: (FOLDER / "inputs" / "new").write_bytes(b""))
    attempt("write to the system", lambda: Path("/usr/new").write_bytes(b""))
    attempt("write to the root", lambda: Path("/new").write_bytes(b""))
    attempt("write beside Python", lambda: (Path(sys.prefix) / "new").write_bytes(b""))
    attempt("write temporary files", lambda: Path("/tmp/new").write_bytes(b""))
    attempt("read passwords", lambda: Path("/etc/passwd").read_bytes())
    attempt("see other processes", _look_around)
    attempt("reach the network", lambda: socket.create_connection(("1.1.1.1", 53), timeout=1))
    attempt("become root", lambda: os.setuid(0))
    say(kind="log", text=json.dumps({"could": could, "environment": sorted(os.environ)}))
    succeed("")


def _look_around() -> None:
    """Raise OSError where no process but the sandbox's own can be seen."""
    if all(int(entry) < 100 for entry in os.listdir("/proc") if entry.isdigit()):
        raise ProcessLookupError


if __name__ == "__main__":
    order = Order.model_validate_json((FOLDER / "inputs" / ORDER).read_bytes())
    act = globals()[order.request.metadata["act"]]
    act(order.request.metadata.get("with", ""))
