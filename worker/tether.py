"""Starts a command that dies with the process that started it, under limits.

Run as a script it ties itself to its parent, limits itself and becomes the command. A
separate script, because doing this between fork and exec is unsafe in a threaded process.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence

_PR_SET_PDEATHSIG = 1
_ORPHANED = 125


def tethered(command: Sequence[str], *, limits: Mapping[str, int] | None = None) -> list[str]:
    """The command line that runs `command` tied to the calling process.

    `limits` are rlimits by their name without `RLIMIT_`, such as {"AS": bytes}. The tie is to
    the calling thread: Linux sends the signal when that thread ends.
    """
    wrapper = [sys.executable, "-I", "-S", os.path.abspath(__file__)]
    return [*wrapper, str(os.getpid()), json.dumps(dict(limits or {})), *command]


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which started it, dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the tie held
        os._exit(_ORPHANED)


def _limit(name: str, wanted: int) -> None:
    which = getattr(resource, f"RLIMIT_{name}", None)
    if which is None:
        return
    _, hard = resource.getrlimit(which)
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(which, (value, value))


if __name__ == "__main__":
    _parent, _limits, *_command = sys.argv[1:]
    die_with_parent(int(_parent))
    for _name, _value in json.loads(_limits).items():
        _limit(_name, _value)
    os.execvp(_command[0], _command)  # noqa: S606 - a shell is what this is not
