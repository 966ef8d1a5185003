"""One row per architecture and input form, and the same networks through Torch-Pruning.

    python -m benchmarks.zoo [NAME …] [--forms module,traced,scripted,exported]

Writes results/zoo.md and .json; where NAMEs are given only with --update, which replaces their
rows and leaves the others. Exits 1 where a row breaks a promise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from benchmarks.architectures import ZOO
from benchmarks.zoo.forms import FORMS
from benchmarks.zoo.peer import PeerRow, measure_peer
from benchmarks.zoo.processes import RowProcessError, in_own_process
from benchmarks.zoo.row import Row, measure
from benchmarks.zoo.table import as_markdown, broken_promises, slow_rows
from intrafusion.program.emit import FORMATS

RESULTS = Path(__file__).resolve().parent.parent / "results"
AnyRow = TypeVar("AnyRow", Row, PeerRow)
_DEFAULT_FORMS = ("module", "traced", "scripted", "exported")


def measured(name: str, form: str, formats: Sequence[str], seconds: float) -> Row:
    """A row from a process of its own; one that dies or takes too long is a failure."""
    with TemporaryDirectory() as folder:
        try:
            return in_own_process(partial(measure, name, form, formats, Path(folder)), seconds)
        except RowProcessError as failure:
            return Row(name, form, failure=str(failure))


def measured_peer(name: str, seconds: float) -> PeerRow:
    """The same for Torch-Pruning."""
    try:
        return in_own_process(partial(measure_peer, name), seconds)
    except RowProcessError as failure:
        return PeerRow(name, failure=str(failure))


def outcome(row: Row | PeerRow) -> str:
    """In a word or the reason why not."""
    unmade = row.unmade if isinstance(row, Row) else ""
    return unmade or row.failure or "pruned"


def recorded() -> tuple[list[Row], list[PeerRow]]:
    """The rows that were written last."""
    record = json.loads((RESULTS / "zoo.json").read_text())
    rows = [Row.from_json(row) for row in record["rows"]]
    return rows, [PeerRow(**peer) for peer in record["torch_pruning"]]


def replaced(old: Iterable[AnyRow], new: Iterable[AnyRow]) -> list[AnyRow]:
    """The `old` rows with `new` ones in the places of their own, in the order of the zoo."""
    rows = {(row.architecture, getattr(row, "form", "")): row for row in (*old, *new)}
    names = [architecture.name for architecture in ZOO]
    forms = ["", *FORMS]
    return [rows[key] for key in sorted(rows, key=lambda k: (names.index(k[0]), forms.index(k[1])))]


def unmeasured(rows: Iterable[Row]) -> str:
    """What is missing in `rows`, as a section of its own; "" where nothing is."""
    found = {(row.architecture, row.form) for row in rows}
    lines = [
        f"- {architecture.name}: {', '.join(missing)}"
        for architecture in ZOO
        if (missing := [f for f in _DEFAULT_FORMS if (architecture.name, f) not in found])
    ]
    return "\n".join(["", "## Not measured yet", "", *lines, ""]) if lines else ""


def write(rows: Sequence[Row], peers: Sequence[PeerRow]) -> None:
    """Keep the results so far: a run of hours may be cut short."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "zoo.md").write_text(as_markdown(rows, peers) + unmeasured(rows))
    record = {"rows": [r.as_json() for r in rows], "torch_pruning": [p.as_json() for p in peers]}
    (RESULTS / "zoo.json").write_text(json.dumps(record, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    """What the command line says, checked."""
    names = [architecture.name for architecture in ZOO]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--forms", default=",".join(_DEFAULT_FORMS), help=", ".join(FORMS))
    parser.add_argument("--formats", default=",".join(FORMATS), help="what is written")
    parser.add_argument("--timeout", type=float, default=240, help="seconds a row may take")
    parser.add_argument("--jobs", type=int, default=1, help="rows measured at a time")
    parser.add_argument("--update", action="store_true", help="replace the rows of the NAMEs")
    parser.add_argument("--no-peer", action="store_true", help="leave Torch-Pruning out")
    given = parser.parse_args()
    given.forms, given.formats = given.forms.split(","), given.formats.split(",")
    unknown = {*given.names} - {*names} | {*given.forms} - {*FORMS} | {*given.formats} - {*FORMATS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    given.whole, given.names = not given.names, given.names or names
    return given


def main() -> None:
    given = arguments()
    rows: list[Row] = []
    peers: list[PeerRow] = []
    others = recorded() if given.update else ([], [])
    with ThreadPoolExecutor(given.jobs) as pool:
        # Every row waits for a process: a thread each is enough to keep `jobs` of them busy.
        pending = [
            pool.submit(measured, name, form, given.formats, given.timeout)
            if form
            else pool.submit(measured_peer, name, given.timeout)
            for name in given.names
            for form in (*given.forms, *([] if given.no_peer else [None]))
        ]
        for future in pending:
            row = future.result()
            if isinstance(row, PeerRow):
                peers.append(row)
                print(f"{row.architecture}, Torch-Pruning: {outcome(row)}", file=sys.stderr)
            else:
                rows.append(row)
                print(f"{row.architecture}, {row.form}: {outcome(row)}", file=sys.stderr)
            if given.whole or given.update:
                write(replaced(others[0], rows), replaced(others[1], peers))
    print(as_markdown(rows, peers))
    for slow in slow_rows(rows, peers):
        print(f"slow: {slow}", file=sys.stderr)
    if broken := list(broken_promises(rows)):
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    main()
