"""The whole service in one go: start it, compress a network over REST, compare, stop it.

    python -m examples.demo [--sparsity 0.5] [--output demo]

Starts an embedded server on a free port with a temporary home, sends it the trained VGG with
256 unlabelled images to refit on and 2,000 labelled ones to measure on, follows the job and
downloads the result. This process needs no torch: all it does goes through the REST client.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from intrafusion.api import Event, JobRequest
from intrafusion.cli.progress import shown_progress
from intrafusion.cli.tables import comparison
from intrafusion.client import Client, error_of
from intrafusion.errors import IntraFusionError
from intrafusion.report import Progress
from intrafusion.spec import CompressionSpec

HERE = Path(__file__).resolve().parent
START_SECONDS = 60
STOP_SECONDS = 30

console = Console(highlight=False, soft_wrap=True)


@contextmanager
def running_server(log: Path) -> Iterator[str]:
    """An embedded server with a temporary home, for as long as the context lasts; its URL."""
    with tempfile.TemporaryDirectory(prefix="intrafusion-demo-") as home, log.open("w") as output:
        command = [sys.executable, "-m", "intrafusion.cli", "serve", "--port", "0", "--home", home]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield _address(server, Path(home) / "server.json", log)
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _address(server: subprocess.Popen[bytes], announcement: Path, log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if announcement.exists():
            url: str = json.loads(announcement.read_text())["url"]
            return url
        time.sleep(0.1)
    sys.exit(f"The server did not start; {log} says why.")


def compress_over_rest(client: Client, sparsity: float, into: Path) -> None:
    """Send the example network through `client` and write what comes back to `into`."""
    model = client.upload_model(HERE / "fashion_vgg.pt")
    calibration = client.upload_dataset(HERE / "fashion_calibration.npz")
    evaluation = client.upload_dataset(HERE / "fashion_test.npz")
    console.print(f"uploaded {model.id}, {calibration.id}, {evaluation.id}")
    job = client.submit(
        JobRequest(
            model=model.id,
            calibration=calibration.id,
            evaluation=evaluation.id,
            spec=CompressionSpec(sparsity=sparsity),
        )
    )
    console.print(f"submitted {job.id}")
    with shown_progress(quiet=False) as listener:

        def follow(event: Event) -> None:
            if event.kind == "progress":
                listener(Progress(**event.data))

        job = client.wait(job.id, on_event=follow)
    if job.error is not None:
        raise error_of(job.error)
    for artifact in client.artifacts(job.id):
        path = client.download(job.id, artifact.name, into / artifact.name)
        console.print(f"downloaded {path.name}, {artifact.bytes:,} bytes, sha256 as stated")
    console.print()
    console.print(comparison(client.report(job.id)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of channels to remove")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder of the results")
    wanted = parser.parse_args()
    wanted.output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with running_server(wanted.output / "server.log") as url, Client(url) as client:
        console.print(f"server ready at {url}")
        try:
            compress_over_rest(client, wanted.sparsity, wanted.output)
        except IntraFusionError as error:
            sys.exit(f"{error.code.code}: {error}")
    console.print(f"The server is stopped; the results lie in {wanted.output}/.")
    console.print(f"{time.monotonic() - began:.0f} seconds", style="dim")


if __name__ == "__main__":
    main()
