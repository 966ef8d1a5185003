"""Networks in every form come in as programs that compute the same."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from intrafusion import Architecture, ErrorCode, Program, load
from tests.intrafusion.program.forms import (
    FORMS,
    NAMED_FORMS,
    SHAPES,
    as_form,
    program_of,
    refusal,
)
from tests.networks import INPUT_SHAPE, NETWORKS, VGGSmall, build, samples


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_program_computes_what_the_network_does(name: str, form: str) -> None:
    network, program = build(name), program_of(name, form)
    for batch in (1, 2, 5, 7, 64):
        x = samples(batch)
        torch.testing.assert_close(program(x), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", NAMED_FORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_values_of_tensors_are_the_original_ones(name: str, form: str) -> None:
    network, program = build(name), program_of(name, form)
    expected = network.state_dict()
    assert list(program.tensors) == [
        *dict(network.named_parameters()),
        *dict(network.named_buffers()),
    ]
    assert all(torch.equal(program.tensors[key], expected[key]) for key in expected)
    assert program.trainable == dict(network.named_parameters()).keys()
    assert [n.target for n in program.graph.nodes if n.op == "placeholder"] == ["x"]


def test_torchvision_mobilenet_v2_comes_in_from_both_forms(torchvision: object) -> None:
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2(num_classes=7).eval()
    x = torch.randn(5, 3, 32, 32)
    for source in (network, torch.jit.trace(network, x[:2])):
        program = load(source, input_shapes=[(1, 3, 32, 32)])
        torch.testing.assert_close(program(x), network(x), rtol=1e-5, atol=1e-5)
        assert program.parameter_count == sum(p.numel() for p in network.parameters())


def test_frozen_torchscript_has_parameters_and_a_note() -> None:
    program = program_of("concat", "frozen")
    assert "frozen" in " ".join(program.notes)
    assert program.parameter_count == sum(p.numel() for p in build("concat").parameters())


def test_frozen_recurrent_layers_have_parameters() -> None:
    network = nn.LSTM(3, 4, batch_first=True).eval()
    frozen = torch.jit.freeze(torch.jit.trace(network, torch.randn(2, 5, 3)))
    program = load(frozen, input_shapes=[(1, 5, 3)])
    assert program.parameter_count == sum(p.numel() for p in network.parameters())


def test_example_inputs_are_two_reproducible_samples() -> None:
    first, second = (load(build("vgg"), input_shapes=[(9, *INPUT_SHAPE)]) for _ in range(2))
    (x,), (y,) = first.example_inputs, second.example_inputs
    assert x.shape == (2, *INPUT_SHAPE)
    assert torch.equal(x, y)
    assert 0.5 < float(x.std()) < 1.5


def test_given_example_inputs_are_used() -> None:
    x = samples(1)
    program = load(build("vgg"), example_inputs=x)
    assert torch.equal(program.example_inputs[0], torch.cat([x, x]))


def test_the_module_stays_as_it_was_and_apart() -> None:
    network = VGGSmall().train()
    network.features[0].eval()
    before = copy.deepcopy(network.state_dict())
    program = load(network, input_shapes=SHAPES)
    assert network.training
    assert not network.features[0].training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert "evaluation mode" in " ".join(program.notes)
    kept = program(samples(2))
    with torch.no_grad():
        network.classifier[0].weight.zero_()
    assert torch.equal(program(samples(2)), kept)


def test_torchscript_saved_in_training_mode_is_read_in_evaluation_mode(tmp_path: Path) -> None:
    network = build("vgg").train()
    torch.jit.script(network).save(tmp_path / "training.pt")
    program = load(tmp_path / "training.pt", input_shapes=SHAPES)
    torch.testing.assert_close(program(samples(5)), network.eval()(samples(5)))
    assert "evaluation mode" in " ".join(program.notes)


class Outputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return {"sum": self.fc(a) + b, "product": a * b}


@pytest.mark.parametrize("scripted", [False, True])
def test_two_inputs_and_named_outputs(scripted: bool) -> None:
    network = Outputs().eval()
    source = torch.jit.script(network) if scripted else network
    program = load(source, input_shapes=[(1, 4), (1, 4)])
    a, b = torch.randn(5, 4), torch.randn(5, 4)
    found, expected = program(a, b), network(a, b)
    assert list(found) == ["sum", "product"]
    torch.testing.assert_close(found, expected)


class WithoutAuxiliary(nn.Module):
    """As torchvision's scripted Inception: the second output exists in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        auxiliary: Tensor | None = None
        if self.training:
            auxiliary = x
        return self.fc(x), auxiliary


