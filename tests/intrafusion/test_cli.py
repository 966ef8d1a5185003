"""The command line, run as people run it."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner, Result

from intrafusion.cli import local, remote, tables
from intrafusion.cli.app import app
from intrafusion.cli.exits import Exit
from intrafusion.importance import IMPORTANCE
from intrafusion.report import (
    CompressionReport,
    Fidelity,
    FrozenReport,
    GroupReport,
    InspectionReport,
    Latency,
    Measurement,
    PlanReport,
    SearchReport,
    TryReport,
)
from intrafusion.spec import METHODS, CompressionSpec
from intrafusion.transport import TARGETS
from tests.intrafusion.scripted_server import Answer, Call, Script, scripted_server

README = (Path(__file__).parents[2] / "README.md").read_text()
VGG = Path(__file__).parents[2] / "examples" / "fashion_vgg.pt"
CONTENT = b"the smaller network"
UPLOAD = {
    "id": "model_1",
    "sha256": "0" * 64,
    "bytes": 3,
    "kind": "torchscript",
    "created_at": "2026-01-01T00:00:00Z",
}
JOB = {
    "id": "job_1",
    "status": "queued",
    "model": "model_1",
    "spec": {},
    "queued_at": "2026-01-01T00:00:00Z",
}
REPORT = CompressionReport(
    intrafusion_version="0",
    torch_version="0",
    source="torchscript",
    spec=CompressionSpec(),
    decided=CompressionSpec(),
    before=Measurement(
        parameters=200_000,
        macs=1_000_000,
        accuracy=0.92,
        latency=Latency(median_ms=4, batch=1, threads=2, device="cpu"),
    ),
    after=Measurement(
        parameters=50_000,
        macs=250_000,
        accuracy=0.905,
        latency=Latency(median_ms=2, batch=1, threads=2, device="cpu"),
    ),
    fidelity=Fidelity(
        samples=2000,
        source="evaluation",
        agreement=0.95,
        output_distance=1,
        relative_distance=0.1,
        cosine=0.99,
    ),
    groups=[],
    compensation={"mode": "none"},
    warnings=["something to know"],
    seconds={},
)
EVENTS = [
    {"id": 1, "kind": "status", "at": JOB["queued_at"], "data": {"status": "running"}},
    {
        "id": 2,
        "kind": "progress",
        "at": JOB["queued_at"],
        "data": {"step": "compensate", "done": 1, "total": 4},
    },
]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    with scripted_server() as plan:
        monkeypatch.setenv("INTRAFUSION_SERVER", plan.url)
        for address in ("/v1/models", "/v1/datasets"):
            plan.on("GET", address, Answer(200, {"data": [], "next": None}))
        plan.on("POST", "/v1/models", Answer(201, UPLOAD))
        plan.on("POST", "/v1/datasets", Answer(201, UPLOAD | {"id": "data_1"}))
        plan.on("POST", "/v1/jobs", Answer(202, JOB))
        plan.on("GET", "/v1/jobs", Answer(200, {"data": [JOB]}))
        plan.on("GET", "/v1/jobs/job_1", Answer(200, JOB | {"status": "succeeded"}))
        plan.on("GET", "/v1/jobs/job_1/events", _events)
        plan.on("GET", "/v1/jobs/job_1/report", Answer(200, REPORT.model_dump(mode="json")))
        plan.on("GET", "/v1/jobs/job_1/artifacts", Answer(200, {"data": [_artifact("model.pt")]}))
        plan.on("GET", "/v1/jobs/job_1/artifacts/model.pt", Answer(200, CONTENT))
        yield plan


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt"
    path.write_bytes(b"net")
    return path


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(each) for each in arguments])


def test_submit_takes_every_flag_of_compress_with_the_same_default() -> None:
    here = inspect.signature(local.compress).parameters
    there = inspect.signature(remote.submit).parameters
    assert set(here) <= set(there)
    assert all(here[name].default == there[name].default for name in set(here) & set(there))


def test_every_field_of_the_spec_has_a_flag() -> None:
    flags = set(inspect.signature(local.compress).parameters)
    assert set(CompressionSpec.model_fields) <= flags


def test_flags_are_the_spec(script: Script, model: Path) -> None:
    flags = {
        "method": "prune",
        "importance": "fpgm",
        "target": "kmeans",
        "source_mass": "importance",
        "target_mass": "softmax",
        "distance": 2,
        "steps": 3,
    }
    given = [
        part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)
    ]
    result = run("submit", model, *given, "--exclude", "0", "--group-sparsity", "1=0.2")
    assert result.exit_code == Exit.OK, result.stderr
    spec = json.loads(script.calls[-1].body)["spec"]
    assert {name: spec[name] for name in flags} == flags
    assert spec["exclude"] == ["0"]
    assert spec["group_sparsity"] == {"1": 0.2}


def test_the_readme_names_every_choice() -> None:
    table = README.partition("## What can be chosen")[2].partition("An importance of your own")[0]
    named = set(re.findall(r"`([^`]+)`", table))
    assert {*METHODS, *IMPORTANCE.built_in, *TARGETS.built_in} <= named


def test_submit_without_output_prints_the_job_and_returns(script: Script, model: Path) -> None:
    result = run("submit", model, "--input-shape", "1,3,8,8", "--sparsity", 0.25)
    assert result.exit_code == Exit.OK
    assert result.stdout == "job_1 queued\n"
    body = json.loads(script.calls[-1].body)
    assert body["model"] == "model_1"
    assert body["input_shapes"] == [[1, 3, 8, 8]]
    assert body["spec"]["sparsity"] == 0.25


def test_submit_with_output_follows_downloads_and_compares(
    script: Script, model: Path, tmp_path: Path
) -> None:
    small, report = tmp_path / "small.pt", tmp_path / "report.json"
    result = run(
        *("submit", model, "--calibration", model, "--evaluation", model),
        *("-o", small, "--report", report),
    )
    assert result.exit_code == Exit.OK, result.output
    assert small.read_bytes() == CONTENT
    assert CompressionReport.model_validate_json(report.read_text()) == REPORT
    (body,) = [json.loads(call.body) for call in script.calls if call.path == "/v1/jobs"]
    assert (body["calibration"], body["evaluation"]) == ("data_1", "data_1")
    assert body["outputs"] == ["torchscript"]
    for expected in ("92.00%", "90.50%", "-1.50 points", "200,000", "-75.0 %", "95.00%"):
        assert expected in result.stdout
    assert "compensate" in result.stderr
    assert "something to know" in result.stderr


def test_json_is_one_document_on_stdout(script: Script, model: Path) -> None:
    document = json.loads(run("submit", model, "--wait", "--json").stdout)
    assert document["job"]["id"] == "job_1"
    assert CompressionReport.model_validate(document["report"]) == REPORT
    assert json.loads(run("submit", model, "--json").stdout)["status"] == "queued"
    assert [job["id"] for job in json.loads(run("jobs", "--json").stdout)["data"]] == ["job_1"]


def test_quiet_shows_no_progress(script: Script, model: Path) -> None:
    result = run("submit", model, "--wait", "--quiet")
    assert "compensate" not in result.output
    assert "92.00%" in result.stdout


def test_download_takes_one_file_or_all(script: Script, tmp_path: Path) -> None:
    assert run("download", "job_1", "model.pt", "-o", tmp_path / "one.pt").exit_code == Exit.OK
    assert (tmp_path / "one.pt").read_bytes() == CONTENT
    result = run("download", "job_1", "-o", tmp_path / "all", "--json")
    assert json.loads(result.stdout) == {"files": [str(tmp_path / "all" / "model.pt")]}
    assert (tmp_path / "all" / "model.pt").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "code"), [("running", 1), ("cancelled", 1), ("succeeded", 0)])
def test_a_job_without_files_is_nothing_to_download(
    script: Script, tmp_path: Path, status: str, code: int
) -> None:
    if status != "succeeded":
        script.on("GET", "/v1/jobs/job_1/artifacts", Answer(200, {"data": []}))
    script.on("GET", "/v1/jobs/job_1", Answer(200, JOB | {"status": status}))
    result = run("download", "job_1", "-o", tmp_path)
    assert result.exit_code == code
    assert (f"job_1 is {status} and has made no files" in result.stderr) is (code == 1)


def test_jobs_lists_no_more_than_the_limit(script: Script) -> None:
    jobs = [JOB | {"id": f"job_{number}"} for number in (1, 2, 3)]
    script.on("GET", "/v1/jobs", Answer(200, {"data": jobs}))
    result = run("jobs", "--limit", 2)
    assert [word for word in result.stdout.split() if word.startswith("job_")] == ["job_1", "job_2"]


def test_jobs_are_shown_with_their_networks_and_labels(script: Script) -> None:
    named = {"model_name": "net.pt", "metadata": {"commit": "[abc]"}}
    script.on("GET", "/v1/jobs", Answer(200, {"data": [JOB | named, JOB]}))
    lines = run("jobs").stdout.splitlines()
    (line,) = (line for line in lines if "net.pt" in line)
    assert "job_1" in line
    assert "commit=[abc]" in line
    assert any(JOB["model"] in line for line in lines)  # where the file had no name


def test_the_forms_of_a_network_are_the_servers_to_choose(script: Script, model: Path) -> None:
    def sent(*flags: object) -> list[str] | None:
        assert run("submit", model, *flags).exit_code == Exit.OK
        (body,) = [json.loads(c.body) for c in script.calls if c.path == "/v1/jobs" and c.body]
        script.calls.clear()
        outputs: list[str] | None = body.get("outputs")
        return outputs

    assert sent() is None
    assert sent("--format", "onnx", "--format", "exported") == ["onnx", "exported"]
    assert run("submit", model, "--format", "pickle").exit_code == Exit.USAGE


def test_labels_are_sent_and_looked_for(script: Script, model: Path) -> None:
    labels = ("--metadata", "commit=abc", "--metadata", "note=a=b")
    assert run("submit", model, *labels).exit_code == Exit.OK
    assert json.loads(script.calls[-1].body)["metadata"] == {"commit": "abc", "note": "a=b"}
    run("jobs", *labels)
    assert script.calls[-1].query["metadata"] == ["commit:abc", "note:a=b"]
    assert run("jobs", "--metadata", "commit").exit_code == Exit.USAGE


def test_retry_prints_the_new_job_and_delete_nothing(script: Script) -> None:
    script.on("POST", "/v1/jobs/job_1/retry", Answer(202, JOB | {"id": "job_2"}))
    script.on("DELETE", "/v1/jobs/job_1", Answer(204, b""))
    assert run("retry", "job_1").stdout == "job_2 queued\n"
    deleted = run("delete", "job_1")
    assert (deleted.exit_code, deleted.stdout) == (Exit.OK, "")
    assert script.calls[-1].method == "DELETE"


def test_cancel_prints_the_new_state(script: Script) -> None:
    script.on("POST", "/v1/jobs/job_1/cancel", Answer(200, JOB | {"status": "cancelling"}))
    assert run("cancel", "job_1").stdout == "job_1 cancelling\n"


@pytest.mark.parametrize(
    ("status", "error", "code", "says"),
    [
        ("failed", ("input_shape_mismatch", "It wants 3 channels."), Exit.FAILED, "3 channels"),
        ("cancelled", None, Exit.CANCELLED, "was cancelled"),
    ],
)
def test_a_job_that_did_not_succeed_says_why(
    script: Script, status: str, error: tuple[str, str] | None, code: Exit, says: str
) -> None:
    problem = error and {"title": "t", "status": 422, "code": error[0], "detail": error[1]}
    script.on("GET", "/v1/jobs/job_1", Answer(200, JOB | {"status": status, "error": problem}))
    result = run("wait", "job_1")
    assert result.exit_code == code
    assert says in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("passed", "code"), [(True, Exit.OK), (False, Exit.GATE_MISSED)])
@pytest.mark.parametrize("command", ["submit", "wait"])
def test_a_missed_gate_exits_3_with_all_results_in_place(
    script: Script, model: Path, tmp_path: Path, command: str, passed: bool, code: Exit
) -> None:
    check = {"name": "max_bytes", "limit": 300_000, "actual": 300_001, "passed": passed}
    gates = {"passed": passed, "checks": [check]}
    script.on("GET", "/v1/jobs/job_1", Answer(200, JOB | {"status": "succeeded", "gates": gates}))
    small = tmp_path / "small.pt"
    submitted = ("submit", model, "-o", small, "--max-bytes", 300_000)
    result = run(*submitted) if command == "submit" else run("wait", "job_1")
    assert result.exit_code == code, result.output
    assert "300,001 bytes" in result.stderr
    assert ("missed" in result.stderr) is not passed
    assert "-75.0 %" in result.stdout
    if command == "submit":
        assert small.read_bytes() == CONTENT
        (body,) = [json.loads(call.body) for call in script.calls if call.path == "/v1/jobs"]
        assert body["gates"]["max_bytes"] == 300_000


def test_an_accuracy_gate_without_data_is_wrong_usage(script: Script, model: Path) -> None:
    result = run("submit", model, "--gate-accuracy-drop", 0.01)
    assert result.exit_code == Exit.USAGE
    assert "--evaluation" in result.stderr
    assert script.calls == []


def test_wait_says_when_its_time_is_up(script: Script) -> None:
    script.on("GET", "/v1/jobs/job_1", Answer(200, JOB | {"status": "running"}))
    result = run("wait", "job_1", "--timeout", 0.2)
    assert result.exit_code == Exit.STILL_RUNNING
    assert "intrafusion wait job_1" in result.stderr


def test_no_server_exits_4_and_says_so(model: Path) -> None:
    result = run("submit", model, "--server", "http://127.0.0.1:9", "--json")
    assert result.exit_code == Exit.UNREACHABLE
    assert json.loads(result.stdout)["error"]["code"] == "unavailable"
    assert "intrafusion serve" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sparsity", "1.5"], "--sparsity 1.5"),
        (["--importance", "nonesuch"], "--importance 'nonesuch'"),
        (["--compensation", "maybe"], "--compensation 'maybe'"),
        (["--round-to", "0"], "--round-to 0"),
        (["--input-shape", "1,three"], "--input-shape '1,three'"),
        (["--input-shape", "1,-3,8,8"], "--input-shape"),
        (["--architecture-arguments", "{}"], "without --architecture"),
        (["--architecture", "x", "--architecture-arguments", "[1]"], "no JSON object"),
        (["--architecture", "x", "--architecture-arguments", "{"], "no JSON object"),
        (["-o", "small.bin"], "no ending that names a format"),
        (["--calibration", "absent.npz"], "absent.npz"),
        (["--nonesuch"], "--nonesuch"),
        (["--gate-accuracy-drop", "2", "--evaluation", "README.md"], "--gate-accuracy-drop"),
        (["--min-speedup", "-1"], "--min-speedup"),
    ],
)
def test_wrong_usage_exits_2_and_sends_nothing(
    script: Script, model: Path, arguments: list[str], says: str
) -> None:
    result = run("submit", model, *arguments)
    assert result.exit_code == Exit.USAGE
    assert says in result.stderr
    assert script.calls == []


@pytest.mark.parametrize(
    "command",
    [
        "inspect",
        "compress",
        "serve",
        "submit",
        "wait",
        "download",
        "jobs",
        "cancel",
        "retry",
        "delete",
        "keys create",
        "keys revoke",
    ],
)
def test_help_teaches_with_an_example_and_the_exit_codes(command: str) -> None:
    text = run(*command.split(), "--help").stdout
    assert f"intrafusion {command} " in text.split("Example")[1]
    assert "Exit codes: 0 done" in text


def test_the_command_line_and_the_client_import_no_torch() -> None:
    heavy = "{'torch', 'numpy', 'scipy', 'ot', 'fastapi', 'sqlalchemy', 'celery'}"
    code = f"import sys, intrafusion.cli, intrafusion.client; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_inspect_shows_groups_and_their_share() -> None:
    shape = ("--input-shape", "1,1,28,28")
    report = InspectionReport.model_validate_json(run("inspect", VGG, *shape, "--json").stdout)
    assert sorted(group.units for group in report.groups) == [32, 64, 128, 128]
    text = run("inspect", VGG, *shape).stdout
    assert "features.0.weight" in text
    assert "241,898 parameters" in text


def test_compress_writes_the_smaller_network_and_its_report(tmp_path: Path) -> None:
    small, report = tmp_path / "small.pt", tmp_path / "report.json"
    result = run(
        *("compress", VGG, "-o", small, "--report", report, "--sparsity", 0.25),
        *("--input-shape", "1,1,28,28", "--exclude", "features.11.*"),
        *("--compensation", "none"),
    )
    assert result.exit_code == Exit.OK, result.output
    written = CompressionReport.model_validate_json(report.read_text())
    kept = {group.name: (group.units, group.kept) for group in written.groups}
    assert kept["features.4.weight"] == (64, 48)
    assert kept["features.11.weight"] == (128, 128)
    assert written.before.file_bytes == VGG.stat().st_size
    assert written.after.file_bytes == small.stat().st_size < VGG.stat().st_size
    assert f"{written.after.parameters:,}" in result.stdout
    assert "evaluate" in result.stderr


def test_a_dry_run_plans_and_writes_nothing(tmp_path: Path) -> None:
    asked = (
        *("compress", VGG, "--dry-run", "--macs", 0.5),
        *("--calibration", VGG.parent / "fashion_calibration.npz"),
    )
    result = run(*asked, "--json")
    assert result.exit_code == Exit.OK, result.output
    plan = PlanReport.model_validate_json(result.stdout)
    assert 0.45 < plan.after.macs / plan.before.macs <= 0.5
    text = run(*asked).stdout
    for group in plan.groups:
        assert group.name in text
    assert f"{plan.after.parameters:,}" in text
    assert "expected error" in text
    missing = run("compress", VGG, "--input-shape", "1,1,28,28")
    assert missing.exit_code == Exit.USAGE
    assert "--dry-run" in missing.stderr


@pytest.mark.parametrize("command", ["compress", "submit"])
@pytest.mark.parametrize(
    ("flags", "says"), [(("--max-bytes", 9), "gate"), (("--max-output-distance", 0.1), "budget of")]
)
def test_a_dry_run_is_refused_what_only_a_network_could_show(
    command: str, flags: tuple[object, ...], says: str
) -> None:
    result = run(command, VGG, "--dry-run", *flags)
    assert result.exit_code == Exit.USAGE
    assert says in result.stderr


def test_submit_plans_on_the_server(script: Script, model: Path, tmp_path: Path) -> None:
    measured = REPORT.model_dump(include={"source", "spec", "decided", "before", "after"})
    planned = PlanReport(**measured, groups=[group("layer1.0.weight")], expected_error=0.25)
    script.on("GET", "/v1/jobs/job_1", Answer(200, JOB | {"status": "succeeded", "dry_run": True}))
    script.on("GET", "/v1/jobs/job_1/plan", Answer(200, planned.model_dump(mode="json")))
    small, plan = tmp_path / "small.pt", tmp_path / "plan.json"
    result = run("submit", model, "--dry-run", "-o", small, "--report", plan)
    assert result.exit_code == Exit.OK, result.output
    (body,) = [json.loads(call.body) for call in script.calls if call.path == "/v1/jobs"]
    assert body["dry_run"] is True
    assert PlanReport.model_validate_json(plan.read_text()) == planned
    assert "layer1.0.weight" in result.stdout
    assert "Expected error 0.25" in result.stdout
    assert not small.exists()
    document = json.loads(run("wait", "job_1", "--json").stdout)
    assert PlanReport.model_validate(document["plan"]) == planned


def group(name: str, *layers: str, units: int = 8, share: float = 0.1) -> GroupReport:
    return GroupReport(
        name=name, units=units, kept=units, layers=list(layers), parameter_share=share
    )


def inspected(
    groups: Sequence[GroupReport] = (), frozen: Sequence[FrozenReport] = ()
) -> InspectionReport:
    return InspectionReport(
        source="module",
        parameters=100,
        macs=100,
        coverage=1,
        inputs=[],
        groups=list(groups),
        frozen=list(frozen),
        warnings=[],
    )


def text_of(table: Table) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_alike_groups_of_repeated_blocks_are_one_row() -> None:
    blocks = [
        group(
            f"b.{i}.up.weight", f"b.{i}.up.weight[0]", f"b.{i}.up.bias[0]", f"b.{i}.down.weight[1]"
        )
        for i in (0, 1, 2, 5)
    ]
    other = group("stem.weight", "cls[2]", *(f"l{i}.weight[1]" for i in range(6)), share=0.999)
    wider = group("b.7.up.weight", "b.7.up.weight[0]", "b.7.down.weight[1]", units=16)
    report = inspected(groups=[*blocks, other, wider])
    rows = [
        [c.strip() for c in line.split("│")[1:-1]]
        for line in text_of(tables.groups(report)).splitlines()
    ]
    assert [row for row in rows if row] == [
        ["b.{0,1,2,5}.up.weight", "4 × 8", "10.0% each", "b.{0,1,2,5}.up, b.{0,1,2,5}.down"],
        ["stem.weight", "8", "99.9%", "cls, l0, l1, l2 and 3 more"],
        ["b.7.up.weight", "16", "10.0%", "b.7.up, b.7.down"],
    ]


def test_a_search_shows_what_was_tried_and_measured() -> None:
    tries = [
        TryReport(share=0.5, parameters=500, macs=9000, accuracy=0.91, within=True),
        TryReport(share=0.2, parameters=200, macs=4000, accuracy=0.85, within=False),
    ]
    search = SearchReport(
        budget="max_accuracy_drop", limit=0.01, minimised="parameters", tries=tries
    )
    text = text_of(tables.tries(search))
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in text.splitlines()]
    assert [row for row in rows if row] == [
        ["500", "9,000", "91.00%", "yes"],
        ["200", "4,000", "85.00%", "no"],
    ]
    assert "max_accuracy_drop 0.01" in text
    assert "accuracy" in text.splitlines()[2]
    assert "latency" not in text


def test_what_is_frozen_is_listed_by_its_reason() -> None:
    def entry(parameter: str, op: str) -> FrozenReport:
        return FrozenReport(parameter=parameter, dimension=0, channels=4, op=op, reason="for it")

    frozen = [*(entry(f"h.{i}.weight", "sort") for i in range(3)), entry("fc.bias", "output")]
    report = inspected(frozen=frozen)
    text = text_of(tables.frozen(report))
    assert "│ sort      │ for it │ h.{0…2}.weight[0] │" in text
    assert "│ output    │ for it │ fc.bias[0]        │" in text


@pytest.mark.parametrize(
    ("content", "arguments", "code", "error"),
    [
        (b"no network", ["--input-shape", "1,1,28,28"], Exit.FAILED, "not_a_model"),
        (None, [], Exit.USAGE, "input_shape_missing"),
        (None, ["--input-shape", "1,3,28,28"], Exit.FAILED, "input_shape_mismatch"),
        (
            None,
            ["--input-shape", "1,1,28,28", "--input-shape", "1,4"],
            Exit.FAILED,
            "input_count_mismatch",
        ),
    ],
)
def test_a_network_that_cannot_be_compressed_leaves_no_file(
    tmp_path: Path, content: bytes | None, arguments: list[str], code: Exit, error: str
) -> None:
    model, small = tmp_path / "net.pt", tmp_path / "small.pt"
    model.write_bytes(VGG.read_bytes() if content is None else content)
    result = run("compress", model, "-o", small, "--json", *arguments)
    assert result.exit_code == code
    assert json.loads(result.stdout)["error"]["code"] == error
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.slow
def test_the_base_wheel_alone_submits(script: Script, model: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, root], check=True)
    (wheel,) = tmp_path.glob("intrafusion-*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "--quiet", "install", wheel], check=True)

    def there(*command: object) -> subprocess.CompletedProcess[str]:
        words = [str(each) for each in command]
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=os.environ)

    assert there(python, "-c", "import torch").returncode == 1
    intrafusion = python.with_name("intrafusion")
    done = there(intrafusion, "submit", model, "-o", "small.pt")
    assert done.returncode == Exit.OK, done.stderr
    assert (tmp_path / "small.pt").read_bytes() == CONTENT
    refused = there(intrafusion, "compress", model, "-o", "small.pt", "--input-shape", "1,1")
    assert refused.returncode == Exit.FAILED
    assert "pip install 'intrafusion[engine]'" in refused.stderr


def _events(call: Call) -> Answer:
    after = int(call.query["after"][0])
    return Answer(200, {"data": [event for event in EVENTS if event["id"] > after]})


def _artifact(name: str) -> dict[str, Any]:
    digest = hashlib.sha256(CONTENT).hexdigest()
    return {"name": name, "bytes": len(CONTENT), "sha256": digest}
