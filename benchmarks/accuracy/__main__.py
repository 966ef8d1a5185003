"""What is lost where channels go and nothing is trained again, beside what others lose.

    python -m benchmarks.accuracy                       every example network: hours
    python -m benchmarks.accuracy fashion_vgg --seeds 1
    python -m benchmarks.accuracy --table               the table again from stored rows

All methods get the same 256 unlabelled samples or none, and are measured on all test samples;
peers may choose among their settings on 5,000 labelled training samples that no network was
trained on. Rows are stored as they come, and replace those of an earlier run. Writes
results/accuracy.md and .json; exits 1 where ours loses more than the project promises, or more
than a peer.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.accuracy.methods import METHODS, original
from benchmarks.accuracy.rows import Row
from benchmarks.accuracy.table import as_markdown, missed
from examples.networks import NETWORKS
from examples.trained import trained

RESULTS = Path(__file__).resolve().parent.parent / "results"
STORED = RESULTS / "accuracy.json"
SPARSITIES = (0.25, 0.5, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="all unless named")
    parser.add_argument("--sparsities", type=float, nargs="+", default=SPARSITIES)
    parser.add_argument("--seeds", type=int, default=3, help="how many compressions per cell")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--table", action="store_true", help="measure nothing")
    chosen = parser.parse_args()
    for bench in trained(() if chosen.table else chosen.networks):
        store(original(bench))
        for sparsity in chosen.sparsities:
            for name in chosen.methods:
                for row in METHODS[name](bench, sparsity, range(chosen.seeds)):
                    print(
                        f"{row.network}  {row.sparsity:.0%}  {row.method} ({row.data}): "
                        f"{row.accuracy:.4f}  {row.seconds:.0f} s",
                        file=sys.stderr,
                        flush=True,
                    )
                    store(row)
    rows = stored()
    table = as_markdown(
        rows,
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}",
    )
    (RESULTS / "accuracy.md").write_text(table)
    print(table)
    if faults := missed(rows):
        sys.exit("\n".join(faults))


def stored() -> list[Row]:
    """The rows so far, those of a network beside each other."""
    rows = [Row(**row) for row in json.loads(STORED.read_text())] if STORED.exists() else []
    return sorted(rows, key=lambda row: list(NETWORKS).index(row.network))


def store(row: Row) -> None:
    """Keep `row`, in the place of the one that the same method had there."""
    others = [each for each in stored() if each.key != row.key]
    STORED.write_text(json.dumps([asdict(each) for each in (*others, row)], indent=1) + "\n")


if __name__ == "__main__":
    main()