@pytest.mark.parametrize("scripted", [False, True])
def test_outputs_that_are_none_are_left_out(scripted: bool, tmp_path: Path) -> None:
    module = WithoutAuxiliary().eval()
    source = torch.jit.script(module) if scripted else module
    program = load(source, input_shapes=[(1, 3)])
    x = torch.randn(4, 3)
    (found,) = program(x)
    torch.testing.assert_close(found, module(x)[0])
    assert "returns None" in program.notes[0]
    (written,) = torch.jit.load(program.save(tmp_path / "net.pt"))(x)
    torch.testing.assert_close(written, found)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4, bias=False)
        self.unembed = nn.Linear(4, 4, bias=False)
        self.unembed.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.unembed(torch.relu(self.embed(x)))


@pytest.mark.parametrize("scripted", [False, True])
def test_tied_parameters_are_one(scripted: bool) -> None:
    network = Tied().eval()
    source = torch.jit.script(network) if scripted else network
    program = load(source, input_shapes=[(1, 4)])
    assert list(program.tensors) == ["embed.weight"]
    assert program.aliases == {"unembed.weight": "embed.weight"}
    assert program.parameter_count == 16
    x = torch.randn(5, 4)
    torch.testing.assert_close(program(x), network(x))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.table(tokens).mean(1))


def test_integer_inputs() -> None:
    network = Tokens().eval()
    program = load(network, input_shapes=[(1, 5)], input_dtypes=["int64"])
    tokens = torch.randint(0, 11, (7, 5))
    torch.testing.assert_close(program(tokens), network(tokens))


