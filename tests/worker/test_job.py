"""The job process by itself, without a supervisor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from intrafusion.errors import ErrorCode
from worker import job


def test_what_cannot_be_done_is_told_and_ends_with_one(tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "job.json").write_text("{}")
    reading, writing = os.pipe()
    done = subprocess.run(
        [sys.executable, "-m", "worker.job", tmp_path],
        env=os.environ | {"INTRAFUSION_EVENTS": str(writing)},
        pass_fds=(writing,),
        check=False,
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said: list[dict[str, Any]] = [json.loads(line) for line in pipe]
    assert done.returncode == 1
    assert [message["kind"] for message in said] == ["log", "error"]
    assert "ValidationError" in said[0]["text"]
    assert said[1]["code"] == "internal"


def test_running_out_of_memory_has_its_own_code() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 50, dtype=torch.uint8)  # a petabyte
    for error in (real.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        assert isinstance(error, Exception)
        assert job._explain(error).code is ErrorCode.OUT_OF_MEMORY
    assert job._explain(ValueError("other")).code is ErrorCode.INTERNAL
