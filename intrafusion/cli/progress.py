"""Progress on stderr: bars in a terminal, one line per step, and per try of a search, in a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from intrafusion.report import Progress, ProgressListener


@contextmanager
def shown_progress(quiet: bool) -> Iterator[ProgressListener]:
    """A listener that shows what it is told for as long as the context lasts."""
    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif not console.is_terminal:
        yield _lines(console)
    else:
        columns = (
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=console) as bars:
            yield _bars(bars)


def _lines(console: Console) -> ProgressListener:
    begun: set[str] = set()

    def show(progress: Progress) -> None:
        line: str = progress.step
        if line == "search":
            line = f"search, try {min(progress.done + 1, progress.total)} of up to {progress.total}"
        if line not in begun:
            begun.add(line)
            console.print(f"{line} …", highlight=False)

    return show


def _bars(bars: Bars) -> ProgressListener:
    tasks = {}

    def show(progress: Progress) -> None:
        if progress.step not in tasks:
            tasks[progress.step] = bars.add_task(progress.step)
        bars.update(tasks[progress.step], completed=progress.done, total=progress.total)

    return show
