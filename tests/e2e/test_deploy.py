"""What deploys the service, as far as it can be checked without Docker or a CI host."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.e2e import files
from tests.e2e.conftest import COMMAND, Server

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "ci" / "compress.sh"


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_compose_starts_what_is_there_in_the_right_order() -> None:
    compose = read("docker-compose.yml")
    services = compose["services"]
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "Dockerfile").read_text(), re.M))
    for name, service in services.items():
        assert ("image" in service) != ("build" in service), name
        if "build" in service:
            assert service["build"]["target"] in stages
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other]
        for volume in service.get("volumes", []):
            named = volume.partition(":")[0]
            assert named.startswith("/") or named in compose["volumes"]
    gpu = read("docker-compose.gpu.yml")["services"]["worker"]
    assert gpu["build"]["target"] in stages
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_compose_sets_variables_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = read("docker-compose.yml")["services"]["worker"]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, re.sub(r"\$\{[^}]*\}", "secret", value))
    settings = Settings()
    assert settings.database == "postgresql+psycopg://intrafusion:secret@postgres/intrafusion"
    assert settings.redis_url == "redis://:secret@redis:6379/0"
    assert settings.blobs == "s3://intrafusion"
    assert settings.keys == "required"
    ours = {name for name in environment if name.startswith("INTRAFUSION_")}
    assert {name.removeprefix("INTRAFUSION_").lower() for name in ours} <= set(
        Settings.model_fields
    )


def test_the_image_gets_every_file_that_the_packages_need() -> None:
    allowed = (ROOT / ".dockerignore").read_text().split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in allowed, name


def test_the_passwords_that_compose_asks_for_are_named_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    named = set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.M))
    assert asked == named


def test_action_and_snippets_call_the_script_with_what_it_reads() -> None:
    reads = set(re.findall(r"\$\{?([A-Z_]+)", SCRIPT.read_text()))
    steps = read("action.yml")["runs"]["steps"]
    (step,) = (step for step in steps if "env" in step)
    given = set(step["env"]) - {"INTRAFUSION_SERVER", "INTRAFUSION_API_KEY", "ACTION_PATH"}
    assert given == reads - {"GITHUB_OUTPUT"}
    gitlab = read("examples/ci/gitlab-ci.yml")["compress"]
    assert set(gitlab["variables"]) <= reads
    workflow = read("examples/ci/github-workflow.yml")["jobs"]["compress"]["steps"]
    (use,) = (step for step in workflow if step["uses"] == "./intra-fusion")
    assert set(use["with"]) <= set(read("action.yml")["inputs"])


def test_what_the_action_runs_is_sound_shell() -> None:
    """`make lint` looks at the scripts; this one lies within YAML."""
    (step,) = (step for step in read("action.yml")["runs"]["steps"] if "run" in step)
    done = subprocess.run(
        [COMMAND.parent / "shellcheck", "--shell", "bash", "-"],
        input=step["run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("least", "code"), [("0.001", 0), ("1000", 3)])
def test_the_pipeline_fails_when_a_gate_is_missed(
    server: Server, tmp_path: Path, least: str, code: int
) -> None:
    """The step of a pipeline on a real server; no network becomes a thousand times faster."""
    evaluation = files.npz(inputs=files.inputs(40), labels=files.labels(40))
    for name, content in {"model.pt": files.torchscript(), "test.npz": evaluation}.items():
        (tmp_path / name).write_bytes(content)
    environment = {
        "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "INTRAFUSION_SERVER": str(server.http.base_url),
        "MODEL": "model.pt",
        "OUTPUT": "small.pt",
        "EVALUATION": "test.npz",
        "LABEL": f"a/b@{least}",
        "OPTIONS": f"--sparsity 0.6 --compensation none --min-speedup {least}",
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
    }
    for _ in range(2):  # the second run finds the job of the first
        done = subprocess.run(
            ["bash", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr.decode()
    assert (tmp_path / "small.pt").stat().st_size > 0
    assert json.loads((tmp_path / "small.report.json").read_text())["after"]["parameters"] > 0
    assert (tmp_path / "outputs").read_text().startswith("report=small.report.json")
    jobs = server.http.get("/v1/jobs", params={"metadata": f"pipeline:a/b@{least}"}).json()["data"]
    assert len(jobs) == 1
    assert jobs[0]["gates"]["passed"] is (code == 0)


@pytest.mark.slow
def test_the_example_gets_the_smallest_network_within_its_gate(
    server: Server, tmp_path: Path
) -> None:
    content = {
        "net.pt": files.torchscript(),
        "samples.npz": files.npz(inputs=files.inputs(40)),
        "labelled.npz": files.npz(inputs=files.inputs(40), labels=files.labels(40)),
    }
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    environment = {k: v for k, v in os.environ.items() if k != "INTRAFUSION_API_KEY"}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "smallest.py", *content, "--drop", "0.9"],
        cwd=tmp_path,
        env=environment | {"INTRAFUSION_SERVER": str(server.http.base_url)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"accuracy .* → .*, parameters [\d,]+ → [\d,]+, multiply", done.stdout)
    assert (tmp_path / "small.pt").stat().st_size < len(content["net.pt"])
    page = (tmp_path / "small.report.html").read_text()
    assert 'class="tried" cx=' in page


def test_the_api_image_needs_no_torch() -> None:
    """What the image's command imports, with everything of the engine's forbidden."""
    script = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'scipy', 'sklearn', 'ot', 'safetensors', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        "import service.main; service.main.create_app().openapi()\n"
        "print('served')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout == "served\n", done.stderr[-2000:]
