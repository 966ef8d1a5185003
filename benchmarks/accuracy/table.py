"""The rows as a table for people, and what it says of the project's promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from benchmarks.accuracy.methods import OURS, OURS_EQUAL
from benchmarks.accuracy.rows import Data, Row

PROMISED: dict[tuple[str, Data, float], float] = {
    ("fashion_vgg", "unlabelled", 0.25): 0.3,
    ("fashion_vgg", "unlabelled", 0.5): 1.5,
    ("fashion_vgg", "unlabelled", 0.7): 3.5,
    ("fashion_resnet", "unlabelled", 0.25): 0.3,
    ("fashion_resnet", "unlabelled", 0.5): 2.5,
    ("fashion_resnet", "unlabelled", 0.7): 8.0,
    ("fashion_vgg", "none", 0.25): 0.6,
    ("fashion_vgg", "none", 0.5): 3.0,
    ("fashion_vgg", "none", 0.7): 9.0,
    ("fashion_resnet", "none", 0.25): 0.6,
    ("fashion_resnet", "none", 0.5): 5.0,
    ("fashion_resnet", "none", 0.7): 20.0,
}
"""Points of accuracy that ours may lose at most."""

_OURS = (OURS, OURS_EQUAL)
_DATA = {"": "", "none": "none", "unlabelled": "256 unlabelled samples"}


def as_markdown(rows: Sequence[Row], machine: str) -> str:
    """One table per network: a row per method and kind of data, a column per sparsity."""
    lines = [
        "# Accuracy lost, no fine-tuning",
        "",
        f"`python -m benchmarks.accuracy` · {machine}",
        "",
        (
            "Points of accuracy lost on all test samples, and in brackets what is left of the "
            "parameters, of the multiply-accumulates and, where it was measured, of the latency of "
            "one sample on one thread, in per cent. The columns are the share of "
            "all channels that goes. Peers remove it from every group alike, and are shown with "
            "those of their choices that do best on 5,000 held-out training samples. Ours is the "
            "default of the spec, which shares the loss between groups and so keeps more MACs: it "
            "stands here also with no more parameters and MACs than an even share leaves. Of "
            "several seeds the mean is shown, with the range. A peer without a figure made a "
            "network that does not run."
        ),
    ]
    for network, own in groupby(rows, key=lambda row: row.network):
        lines += ["", *_network(network, list(own))]
    faults = missed(rows)
    if faults:
        lines += ["", "## Promises not kept", "", *(f"- {fault}" for fault in faults)]
    return "\n".join(lines) + "\n"


def _network(name: str, rows: Sequence[Row]) -> Iterator[str]:
    before = next(row for row in rows if not row.sparsity)
    sparsities = sorted({row.sparsity for row in rows if row.sparsity})
    yield (
        f"## {name}: {before.accuracy:.2%}, {before.parameters:,} parameters, {before.macs:,} MACs"
    )
    yield ""
    yield f"| method | data | {' | '.join(f'{sparsity:.0%}' for sparsity in sparsities)} |"
    yield f"|---|---|{'---:|' * len(sparsities)}"
    lines: dict[tuple[str, Data], dict[float, Row]] = {}
    for row in rows:
        if row.sparsity:
            lines.setdefault((row.method, row.data), {})[row.sparsity] = row
    for method, data in sorted(lines, key=_place):
        cells = lines[method, data]
        bold = "**" if method in _OURS else ""
        texts = [_cell(cells.get(sparsity), before) for sparsity in sparsities]
        yield f"| {bold}{method}{bold} | {_DATA[data]} | {' | '.join(texts)} |"


def _place(line: tuple[str, Data]) -> tuple[bool, int, str]:
    """Where a method stands: with samples before without, ours before the peers."""
    method, data = line
    return data == "none", _OURS.index(method) if method in _OURS else len(_OURS), method


def _cell(row: Row | None, before: Row) -> str:
    if row is None:
        return ""
    lost = [(before.accuracy - accuracy) * 100 for accuracy in row.accuracies]
    spread = f" [{min(lost):.2f}, {max(lost):.2f}]" if len(lost) > 1 else ""
    left = f"{row.parameters / before.parameters:.0%} / {row.macs / before.macs:.0%}"
    left += "" if row.latency is None else f" / {row.latency:.0%}"
    choice = f", {row.choice}" if row.choice else ""
    return f"{(before.accuracy - row.accuracy) * 100:.2f}{spread} ({left}{choice})"


def missed(rows: Sequence[Row]) -> list[str]:
    """What ours promises and does not keep, in words: losses too large, and better peers."""
    before = {row.network: row.accuracy for row in rows if not row.sparsity}
    faults = []
    for row in rows:
        if row.method not in _OURS:
            continue
        lost = (before[row.network] - row.accuracy) * 100
        where = f"{row.network}, {row.sparsity:.0%}, data: {_DATA[row.data]}: {row.method} lost "
        promised = PROMISED.get(row.cell) if row.method == OURS else None
        if promised is not None and lost > promised:
            faults.append(f"{where}{lost:.2f} points, more than {promised}")
        for peer in rows:
            if peer.method not in _OURS and peer.cell == row.cell and peer.accuracy > row.accuracy:
                ahead = (before[row.network] - peer.accuracy) * 100
                faults.append(f"{where}{lost:.2f} points, {peer.method} only {ahead:.2f}")
    return faults
