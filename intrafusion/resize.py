"""A compressed network's weights, put into the user's own class."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.utils import remove_spectral_norm, remove_weight_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.layer_sizes import follow_parameters, plain_norms_follow
from intrafusion.program import torch_private
from intrafusion.program.messages import reason_line
from intrafusion.program.plan import FoldedNorm, Plan
from intrafusion.program.reference import Reference
from intrafusion.written_sizes import guesses, uneven_heads, written_numbers

_Module = TypeVar("_Module", bound=nn.Module)
_SHOWN = 3


def resize_(module: _Module, file: str | Path, *, verify: bool = True) -> _Module:
    """Shrink a network's own `nn.Module` in place to a compressed file's sizes, and load it.

    Parameters keep their identity, device and dtype; `in_channels`, `num_features` and their kin
    follow, and so do the numbers of attention (`num_heads`, `head_dim`) where the outputs prove it.
    A batch norm that compression folded into the layer before it stays, as one that passes its
    input through in evaluation mode and has the statistics for further training.
    Biases appear where the fold made some; weight norm and spectral norm go, for the file has
    the weights that they made. An optimiser made before has states of the old sizes: make anew.

    Args:
        module: the network that was compressed, of the original sizes, with any weights.
        file: what `Program.save` wrote of the compressed program, as .safetensors.
        verify: run the module in evaluation mode and compare it with the outputs in the file.
            Turn it off where the module is not called as the program was: with one positional
            tensor per input.

    Returns `module`. It is left as it was where anything is raised.

    Raises `IntraFusionError`: `NOT_FOUND`, `CORRUPT_MODEL` and `PLAN_MISSING` for the file;
    `STATE_DICT_MISMATCH` where the file belongs to another network; `MODULE_NOT_RESIZABLE`
    where the module's code does not follow its parameters, such as a `view` to literal sizes.
    """
    saved = _read(Path(file))
    if isinstance(module, torch.jit.ScriptModule):
        raise IntraFusionError(
            ErrorCode.MODULE_NOT_RESIZABLE,
            "TorchScript has no parts that could change their sizes.",
            "Give the nn.Module, or use the compressed program saved as TorchScript.",
        )
    with torch.no_grad(), _restored_on_failure(module):
        numbers = written_numbers(module)
        _check_belongs(module, saved, _plain_weights(module, saved.tensors))
        changed = {*_load(module, saved), *_pass_through(module, saved.plan.folded)}
        for name in changed:
            follow_parameters(module.get_submodule(name), name, saved.groups)
        if verify:
            uneven = uneven_heads(module, numbers, saved.plan)
            _verify(module, saved, guesses(module, numbers, saved.plan), uneven)
    return module


# --- the file -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Saved:
    """What a file of a compressed program holds."""

    name: str
    tensors: Mapping[str, Tensor]
    plan: Plan
    groups: Mapping[str, int]
    reference: Reference | None


def _read(path: Path) -> _Saved:
    if not path.is_file():
        raise IntraFusionError(
            ErrorCode.NOT_FOUND, f"There is no file {str(path)!r}.", "Check the path."
        )
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise IntraFusionError(
            ErrorCode.CORRUPT_MODEL,
            f"{path.name} cannot be read as safetensors: {reason_line(error)}.",
            "Save the compressed program with the ending .safetensors.",
        ) from error
    if "plan" not in metadata:
        raise IntraFusionError(
            ErrorCode.PLAN_MISSING,
            f"{path.name} does not say what was removed from the network.",
            "Save the program that `compress` returned with the ending .safetensors.",
        )
    try:
        reference = metadata.get("reference")
        return _Saved(
            name=path.name,
            tensors=tensors,
            plan=Plan.model_validate_json(metadata["plan"]),
            groups={str(n): int(g) for n, g in json.loads(metadata.get("groups", "{}")).items()},
            reference=None if reference is None else Reference.model_validate_json(reference),
        )
    except (ValidationError, ValueError, AttributeError, TypeError) as error:
        raise IntraFusionError(
            ErrorCode.CORRUPT_MODEL,
            f"The plan in {path.name} cannot be read: {reason_line(error)}.",
            "Save the file again, by a version of intrafusion no newer than the one here.",
        ) from error


# --- all or nothing -----------------------------------------------------------------------


@contextmanager
def _restored_on_failure(module: nn.Module) -> Iterator[None]:
    """Give a module back its tensors, parts and attributes where the body raises."""
    parts = [(part, type(part), _shallow(vars(part))) for part in module.modules()]
    # Parametrised parts have a class each, with a property per weight.
    properties = [
        (type(part), leaf, vars(type(part))[leaf])
        for part in module.modules()
        for leaf in _parametrised(part)
    ]
    data = [(t, t.data, t.grad) for t in (*module.parameters(), *module.buffers())]
    try:
        yield
    except BaseException:
        for kind, leaf, computed in properties:
            setattr(kind, leaf, computed)
        for part, kind, attributes in parts:
            part.__class__ = kind
            vars(part).clear()
            vars(part).update(attributes)
        for tensor, values, gradient in data:
            tensor.data = values
            tensor.grad = gradient
        raise


def _parametrised(part: nn.Module) -> list[str]:
    """The names of the weights that `torch.nn.utils.parametrize` computes in a part."""
    if not is_parametrized(part):
        return []
    return [name for name, _ in part.get_submodule("parametrizations").named_children()]


def _shallow(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes, with copies of the dicts that hold a module's tensors, parts and hooks."""
    return {key: v.copy() if isinstance(v, dict) else v for key, v in attributes.items()}