def test_state_dict_files_with_their_architecture(tmp_path: Path, torchvision: object) -> None:
    from safetensors.torch import save_file
    from torchvision.models import squeezenet1_1

    network = squeezenet1_1(num_classes=4).eval()
    state = network.state_dict()
    save_file(state, tmp_path / "plain.safetensors")
    torch.save(state, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}},
        tmp_path / "checkpoint.pt",
    )
    torch.save(state, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    x = torch.randn(5, 3, 32, 32)
    architecture = Architecture(name="torchvision/squeezenet1_1", arguments={"num_classes": 4})
    for file in sorted(tmp_path.iterdir()):
        program = load(file, input_shapes=[(1, 3, 32, 32)], architecture=architecture)
        assert program.source == "state_dict"
        torch.testing.assert_close(program(x), network(x), rtol=1e-5, atol=1e-5)


def test_timm_architecture(tmp_path: Path, torchvision: object) -> None:
    import timm

    network = timm.create_model("test_resnet", num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    architecture = Architecture(name="timm/test_resnet", arguments={"num_classes": 5})
    program = load(
        tmp_path / "weights.pt", input_shapes=[(1, 3, 32, 32)], architecture=architecture
    )
    x = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(program(x), network(x), rtol=1e-5, atol=1e-5)


def test_pt2_knows_its_own_shapes(tmp_path: Path) -> None:
    network = build("resnet")
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(
        torch.export.export(network, (samples(2),), dynamic_shapes=shapes), tmp_path / "net.pt2"
    )
    program = load(tmp_path / "net.pt2")
    assert program.source == "exported"
    torch.testing.assert_close(program(samples(7)), network(samples(7)))


def test_pt2_of_one_batch_size_is_refused_with_the_remedy(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(build("vgg"), (samples(4),)), tmp_path / "net.pt2")
    error = refusal(tmp_path / "net.pt2")
    assert error.code is ErrorCode.CAPTURE_FAILED
    assert "batch of 4" in error.message
    assert "dynamic_shapes" in error.hint


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("form", NAMED_FORMS)
@pytest.mark.parametrize(
    ("shapes", "dtypes"),
    [
        ([(1, 4, 16, 16)], None),
        ([(1, 3, 8, 16)], None),
        ([(1, 3)], None),
        ([(1, 3, 16, 16)], ["float64"]),
        ([(1, 3, 16, 16)], ["int64"]),
        ([(1, 3, 16, 16)], ["float31"]),
        ([(1, 3, 16, 16)], ["float32", "float32"]),
        ([(1, 3, 0, 16)], None),
        ([()], None),
    ],
)
def test_wrong_input_shape(
    form: str, shapes: list[tuple[int, ...]], dtypes: list[str] | None
) -> None:
    error = refusal(as_form(build("vgg"), form), input_shapes=shapes, input_dtypes=dtypes)
    assert error.code is ErrorCode.INPUT_SHAPE_MISMATCH


def test_the_shape_that_was_tried_and_torchs_reason_are_named(tmp_path: Path) -> None:
    torch.jit.script(build("vgg")).save(tmp_path / "net.pt")
    error = refusal(tmp_path / "net.pt", input_shapes=[(1, 4, 16, 16)])
    assert "float32[2, 4, 16, 16]" in error.message
    assert "to have 3 channels, but got 4 channels" in error.message
    assert "Traceback" not in error.message


@pytest.mark.parametrize("example", ["not a tensor", torch.tensor(1.0), torch.zeros(0, 3)])
def test_example_inputs_that_are_no_batch(example: object) -> None:
    error = refusal(build("vgg"), example_inputs=[example])
    assert error.code is ErrorCode.INPUT_SHAPE_MISMATCH


def test_no_shape_at_all() -> None:
    assert refusal(build("vgg")).code is ErrorCode.INPUT_SHAPE_MISSING


@pytest.mark.parametrize("form", ["module", "scripted", "frozen"])
def test_weights_with_nan(form: str) -> None:
    network = build("resnet")
    with torch.no_grad():
        network.stages[1].conv2.weight[3, 2, 0, 1] = float("nan")
    error = refusal(as_form(network, form), input_shapes=SHAPES)
    assert error.code is ErrorCode.WEIGHTS_NOT_FINITE
    if form != "frozen":
        assert error.details["parameter"] == "stages.1.conv2.weight"


class BranchesOnBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 2:
            return torch.relu(x) * 2
        return x


@pytest.mark.parametrize("scripted", [False, True])
def test_network_that_depends_on_the_batch_size(scripted: bool) -> None:
    network = BranchesOnBatch()
    error = refusal(torch.jit.script(network) if scripted else network, input_shapes=[(1, 3)])
    assert error.code is ErrorCode.BATCH_DEPENDENT
    assert "depends on the batch size" in error.message


class ReturnsNumber(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return x, 3


def test_output_that_is_no_tensor() -> None:
    error = refusal(ReturnsNumber(), input_shapes=[(1, 3)])
    assert error.code is ErrorCode.CAPTURE_FAILED
    assert "int" in error.message


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.pt", input_shapes=SHAPES).code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_file_whose_inside_is_damaged(tmp_path: Path, suffix: str) -> None:
    whole, damaged = tmp_path / f"whole{suffix}", tmp_path / f"damaged{suffix}"
    if suffix == ".pt":
        torch.jit.script(build("vgg")).save(whole)
    else:
        shapes = ({0: torch.export.Dim("batch")},)
        exported = torch.export.export(build("vgg"), (samples(2),), dynamic_shapes=shapes)
        torch.export.save(exported, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            is_code = name.endswith((".py", "models/model.json"))
            target.writestr(name, b"nonsense(" if is_code else source.read(name))
    error = refusal(damaged, input_shapes=SHAPES)
    assert error.code is ErrorCode.CORRUPT_MODEL
    assert damaged.name in error.message


def test_whole_module_pickle_is_refused_with_the_way_to_convert(tmp_path: Path) -> None:
    torch.save(build("vgg"), tmp_path / "new.pt")
    torch.save(build("vgg"), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    architecture = Architecture(name="torchvision/vgg11")
    for file in tmp_path.iterdir():
        error = refusal(file, input_shapes=SHAPES, architecture=architecture)
        assert error.code is ErrorCode.UNSAFE_PICKLE
        assert "state_dict()" in error.hint


class TestStateDictRefusals:
    @pytest.fixture
    def weights(self, tmp_path: Path, torchvision: object) -> Path:
        from torchvision.models import squeezenet1_1

        torch.save(squeezenet1_1(num_classes=4).state_dict(), tmp_path / "weights.pt")
        return tmp_path / "weights.pt"

    def test_without_architecture(self, weights: Path) -> None:
        error = refusal(weights, input_shapes=SHAPES)
        assert error.code is ErrorCode.ARCHITECTURE_MISSING

    def test_unknown_architecture(self, weights: Path) -> None:
        architecture = Architecture(name="torchvision/squeezenet1_3")
        error = refusal(weights, input_shapes=SHAPES, architecture=architecture)
        assert error.code is ErrorCode.UNKNOWN_ARCHITECTURE
        assert "torchvision/squeezenet1_1" in error.hint

    @pytest.mark.parametrize("arguments", [{"depth": 3}, {"weights": "DEFAULT"}])
    def test_arguments_the_factory_refuses(
        self, weights: Path, arguments: dict[str, object]
    ) -> None:
        architecture = Architecture(name="torchvision/squeezenet1_1", arguments=arguments)
        error = refusal(weights, input_shapes=SHAPES, architecture=architecture)
        assert error.code is ErrorCode.ARCHITECTURE_ARGUMENTS

    def test_shapes_that_differ(self, weights: Path) -> None:
        architecture = Architecture(name="torchvision/squeezenet1_1", arguments={"num_classes": 9})
        error = refusal(weights, input_shapes=SHAPES, architecture=architecture)
        assert error.code is ErrorCode.STATE_DICT_MISMATCH
        assert "classifier.1.weight is [4, 512, 1, 1] and should be [9, 512, 1, 1]" in error.message

    def test_names_that_differ(self, weights: Path) -> None:
        architecture = Architecture(name="torchvision/vgg11")
        error = refusal(weights, input_shapes=SHAPES, architecture=architecture)
        assert error.code is ErrorCode.STATE_DICT_MISMATCH
        assert "features.3.squeeze.weight" in error.details["unexpected"]
        assert "classifier.0.weight" in error.details["missing"]

    def test_a_checkpoint_without_a_state_dict(self, tmp_path: Path) -> None:
        torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "checkpoint.pt")
        architecture = Architecture(name="torchvision/vgg11")
        error = refusal(tmp_path / "checkpoint.pt", input_shapes=SHAPES, architecture=architecture)
        assert error.code is ErrorCode.STATE_DICT_MISMATCH
        assert "'epoch'" in error.message

    def test_architecture_where_the_file_has_its_own_code(self) -> None:
        architecture = Architecture(name="torchvision/vgg11")
        error = refusal(build("vgg"), input_shapes=SHAPES, architecture=architecture)
        assert error.code is ErrorCode.ARCHITECTURE_ARGUMENTS


def test_program_is_the_public_one() -> None:
    assert isinstance(program_of("vgg"), Program)
