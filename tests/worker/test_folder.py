from __future__ import annotations

from pathlib import Path

import pytest

from worker.folder import job_folder


def test_a_folder_is_gone_afterwards_whatever_the_job_did_to_it(tmp_path: Path) -> None:
    with job_folder(tmp_path / "job") as folder:
        locked = folder.out / "locked"
        locked.mkdir()
        (locked / "file").write_text("x")
        (locked / "file").chmod(0o000)
        locked.chmod(0o000)
        (folder.tmp / "link").symlink_to("/")
    assert not (tmp_path / "job").exists()


def test_what_an_earlier_attempt_left_is_gone(tmp_path: Path) -> None:
    (tmp_path / "job" / "out").mkdir(parents=True)
    (tmp_path / "job" / "out" / "old").write_text("x")
    with job_folder(tmp_path / "job") as folder:
        assert list(folder.out.iterdir()) == []


def test_a_folder_is_gone_after_an_error(tmp_path: Path) -> None:
    def break_off() -> None:
        with job_folder(tmp_path / "job"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert not (tmp_path / "job").exists()