# --- the work -----------------------------------------------------------------------------


def _plain_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> set[str]:
    """Make plain parameters of the weights that the file has and the module computes.

    Returns the names that the module had for what it computed them from.
    """
    before = _tensors(module).keys()
    for name, part in list(module.named_modules()):
        prefix = f"{name}." if name else ""
        for leaf in _parametrised(part):
            if prefix + leaf in tensors:
                remove_parametrizations(part, leaf)
        for leaf in [key.removesuffix("_g") for key in part._parameters if key.endswith("_g")]:
            if prefix + leaf in tensors and f"{leaf}_v" in part._parameters:
                remove_weight_norm(part, leaf)
        for leaf in [k.removesuffix("_orig") for k in part._parameters if k.endswith("_orig")]:
            if prefix + leaf in tensors and f"{leaf}_u" in part._buffers:
                remove_spectral_norm(part, leaf)
    return before - _tensors(module).keys()


def _check_belongs(module: nn.Module, saved: _Saved, gone: set[str]) -> None:
    """Check names and shapes of the file against the module, which once had the names `gone`."""
    own = _tensors(module)
    temporary = {n for n in own if n not in module.state_dict(keep_vars=True)}
    missing = [
        n
        for n in own
        if n not in saved.tensors
        and n not in temporary
        and not n.endswith("num_batches_tracked")
        and n.rpartition(".")[0] not in saved.plan.folded
    ]
    known = {*own, *gone, *saved.plan.biases, *saved.plan.constants}
    foreign = [n for n in saved.tensors if n not in known]
    foreign += [n for n in saved.plan.folded if not _is_norm(module, n)]
    shapes = [
        f"{n} is {list(own[n].shape)} and was {list(saved.plan.shapes.get(n, t.shape))}"
        for n, t in saved.tensors.items()
        if n in own and own[n].shape not in (t.shape, saved.plan.shapes.get(n))
    ]
    problems = [
        f"{what} {', '.join(found[:_SHOWN])}"
        + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        for what, found in (
            ("the file lacks", missing),
            ("the module lacks", foreign),
            ("in the module", shapes),
        )
        if found
    ]
    if problems:
        raise IntraFusionError(
            ErrorCode.STATE_DICT_MISMATCH,
            f"{saved.name} was not made from this network: {'; '.join(problems)}.",
            "Build the module as it was before it was compressed, of the same class and with the "
            "same arguments.",
            missing=missing,
            unexpected=foreign,
            shapes=shapes,
        )


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer under all its names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _is_norm(module: nn.Module, name: str) -> bool:
    part = dict(module.named_modules(remove_duplicate=False)).get(name)
    return isinstance(getattr(part, "running_mean", None), Tensor) and hasattr(part, "eps")


def _load(module: nn.Module, saved: _Saved) -> set[str]:
    """Put the file's tensors in their places; returns the names of modules that changed sizes."""
    own = _tensors(module)
    changed = {
        name.rpartition(".")[0]
        for name, tensor in saved.tensors.items()
        if name in own and own[name].shape != tensor.shape
    }
    for name, tensor in saved.tensors.items():
        if name in own:
            _replace(own[name], tensor)
        elif name in saved.plan.biases:
            _add_bias(module, name, tensor)
    return changed


