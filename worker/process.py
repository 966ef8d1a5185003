"""A job process and all its descendants: started, listened to, measured, killed."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

from worker.tether import tethered

Source = Literal["events", "output"]

_READ_BYTES = 65536
_LINE_BYTES = 1024**2
_LAST_WORDS_SECONDS = 2.0


class JobProcess:
    """A command in a session of its own, with a pipe for events and one for what it prints.

    The command finds the number of the events pipe's descriptor in `INTRAFUSION_EVENTS`.
    A context manager: at its end no process of the job is left.
    """

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], limits: Mapping[str, int]
    ) -> None:
        events, events_end = os.pipe()
        output, output_end = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                tethered(command, limits=limits),
                env={**environment, "INTRAFUSION_EVENTS": str(events_end)},
                stdin=subprocess.DEVNULL,
                stdout=output_end,
                stderr=output_end,
                pass_fds=(events_end,),
                start_new_session=True,
            )
        except BaseException:
            os.close(events)
            os.close(output)
            raise
        finally:
            os.close(events_end)
            os.close(output_end)
        self._selector = selectors.DefaultSelector()
        self._pending: dict[int, bytearray] = {}
        sources: dict[int, Source] = {events: "events", output: "output"}
        for pipe, source in sources.items():
            os.set_blocking(pipe, False)
            self._selector.register(pipe, selectors.EVENT_READ, source)
            self._pending[pipe] = bytearray()

    def __enter__(self) -> JobProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        for pipe in self._pending:
            os.close(pipe)
        self._selector.close()

    @property
    def pid(self) -> int:
        """The number of the first process."""
        return self._process.pid

    def listen(self, seconds: float) -> Iterator[tuple[Source, str]]:
        """Whole lines as they come, at most one read of each pipe; waits up to `seconds`.

        Lines over a megabyte are cut.
        """
        if not self._selector.get_map():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
            return
        for key, _ in self._selector.select(seconds):
            pipe: int = key.fd
            try:
                chunk = os.read(pipe, _READ_BYTES)
            except BlockingIOError:
                continue
            yield from self._lines(pipe, key.data, chunk)
            if not chunk:
                self._selector.unregister(pipe)

    def _lines(self, pipe: int, source: Source, chunk: bytes) -> Iterator[tuple[Source, str]]:
        pending = self._pending[pipe]
        pending += chunk
        *whole, rest = pending.split(b"\n")
        if len(rest) > _LINE_BYTES or not chunk:
            whole, rest = [*whole, rest[:_LINE_BYTES]], bytearray()
        self._pending[pipe] = bytearray(rest)
        for line in whole:
            if line:
                yield source, line.decode(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether the first process has ended."""
        return self._process.poll() is not None

    def last_words(self) -> Iterator[tuple[Source, str]]:
        """Kill what the ended process left behind, then all lines that are still in the pipes."""
        self.kill()
        while self._selector.get_map():
            before = len(self._selector.get_map())
            said = list(self.listen(_LAST_WORDS_SECONDS))
            yield from said
            if not said and len(self._selector.get_map()) == before:
                return

    @property
    def exit_signal(self) -> signal.Signals | None:
        """The signal that ended the process, also where the sandbox reports it as an exit code."""
        code = self._process.returncode
        number = -code if code < 0 else code - 128
        with suppress(ValueError):
            return signal.Signals(number)
        return None

    @property
    def exit_code(self) -> int:
        """The exit code of the ended process; negative for a signal."""
        return int(self._process.returncode)

    def memory(self) -> int:
        """Bytes of memory that the process and its descendants hold at this moment."""
        return sum(_resident(pid) for pid in (self.pid, *_descendants(self.pid)))

    def kill(self) -> None:
        """Kill the process, its group and its descendants, and wait for its end."""
        stray = _descendants(self.pid) if not self.ended else []
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in stray:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    found = []
    for child in _children(pid):
        found += [child, *_descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                children += map(int, (task / "children").read_text().split())
    return children


def _resident(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
