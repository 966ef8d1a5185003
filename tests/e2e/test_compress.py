"""Issue 2's first slice over REST: a network goes in, a smaller one that runs comes out."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from intrafusion.api import JobRequest
from intrafusion.client import Client
from intrafusion.report import CompressionReport
from intrafusion.spec import CompressionSpec
from tests.e2e import files
from tests.e2e.conftest import Server

RUN_ALONE = """
import sys, torch
network = torch.jit.load(sys.argv[1])
for batch in (1, 7, 64):
    outputs = network(torch.rand(batch, 3, 16, 16))
    assert outputs.shape == (batch, 10), outputs.shape
print(sum(p.numel() for p in network.parameters()), 'intrafusion' in sys.modules)
"""


@pytest.fixture(scope="module")
def model(server: Server) -> str:
    return server.upload("models", files.torchscript())


def test_a_network_goes_in_and_a_smaller_one_comes_out(
    server: Server, model: str, tmp_path: Path
) -> None:
    calibration = server.upload("datasets", files.npz(inputs=files.inputs()))
    evaluation = server.upload(
        "datasets", files.npz(inputs=files.inputs(40), labels=files.labels(40))
    )
    job = server.submit(
        model=model,
        spec={"sparsity": 0.5},
        calibration=calibration,
        evaluation=evaluation,
        metadata={"commit": "abc"},
    )
    done = server.finish(job)
    assert done["status"] == "succeeded", done["error"]
    assert done["metadata"] == {"commit": "abc"}
    assert server.statuses(job) == ["queued", "running", "succeeded"]
    steps = {e["data"]["step"] for e in server.events(job) if e["kind"] == "progress"}
    assert {"load", "fuse", "evaluate"} <= steps

    report = CompressionReport.model_validate(server.http.get(f"/v1/jobs/{job}/report").json())
    assert report.after.parameters < 0.6 * report.before.parameters
    assert report.after.accuracy is not None
    assert report.compensation.mode == "calibration"
    assert report.fidelity is not None
    assert report.fidelity.samples == 40

    listed = server.http.get(f"/v1/jobs/{job}/artifacts").json()["data"]
    assert [a["name"] for a in listed] == [
        "model.pt",
        "model.safetensors",
        "report.html",
        "report.json",
    ]
    for artifact in listed:
        content = server.http.get(f"/v1/jobs/{job}/artifacts/{artifact['name']}").content
        assert len(content) == artifact["bytes"]
        assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
        (tmp_path / artifact["name"]).write_bytes(content)
    told = subprocess.run(
        [sys.executable, "-c", RUN_ALONE, tmp_path / "model.pt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == [str(report.after.parameters), "False"]

    looked_at = server.http.get(f"/v1/models/{model}").json()["inspection"]
    assert [g["name"] for g in looked_at["groups"]] == [g.name for g in report.groups]
    assert looked_at["parameters"] == report.before.parameters
    assert looked_at["frozen"]


def test_without_data_the_input_shape_is_enough(server: Server, model: str) -> None:
    job = server.submit(
        model=model,
        input_shapes=[files.SHAPE],
        outputs=["safetensors", "exported", "onnx"],
        spec={"sparsity": 0.25, "joint_steps": 10},
    )
    done = server.finish(job)
    assert done["status"] == "succeeded", done["error"]
    listed = server.http.get(f"/v1/jobs/{job}/artifacts").json()["data"]
    assert [a["name"] for a in listed] == [
        "model.onnx",
        "model.pt2",
        "model.safetensors",
        "report.html",
        "report.json",
    ]
    report = CompressionReport.model_validate(server.http.get(f"/v1/jobs/{job}/report").json())
    assert report.compensation.mode == "inversion"
    assert report.spec.sparsity == 0.25


def test_a_dry_run_says_what_a_compression_then_does(server: Server, model: str) -> None:
    calibration = server.upload("datasets", files.npz(inputs=files.inputs()))
    spec = CompressionSpec(macs=0.5, joint_steps=10)
    request = JobRequest(model=model, calibration=calibration, spec=spec)
    with Client(str(server.http.base_url)) as client:
        dry = client.wait(client.submit(request.model_copy(update={"dry_run": True})).id)
        assert dry.status == "succeeded", dry.error
        assert [artifact.name for artifact in client.artifacts(dry.id)] == ["plan.json"]
        plan = client.plan(dry.id)
        done = client.wait(client.submit(request).id)
        report = client.report(done.id)
    assert plan.expected_error is not None
    assert dry.result is not None
    assert done.result is not None
    for told in (plan.after, dry.result.after, done.result.after):
        assert (told.parameters, told.macs) == (report.after.parameters, report.after.macs)
    assert [group.kept for group in plan.groups] == [group.kept for group in report.groups]


@pytest.mark.parametrize(("most", "passed"), [(10_000_000, True), (100, False)])
def test_one_form_is_enough_and_says_whether_its_gates_hold(
    server: Server, most: int, passed: bool
) -> None:
    answer = server.http.post(
        "/v1/compress",
        data={
            "spec": '{"compensation": "none"}',
            "outputs": '["torchscript"]',
            "gates": json.dumps({"max_accuracy_drop": 1, "max_bytes": most}),
        },
        files={
            "file": ("net.pt", files.torchscript()),
            "evaluation": ("t.npz", files.npz(inputs=files.inputs(40), labels=files.labels(40))),
        },
    )
    assert answer.status_code == 202, answer.text
    done = server.finish(answer.json()["id"])
    assert done["status"] == "succeeded", done["error"]
    assert done["gates"]["passed"] is passed
    drop, size = done["gates"]["checks"]
    before, after = done["result"]["before"], done["result"]["after"]
    assert drop["actual"] == pytest.approx(before["accuracy"] - after["accuracy"])
    assert (size["actual"], size["passed"]) == (after["file_bytes"], passed)


@pytest.mark.slow
def test_a_state_dict_and_its_architecture_are_a_network(server: Server) -> None:
    weights = {
        "0.weight": torch.randn(6, 3, 3, 3),
        "0.bias": torch.randn(6),
        "3.weight": torch.randn(10, 6 * 14 * 14) / 30,
        "3.bias": torch.randn(10),
    }
    model = server.upload("models", bytes(save(weights)))
    job = server.submit(
        model=model,
        architecture={"name": "own/line", "arguments": {"width": 6}},
        input_shapes=[files.SHAPE],
        spec={"compensation": "none"},
    )
    done = server.finish(job)
    assert done["status"] == "succeeded", done["error"]
    content = server.http.get(f"/v1/jobs/{job}/artifacts/model.safetensors").content
    small = load(content)
    assert set(small) == set(weights)
    assert small["0.weight"].shape == (3, 3, 3, 3)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_job_costs_an_attempt(
    server: Server, model: str
) -> None:
    job = server.submit(model=model, input_shapes=[files.SHAPE], spec={"joint_steps": 10})
    deadline = time.monotonic() + 60
    while not any(event["kind"] == "progress" for event in server.events(job)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for pid in server.processes("-m worker"):
        os.kill(pid, signal.SIGKILL)
    done = server.finish(job)
    assert (done["status"], done["attempt"]) == ("succeeded", 2)
    assert server.statuses(job) == ["queued", "running", "queued", "running", "succeeded"]
    assert len(server.http.get(f"/v1/jobs/{job}/artifacts").json()["data"]) == 4
