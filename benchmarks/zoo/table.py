"""The rows as people read them, and the promises that rows break."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from benchmarks.architectures import ZOO
from benchmarks.zoo.peer import PeerRow
from benchmarks.zoo.row import Row

LARGEST_ERROR = 1e-5
LEAST_COVERAGE = 0.97
_RECURRENT = {architecture.name for architecture in ZOO if architecture.recurrent}

_COLUMNS = (
    "architecture",
    "form",
    "analysed",
    "groups",
    "coverage %",
    "left %",
    "error, batch 1",
    "2",
    "5",
    "self-check",
    "written",
    "capture s",
    "analysis s",
    "forward s",
    "analysis / forward",
    "model MiB",
    "peak MiB",
)
_PEER_COLUMNS = (
    "architecture",
    "analysis s",
    "graph s",
    "analysis / graph",
    "Torch-Pruning prunes",
    "left %",
)


def as_markdown(rows: Sequence[Row], peers: Sequence[PeerRow]) -> str:
    """Both tables, and the machine they were measured on."""
    made = [row for row in rows if not row.unmade]
    pruned = [row for row in made if not row.failure]
    lines = [
        "# The zoo",
        "",
        (
            f"`python -m benchmarks.zoo` · torch {torch.__version__}, one thread, "
            f"Python {platform.python_version()}"
        ),
        "",
        (
            f"{len(pruned)} of {len(made)} rows are pruned, {len(list(broken_promises(rows)))} "
            "promises broken."
        ),
        "",
        *_table(_COLUMNS, (_cells(row) for row in made)),
        "",
        (
            "A random half of every group's units goes. Error: largest difference from the "
            "original with the same units zeroed and norm statistics taken over the others, "
            "relative to the largest output. Capture is `intrafusion.load`; analysis and forward "
            "are medians; seconds are of processor time. Forward is the nn.Module at a batch of 2 "
            "of the input size it was published for (224 pixels for most). Analysis and forward of "
            "the networks in `benchmarks.published` are of these, and so is the graph of "
            "Torch-Pruning below. All else is at the smaller sizes of `benchmarks.architectures`; "
            "analysis does not depend on that of inputs. Peak "
            "memory is of load, analysis and removal, beyond what the process held before."
        ),
        "",
    ]
    if any(row.failure for row in made):
        lines += ["## Failures", ""]
        lines += [f"- {row.architecture}, {row.form}: {row.failure}" for row in made if row.failure]
        lines.append("")
    unwritten = [(row, name, why) for row in made for name, why in row.formats.items() if why]
    if unwritten:
        lines += ["## Not written", ""]
        lines += [
            f"- {row.architecture}, {row.form}, {name}: {why}" for row, name, why in unwritten
        ]
        lines.append("")
    if len(made) < len(rows):
        lines += ["## Forms that torch does not make", ""]
        lines += [
            f"- {row.architecture}, {row.form}: {row.unmade[:160]}" for row in rows if row.unmade
        ]
        lines.append("")
    if peers:
        analysis = {row.architecture: row.analysis_seconds for row in rows if row.form == "module"}
        lines += [
            "## Torch-Pruning 1.6.1",
            "",
            *_table(_PEER_COLUMNS, (_peer_cells(peer, analysis) for peer in peers)),
            "",
            (
                "The same networks as nn.Modules; graph is `DependencyGraph.build_dependency` on "
                "the smallest inputs, the median. `BasePruner` at its defaults, told which layers "
                "make the outputs."
            ),
            "",
        ]
    return "\n".join(lines)


def broken_promises(rows: Iterable[Row]) -> Iterator[str]:
    """What the project promises of every row and a row does not keep, in words."""
    for row in rows:
        name = f"{row.architecture}, {row.form}"
        if row.unmade:
            continue
        if row.failure:
            yield f"{name}: {row.failure}"
            continue
        assert row.coverage is not None
        if row.architecture not in _RECURRENT and row.coverage < LEAST_COVERAGE:
            yield f"{name}: {row.coverage:.1%} of the parameters can be pruned"
        if row.left is None or row.left >= 1:
            yield f"{name}: nothing was pruned"
        for batch, error in row.errors.items():
            if not error <= LARGEST_ERROR:
                yield f"{name}: error {error:.1e} at a batch of {batch}"
        for output, why in row.formats.items():
            if why:
                yield f"{name}: not written as {output}: {why}"


def slow_rows(rows: Iterable[Row], peers: Iterable[PeerRow]) -> Iterator[str]:
    """Rows whose analysis takes longer than a forward pass, or than Torch-Pruning's graph."""
    graph = {peer.architecture: peer.graph_seconds for peer in peers}
    for row in rows:
        if row.analysis_seconds is None or row.forward_seconds is None:
            continue
        ratio = row.analysis_seconds / row.forward_seconds
        if ratio > 1:
            yield f"{row.architecture}, {row.form}: analysis takes {ratio:.1f} forward passes"
        theirs = graph.get(row.architecture)
        if theirs is not None and row.analysis_seconds > theirs:
            ratio = row.analysis_seconds / theirs
            yield f"{row.architecture}, {row.form}: analysis takes {ratio:.1f} times their graph"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def _cells(row: Row) -> list[str]:
    written = [name for name, why in row.formats.items() if not why]
    return [
        row.architecture,
        row.form,
        "no" if row.coverage is None else "yes",
        "" if row.groups is None else str(row.groups),
        _percent(row.coverage),
        _percent(row.left),
        *(f"{row.errors[b]:.0e}" if b in row.errors else "" for b in (1, 2, 5)),
        {True: "passed", False: "failed", None: ""}[row.self_check],
        ", ".join(written),
        _seconds(row.capture_seconds),
        _seconds(row.analysis_seconds),
        _seconds(row.forward_seconds),
        _ratio(row.analysis_seconds, row.forward_seconds),
        _mebibytes(row.model_bytes),
        _mebibytes(row.peak_bytes),
    ]


def _peer_cells(peer: PeerRow, analysis: Mapping[str, float | None]) -> list[str]:
    ours = analysis.get(peer.architecture)
    return [
        peer.architecture,
        _seconds(ours),
        _seconds(peer.graph_seconds),
        _ratio(ours, peer.graph_seconds),
        f"no: {peer.failure[:120]}" if peer.failure else "yes",
        "" if peer.failure else _percent(peer.left),
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.1f}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}"


def _ratio(a: float | None, b: float | None) -> str:
    return "" if a is None or b is None else f"{a / b:.2f}"


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.1f}"
