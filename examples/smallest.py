"""The smallest network that loses no more than so much accuracy, from a server.

    intrafusion serve &
    python -m examples.smallest net.pt samples.npz labelled.npz --drop 0.01 --output small.pt

A step for a pipeline: it needs no torch, finds its own job when it is run again for the same
files, and exits 3 where the gate is missed. A search makes and measures about seven networks,
which takes minutes to half an hour on a processor. INTRAFUSION_SERVER says where the server is
(http://127.0.0.1:8000 unless it does), INTRAFUSION_API_KEY the key where it wants one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from intrafusion.api import Gates, Job, JobRequest
from intrafusion.client import Client, error_of
from intrafusion.spec import CompressionSpec

GATE_MISSED = 3


def smallest(client: Client, model: Path, samples: Path, labelled: Path, drop: float) -> Job:
    """The ended job whose network loses at most `drop` of accuracy (0.01 is one point).

    Args:
        client: of a server that has a worker.
        model: TorchScript or `.pt2`.
        samples: unlabelled samples, on which layers are refitted.
        labelled: samples with labels, on which accuracy is measured.
        drop: share of the labelled samples.
    """
    request = JobRequest(
        model=client.upload_model(model).id,
        calibration=client.upload_dataset(samples).id,
        evaluation=client.upload_dataset(labelled).id,
        spec=CompressionSpec(max_accuracy_drop=drop),
        gates=Gates(max_accuracy_drop=drop),
    )
    key = f"smallest-{request.model}-{request.calibration}-{request.evaluation}-{drop}"
    job = client.wait(client.submit(request, idempotency_key=key).id)
    if job.error is not None:
        raise error_of(job.error)
    return job


def main(arguments: Sequence[str]) -> int:
    """Compress, keep the files, say what came out; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("labelled", type=Path)
    parser.add_argument("--drop", type=float, default=0.01)
    parser.add_argument("--output", type=Path, default=Path("small.pt"))
    chosen = parser.parse_args(arguments)
    server = os.environ.get("INTRAFUSION_SERVER", "http://127.0.0.1:8000")
    with Client(server, api_key=os.environ.get("INTRAFUSION_API_KEY")) as client:
        job = smallest(client, chosen.model, chosen.samples, chosen.labelled, chosen.drop)
        client.download(job.id, "model.pt", chosen.output)
        client.download(job.id, "report.html", chosen.output.with_suffix(".report.html"))
    assert job.result is not None
    assert job.gates is not None
    before, after = job.result.before, job.result.after
    sys.stdout.write(
        f"accuracy {before.accuracy:.2%} → {after.accuracy:.2%}, "
        f"parameters {before.parameters:,} → {after.parameters:,}, "
        f"multiply-accumulates {before.macs:,} → {after.macs:,}\n"
    )
    return 0 if job.gates.passed else GATE_MISSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
