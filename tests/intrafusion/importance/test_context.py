"""What criteria may need, and the users' own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from intrafusion import CompressionSpec, Dataset, ErrorCode, IntraFusionError, compress, load
from intrafusion.importance import IMPORTANCE
from intrafusion.importance.context import Criterion
from intrafusion.registry import Registry
from tests.intrafusion.importance.networks import context_of, two_layers
from tests.intrafusion.programs import example, program_of

README = (Path(__file__).parents[3] / "README.md").read_text()
LOUDEST = re.search(r"```python\n(from [^`]*def loudest[^`]*)```", README)


@pytest.mark.parametrize(
    ("choice", "given", "text", "code"),
    [
        ({"importance": "taylor"}, None, "samples with labels", ErrorCode.DATASET_TOO_SMALL),
        ({"importance": "taylor"}, 16, "have none", ErrorCode.DATASET_LABELS_INVALID),
        ({"importance": "chip"}, None, "needs samples, and", ErrorCode.DATASET_TOO_SMALL),
        ({"allocation": "reconstruction"}, None, "needs samples", ErrorCode.DATASET_TOO_SMALL),
    ],
)
def test_a_choice_says_what_it_needs(
    choice: dict[str, str], given: int | None, text: str, code: ErrorCode
) -> None:
    samples = None if given is None else Dataset((example(given),))
    with pytest.raises(IntraFusionError, match=text) as caught:
        compress(program_of("vgg"), CompressionSpec(compensation="none", **choice), samples)
    assert caught.value.code is code


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.full((12,), float("nan"))])
def test_scores_of_a_wrong_shape_or_value_are_refused(bad: torch.Tensor) -> None:
    context = context_of(two_layers(), (1, 3, 8, 8))
    (group,) = context.analysis.groups
    with pytest.raises(IntraFusionError, match="'mine' gave") as caught:
        Criterion("mine", lambda group, context: bad)(group, context)
    assert caught.value.code is ErrorCode.COMPRESSION_FAILED


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a criterion that an installed package brings: the README's."""
    assert LOUDEST is not None
    (tmp_path / "their_package.py").write_text(LOUDEST[1])
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{IMPORTANCE.group}]\nloudest = their_package:loudest\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    fresh = Registry(IMPORTANCE.kind, IMPORTANCE.group, IMPORTANCE.built_in)
    monkeypatch.setitem(IMPORTANCE.__dict__, "_plugins", fresh._plugins)
    return "loudest"


def test_a_criterion_of_the_users_own_is_selected_by_name(plugin: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3)).eval()
    samples = example(16)
    program = load(network, example_inputs=(samples,))
    spec = CompressionSpec(importance=plugin, joint_steps=0)
    with pytest.raises(IntraFusionError, match="needs samples"):
        compress(program, spec.model_copy(update={"compensation": "none"}))
    result = compress(program, spec, Dataset((samples,)))
    with torch.no_grad():
        loudest = network[:2](samples).amax((0, 2, 3)).topk(4).indices.sort().values
    assert result.program.plan is not None
    assert list(result.program.plan.kept["0.weight"][0]) == loudest.tolist()


def test_an_unknown_criterion_is_no_spec() -> None:
    with pytest.raises(ValueError, match="is no importance; choose one of"):
        CompressionSpec(importance="luck")


@pytest.mark.parametrize("name", IMPORTANCE.built_in)
def test_every_built_in_criterion_compresses(name: str) -> None:
    labelled = Dataset((example(16),), torch.arange(16) % 10)
    spec = CompressionSpec(importance=name, joint_steps=0)
    result = compress(program_of("mobilenet"), spec, labelled)
    assert result.program.parameter_count < program_of("mobilenet").parameter_count


@pytest.mark.parametrize(
    ("name", "given", "code"),
    [
        ("chip", None, ErrorCode.DATASET_TOO_SMALL),
        ("taylor", Dataset((example(16),)), ErrorCode.DATASET_LABELS_INVALID),
    ],
)
def test_what_a_criterion_needs_is_checked_before_any_work(
    name: str, given: Dataset | None, code: ErrorCode
) -> None:
    def never(progress: object) -> None:
        raise AssertionError

    spec = CompressionSpec(importance=name, compensation="none")
    with pytest.raises(IntraFusionError) as caught:
        compress(program_of("vgg"), spec, given, progress=never)
    assert caught.value.code is code
