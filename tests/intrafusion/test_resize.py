"""Compressed weights in the user's own class."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import intrafusion
from intrafusion import CompressionSpec, ErrorCode, IntraFusionError, Program, resize_
from intrafusion.channels import analyse, remove
from intrafusion.folding import fold_batch_norm
from intrafusion.planning import plan_of
from tests.networks import INPUT_SHAPE, NETWORKS, build, samples, settle


def shrunk(network: nn.Module, *shapes: tuple[int, ...], sparsity: float = 0.5) -> Program:
    program = intrafusion.load(network, input_shapes=[(1, *shape) for shape in shapes])
    spec = CompressionSpec(sparsity=sparsity, compensation="none")
    return intrafusion.compress(program, spec, device="cpu").program


def cut(network: nn.Module, *shapes: tuple[int, ...]) -> Program:
    """The network with the first half of every group's units, and the plan of that."""
    program = intrafusion.load(network, input_shapes=[(1, *shape) for shape in shapes])
    folded = fold_batch_norm(program)
    analysis = analyse(folded.program)
    kept = {group: torch.arange(max(1, len(group) // 2)) for group in analysis.groups}
    removal = remove(analysis, kept)
    return replace(removal.program, plan=plan_of(program, folded, removal))


def agree(module: nn.Module, program: Program, *inputs: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(*inputs), program(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_module_with_other_weights_becomes_the_compressed_network(
    tmp_path: Path, name: str
) -> None:
    program = shrunk(build(name), INPUT_SHAPE)
    path = program.save(tmp_path / "net.safetensors")
    module = build(name, seed=5)
    assert resize_(module, path) is module
    agree(module, program, samples(7))
    assert sum(p.numel() for p in module.parameters()) < 0.6 * sum(
        p.numel() for p in build(name).parameters()
    )
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            assert part.weight.shape[:2] == (part.out_channels, part.in_channels // part.groups)
        if isinstance(part, nn.BatchNorm2d):
            assert part.num_features == len(part.running_mean) == len(part.weight)
        if isinstance(part, nn.Linear):
            assert tuple(part.weight.shape) == (part.out_features, part.in_features)


class Parts(nn.Module):
    """A convolutional network of one kind of layer after another, to be pruned through."""

    def __init__(self, *parts: nn.Module, flat: bool = False) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        x = self.parts(x)
        return x.flatten(2).mean(2) if self.flat else x


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.inward = nn.Linear(6, 8)
        self.rnn = kind(8, 12, num_layers=2, batch_first=True)
        self.outward = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(self.inward(x).relu())
        return self.outward(y[:, -1])


class Words(nn.Module):
    """An embedding that is also the output layer, around a feed-forward block with norms."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.norm = nn.LayerNorm(16)
        self.up = nn.Linear(16, 32)
        self.down = nn.Linear(32, 16)
        self.last = nn.LayerNorm(16)
        self.unembed = nn.Linear(16, 30, bias=False)
        self.unembed.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) * self.scale
        x = x + self.down(self.up(self.norm(x)).relu())
        return self.unembed(self.last(x))


def grouped() -> nn.Module:
    return Parts(
        nn.Conv2d(3, 16, 3, bias=False),
        nn.BatchNorm2d(16, affine=False),
        nn.PReLU(16),
        nn.Conv2d(16, 16, 3, groups=4),
        nn.GroupNorm(4, 16),
        nn.ConvTranspose2d(16, 8, 2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 5, 1),
        flat=True,
    )


def normed(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return Parts(wrap(nn.Conv2d(3, 8, 3)), nn.ReLU(), wrap(nn.Conv2d(8, 5, 3)), flat=True)


MADE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "grouped": (grouped, (3, 12, 12)),
    "lstm": (lambda: Recurrent(nn.LSTM), (4, 6)),
    "gru": (lambda: Recurrent(nn.GRU), (4, 6)),
    "weight_norm": (lambda: normed(parametrizations.weight_norm), (3, 8, 8)),
    "spectral_norm": (lambda: normed(parametrizations.spectral_norm), (3, 8, 8)),
    "old_weight_norm": (lambda: normed(weight_norm), (3, 8, 8)),
    "old_spectral_norm": (lambda: normed(spectral_norm), (3, 8, 8)),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", MADE)
def test_every_kind_of_layer(tmp_path: Path, name: str) -> None:
    make, shape = MADE[name]
    torch.manual_seed(0)
    program = cut(settle(make().eval()), shape)
    module = make()
    size = sum(p.numel() for p in module.parameters())
    assert program.parameter_count < 0.6 * size
    resize_(module, program.save(tmp_path / "net.safetensors"))
    agree(module, program, torch.randn(5, *shape))


def test_tied_parameters_stay_tied(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 30, (2, 7))
    program = intrafusion.load(Words().eval(), example_inputs=tokens)
    small = intrafusion.compress(program, CompressionSpec(compensation="none")).program
    module = Words()
    resize_(module, small.save(tmp_path / "net.safetensors"))
    agree(module, small, tokens)
    assert module.unembed.weight is module.embed.weight
    assert module.norm.normalized_shape == (8,)
    assert module.last.normalized_shape == (8,)
    assert (module.embed.num_embeddings, module.embed.embedding_dim) == (30, 8)
    assert module.unembed.in_features == 8


class Centred(nn.Module):
    """A norm without scale and offset: nothing says its width but what it is given."""

    def __init__(self, learnt: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)
        self.norm = nn.LayerNorm(16, elementwise_affine=learnt)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)))


def test_layer_norm_without_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = shrunk(Centred().eval(), (6,))
    module = resize_(Centred(), program.save(tmp_path / "net.safetensors"))
    agree(module, program, torch.randn(5, 6))
    assert module.norm.normalized_shape == (8,)


def test_half_precision_module_keeps_its_dtype(tmp_path: Path) -> None:
    program = shrunk(build("vgg"), INPUT_SHAPE)
    module = resize_(build("vgg", seed=5).half(), program.save(tmp_path / "net.safetensors"))
    assert {t.dtype for t in module.parameters()} == {torch.float16}
    x = samples(3)
    torch.testing.assert_close(module(x.half()).float(), program(x), rtol=0.02, atol=0.02)


# --- further training ---------------------------------------------------------------------


def test_folded_norms_hold_the_statistics_of_what_they_are_given(tmp_path: Path) -> None:
    network = build("vgg")
    x = samples(256)
    network.train()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        for _ in range(3):
            network(x)
    program = shrunk(network.eval(), INPUT_SHAPE, sparsity=0.1)
    module = resize_(build("vgg", seed=5), program.save(tmp_path / "net.safetensors"))
    seen: list[Tensor] = []
    module.features[1].register_forward_pre_hook(lambda part, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        module.eval()(x)
    (given,) = seen
    norm = module.features[1]
    spread = given.std((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, given.mean((0, 2, 3)), rtol=0.2, atol=0.1)
    torch.testing.assert_close(norm.running_var.sqrt(), spread, rtol=0.3, atol=0.1)


def test_resized_module_trains_on(tmp_path: Path) -> None:
    program = shrunk(build("resnet"), INPUT_SHAPE)
    module = resize_(build("resnet"), program.save(tmp_path / "net.safetensors")).train()
    assert all(p.requires_grad for p in module.parameters())
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    x, labels = samples(64), torch.arange(64) % 10
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(module(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


def test_training_flags_stay(tmp_path: Path) -> None:
    path = shrunk(build("vgg"), INPUT_SHAPE).save(tmp_path / "net.safetensors")
    module = build("vgg").train()
    module.features[0].eval()
    resize_(module, path)
    assert module.training
    assert not module.features[0].training


def test_resizing_twice_loads_again(tmp_path: Path) -> None:
    program = shrunk(build("vgg"), INPUT_SHAPE)
    path = program.save(tmp_path / "net.safetensors")
    module = resize_(build("vgg", seed=5), path)
    with torch.no_grad():
        module.classifier[0].weight.zero_()
    agree(resize_(module, path), program, samples(3))


def test_second_compression_fits_the_original_class(tmp_path: Path) -> None:
    program = shrunk(build("resnet"), INPUT_SHAPE)
    again = intrafusion.compress(program, CompressionSpec(compensation="none")).program
    module = resize_(build("resnet", seed=5), again.save(tmp_path / "net.safetensors"))
    agree(module, again, samples(3))


# --- what does not go ---------------------------------------------------------------------


class Written(nn.Module):
    """A size written out: it fits the original's channels alone."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.view(self.conv(x).relu()))


@pytest.mark.parametrize(
    ("view", "what"),
    [
        (lambda y: y.view(-1, 8, 256).mean(2), "raises with them"),
        (lambda y: y.mean((2, 3)) * (y.shape[1] / 8), "gives other outputs"),
    ],
)
def test_size_that_is_written_out(
    tmp_path: Path, view: Callable[[Tensor], Tensor], what: str
) -> None:
    program = shrunk(Written(view).eval(), INPUT_SHAPE)
    path = program.save(tmp_path / "net.safetensors")
    module = Written(view).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    held = module.conv.weight
    with pytest.raises(IntraFusionError, match=what) as caught:
        resize_(module, path)
    assert caught.value.code is ErrorCode.MODULE_NOT_RESIZABLE
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)
    assert module.conv.weight is held
    assert (module.conv.out_channels, module.fc.in_features) == (8, 8)
    assert module.training
    resize_(module, path, verify=False)
    assert module.conv.out_channels == 4


class MixedHeads(nn.Module):
    """LeViT's attention: keys and values of different widths, from one layer within another."""

    def __init__(self, with_queries: bool) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.val_dim = 3, 4, 8
        self.key_attn_dim, self.val_attn_dim = 12, 24
        self.scale, self.parts = 4**-0.5, 2 if with_queries else 1
        self.q = nn.Linear(10, 12)
        self.kv = nn.Sequential(nn.Linear(10, 3 * (4 * self.parts + 8)))
        self.project = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        parts = self.kv(x).view(batch, length, self.num_heads, -1)
        widths = [self.key_dim] * self.parts + [self.val_dim]
        *given, v = parts.transpose(1, 2).split(widths, 3)
        if self.parts == 1:
            own = self.q(x).view(batch, length, self.num_heads, self.key_dim)
            given = [own.transpose(1, 2), *given]
        q, k = given
        y = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return self.project(y.transpose(1, 2).reshape(batch, length, self.val_attn_dim))


@pytest.mark.parametrize("with_queries", [True, False])
def test_heads_of_keys_and_values_of_different_widths(tmp_path: Path, with_queries: bool) -> None:
    torch.manual_seed(0)
    network = MixedHeads(with_queries)
    program = shrunk(network, (7, 10), sparsity=0.4)
    resize_(network, program.save(tmp_path / "net.safetensors"))
    assert (network.key_dim, network.val_dim, network.val_attn_dim) == (2, 5, 15)
    agree(network, program, torch.randn(3, 7, 10))


def test_failure_gives_weight_norm_and_missing_biases_back(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.rest = Written(lambda y: y.view(-1, 8, 256).mean(2))
            self.rest.conv = parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1))

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(self.norm(self.first(x)).relu())

    path = shrunk(settle(Net().eval()), INPUT_SHAPE).save(tmp_path / "net.safetensors")
    module = Net().eval()
    expected = module(samples(2))
    names = list(module.state_dict())
    with pytest.raises(IntraFusionError, match="raises with them"):
        resize_(module, path)
    assert list(module.state_dict()) == names
    assert module.first.bias is None
    torch.testing.assert_close(module(samples(2)), expected, rtol=0, atol=0)


def refused(module: nn.Module, path: Path) -> IntraFusionError:
    with pytest.raises(IntraFusionError) as caught:
        resize_(module, path)
    return caught.value


def test_file_of_another_network(tmp_path: Path) -> None:
    path = shrunk(build("vgg"), INPUT_SHAPE).save(tmp_path / "net.safetensors")
    error = refused(build("resnet"), path)
    assert error.code is ErrorCode.STATE_DICT_MISMATCH
    assert "the file lacks stem.0.weight" in error.message
    assert "the module lacks classifier.0.bias" in error.message


def test_module_of_another_width(tmp_path: Path) -> None:
    path = shrunk(build("vgg"), INPUT_SHAPE).save(tmp_path / "net.safetensors")
    module = build("vgg")
    module.classifier[3] = nn.Linear(24, 10)
    error = refused(module, path)
    assert error.code is ErrorCode.STATE_DICT_MISMATCH
    assert "classifier.3.weight is [10, 24] and was [10, 20]" in error.message


def test_module_without_the_norm_that_was_folded(tmp_path: Path) -> None:
    path = shrunk(build("vgg"), INPUT_SHAPE).save(tmp_path / "net.safetensors")
    module = build("vgg")
    module.features[1] = nn.Identity()
    error = refused(module, path)
    assert error.code is ErrorCode.STATE_DICT_MISMATCH
    assert "features.1" in error.message


def test_file_without_a_plan(tmp_path: Path) -> None:
    save_file(dict(build("vgg").state_dict()), tmp_path / "net.safetensors")
    assert refused(build("vgg"), tmp_path / "net.safetensors").code is ErrorCode.PLAN_MISSING


def test_file_that_is_none(tmp_path: Path) -> None:
    assert refused(build("vgg"), tmp_path / "net.safetensors").code is ErrorCode.NOT_FOUND
    path = shrunk(build("vgg"), INPUT_SHAPE).save(tmp_path / "net.pt")
    assert refused(build("vgg"), path).code is ErrorCode.CORRUPT_MODEL


def rewritten(path: Path, **changes: str | None) -> Path:
    """The file with other metadata."""
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), **changes}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = {key: value for key, value in metadata.items() if value is not None}
    save_file(tensors, path, metadata=kept)
    return path


@pytest.mark.parametrize(
    "changes", [{"plan": "{"}, {"plan": '{"shapes": 3}'}, {"groups": "[1]"}, {"reference": "{}"}]
)
def test_plan_that_cannot_be_read(tmp_path: Path, changes: dict[str, str]) -> None:
    path = shrunk(build("vgg"), INPUT_SHAPE).save(tmp_path / "net.safetensors")
    assert refused(build("vgg"), rewritten(path, **changes)).code is ErrorCode.CORRUPT_MODEL


def test_file_without_outputs_to_compare_says_so(tmp_path: Path) -> None:
    program = shrunk(build("vgg"), INPUT_SHAPE)
    path = rewritten(program.save(tmp_path / "net.safetensors"), reference=None)
    with pytest.warns(UserWarning, match="no outputs to compare"):
        module = resize_(build("vgg", seed=5), path)
    agree(module, program, samples(3))


def test_torchscript_has_no_parts_to_resize(tmp_path: Path) -> None:
    path = shrunk(build("vgg"), INPUT_SHAPE).save(tmp_path / "net.safetensors")
    error = refused(torch.jit.script(build("vgg")), path)
    assert error.code is ErrorCode.MODULE_NOT_RESIZABLE


def test_metadata_holds_nobodys_samples(tmp_path: Path) -> None:
    x = samples(2, seed=9)
    program = intrafusion.load(build("vgg"), example_inputs=x)
    small = intrafusion.compress(program, CompressionSpec(compensation="none")).program
    path = small.save(tmp_path / "net.safetensors")
    with safe_open(path, "pt") as file:
        reference = json.loads(file.metadata()["reference"])
    assert reference["inputs"] == [{"shape": [2, *INPUT_SHAPE], "dtype": "float32", "high": 0}]