def _replace(held: Tensor, values: Tensor) -> None:
    """New values, of any shape, for a parameter or buffer, on its device and of its dtype."""
    # A new storage: the old one is what a failure goes back to, and may be shared.
    held.data = values.to(device=held.device, dtype=held.dtype, copy=True)
    held.grad = None


def _add_bias(module: nn.Module, name: str, values: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    layer = dict(module.named_modules(remove_duplicate=False)).get(owner)
    weight = getattr(layer, "weight", None)
    free = layer is not None and leaf in layer._parameters and layer._parameters[leaf] is None
    if layer is None or not free or not isinstance(weight, Tensor):
        raise IntraFusionError(
            ErrorCode.MODULE_NOT_RESIZABLE,
            f"Batch norm was folded into a bias, {name}, for which the module has no place.",
            "Make the weight one of an nn.Conv or nn.Linear layer, whose bias may be None.",
            name=name,
        )
    bias = values.to(device=weight.device, dtype=weight.dtype, copy=True)
    layer.register_parameter(leaf, nn.Parameter(bias, requires_grad=weight.requires_grad))


def _pass_through(module: nn.Module, folded: Mapping[str, FoldedNorm]) -> Iterator[str]:
    """Make norms that are folded give what they are given; yields their names.

    With the mean m and variance v of the input as statistics, γ = √(v + ε) and β = m do so in
    evaluation, and all but do so on a batch in training.
    """
    for name, norm in folded.items():
        part: Any = module.get_submodule(name)
        mean, variance = torch.tensor(norm.mean), torch.tensor(norm.variance)
        if isinstance(part.weight, Tensor):
            _replace(part.weight, (variance + part.eps).sqrt())
            _replace(part.bias, mean)
        else:
            mean, variance = torch.zeros_like(mean), torch.full_like(variance, 1 - part.eps)
        _replace(part.running_mean, mean)
        _replace(part.running_var, variance)
        yield name


# --- the proof ----------------------------------------------------------------------------


def _verify(module: nn.Module, saved: _Saved, attempts: Iterator[None], uneven: str | None) -> None:
    """Find the first of `attempts` at which the module's outputs are those in the file.

    `uneven` says which heads have several widths now, which is why there may be none.
    """
    reference = saved.reference
    if reference is None:
        warnings.warn(
            f"{saved.name} has no outputs to compare the resized module with: compare them "
            "yourself, for code with literal sizes may compute something else.",
            stacklevel=3,
        )
        return
    refusal = None
    for _ in attempts:
        try:
            _compare(module, saved, reference)
            return
        except IntraFusionError as error:
            refusal = error
    if refusal is not None and uneven is not None:
        raise IntraFusionError(
            ErrorCode.MODULE_NOT_RESIZABLE,
            f"The module cannot have the new sizes: {uneven}.",
            'Compress with attention="heads", which removes heads and leaves their width, or '
            "exclude the queries, keys and values. Or use the TorchScript or .pt2 file.",
        ) from refusal
    if refusal is not None:
        raise refusal


def _compare(module: nn.Module, saved: _Saved, reference: Reference) -> None:
    """Compare the module's outputs with those in the file."""
    some = next(module.parameters(), torch.zeros(()))
    inputs = [
        x.to(some.device, some.dtype if x.is_floating_point() else x.dtype)
        for x in (i.tensor() for i in reference.inputs)
    ]
    flags = [(part, part.training) for part in module.modules()]
    try:
        with plain_norms_follow(module):
            found, _ = torch_private.flatten(module.eval()(*inputs))
    except Exception as error:
        raise _does_not_follow(f"raises with them: {reason_line(error)}") from error
    finally:
        for part, training in flags:
            part.training = training
    narrowest = max(
        torch.finfo(t.dtype).eps
        for t in (some, *saved.tensors.values(), torch.zeros(()))
        if t.is_floating_point()
    )
    if not reference.agrees(found, max(1e-3, 100 * narrowest)):
        raise _does_not_follow("gives other outputs than the compressed network")


def _does_not_follow(what: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.MODULE_NOT_RESIZABLE,
        f"The module takes the new sizes, but {what}.",
        "Its forward probably has a size written out, such as x.view(-1, 512): take sizes from "
        "the tensors (x.flatten(1), x.shape[1]). Or use the TorchScript or .pt2 file. If the "
        "module is called in another way than the program, pass verify=False.",
    )
