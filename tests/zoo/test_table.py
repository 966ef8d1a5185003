"""The table calls every broken promise one."""

from __future__ import annotations

import json
from dataclasses import replace

from benchmarks.zoo.__main__ import replaced
from benchmarks.zoo.peer import PeerRow
from benchmarks.zoo.row import Row
from benchmarks.zoo.table import as_markdown, broken_promises, slow_rows

GOOD = Row(
    "resnet18",
    "traced",
    groups=12,
    coverage=0.99,
    left=0.26,
    errors={1: 1e-7, 2: 1e-7, 5: 2e-7},
    self_check=True,
    formats={"torchscript": ""},
    forward_seconds=0.2,
    capture_seconds=1.0,
    analysis_seconds=0.1,
    model_bytes=2**20,
    peak_bytes=2**22,
)


def test_a_good_row_breaks_nothing() -> None:
    assert list(broken_promises([GOOD])) == []
    assert list(slow_rows([GOOD], [PeerRow("resnet18", graph_seconds=0.15)])) == []


def test_a_row_comes_back_from_its_record() -> None:
    assert Row.from_json(json.loads(json.dumps(GOOD.as_json()))) == GOOD


def test_rows_are_replaced_in_the_order_of_the_zoo() -> None:
    old = [replace(GOOD, architecture=name) for name in ("vgg11_bn", "resnet18", "lstm")]
    new = [replace(GOOD, coverage=1.0), replace(GOOD, architecture="unet")]
    found = replaced(old, new)
    assert [row.architecture for row in found] == ["vgg11_bn", "resnet18", "unet", "lstm"]
    assert found[1].coverage == 1.0


def test_every_promise_can_be_broken() -> None:
    for broken, words in (
        (replace(GOOD, failure="load: it fails"), "it fails"),
        (replace(GOOD, coverage=0.9), "90.0% of the parameters"),
        (replace(GOOD, left=1.0), "nothing was pruned"),
        (replace(GOOD, errors={1: 1e-7, 2: 1e-3}), "error 1.0e-03 at a batch of 2"),
        (replace(GOOD, errors={5: float("nan")}), "error nan at a batch of 5"),
        (replace(GOOD, formats={"onnx": "no such op"}), "not written as onnx: no such op"),
    ):
        (found,) = broken_promises([broken])
        assert found.startswith("resnet18, traced: ")
        assert words in found


def test_recurrent_networks_may_cover_less() -> None:
    assert list(broken_promises([replace(GOOD, architecture="lstm", coverage=0.9)])) == []


def test_a_form_that_torch_cannot_make_counts_for_nothing() -> None:
    unmade = Row("bert", "scripted", unmade="no source")
    assert list(broken_promises([unmade])) == []
    table = as_markdown([GOOD, unmade], [])
    assert "1 of 1 rows are pruned" in table
    assert "- bert, scripted: no source" in table


def test_slow_rows_are_named() -> None:
    slow = list(slow_rows([replace(GOOD, analysis_seconds=0.4)], [PeerRow("resnet18", 0.2)]))
    assert slow == [
        "resnet18, traced: analysis takes 2.0 forward passes",
        "resnet18, traced: analysis takes 2.0 times their graph",
    ]
