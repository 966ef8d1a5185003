"""State dicts: weights from a file into the module of an architecture."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.messages import reason_line
from intrafusion.program.sniff import HOW_TO_CONVERT, Kind

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "ema")
"""The keys under which training scripts keep the state dict in a checkpoint."""

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What DataParallel, torch.compile and wrappers put before every name."""

_SHOWN = 3


def read_state_dict(path: Path, kind: Kind) -> dict[str, Tensor]:
    """The tensors of a state dict on the CPU, unwrapped from a checkpoint around it.

    Raises `IntraFusionError` with `CORRUPT_MODEL`, `UNSAFE_PICKLE`, or `STATE_DICT_MISMATCH`
    where the file has no state dict.
    """
    try:
        if kind == "safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise IntraFusionError(
            ErrorCode.UNSAFE_PICKLE,
            f"{path.name} is a pickle of more than tensors; loading such a file runs code.",
            HOW_TO_CONVERT,
        ) from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise IntraFusionError(
            ErrorCode.CORRUPT_MODEL,
            f"{path.name} cannot be read: {reason_line(error)}.",
            "Save it again, and compare its sha256 with the original's.",
        ) from error
    return _unwrapped(loaded, path.name)


def _unwrapped(loaded: Any, name: str) -> dict[str, Tensor]:
    if _is_state_dict(loaded):
        return dict(loaded)
    if isinstance(loaded, Mapping):
        for key in _WRAPPERS:
            if _is_state_dict(loaded.get(key)):
                return dict(loaded[key])
    found = (
        f"a dict of {', '.join(map(repr, list(loaded)[:_SHOWN]))}"
        if isinstance(loaded, Mapping)
        else f"a {type(loaded).__name__}"
    )
    raise IntraFusionError(
        ErrorCode.STATE_DICT_MISMATCH,
        f"{name} holds {found}, which is no state dict.",
        "Save model.state_dict() alone, or under the key 'state_dict'.",
    )


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Load a state dict into a module; returns notes for the user.

    A prefix that all names share and the module does not know is dropped.

    Raises `IntraFusionError` with `STATE_DICT_MISMATCH` where a name is missing or too many,
    or a shape is another.
    """
    own = module.state_dict()
    state = _without_prefix(state, own)
    # Checkpoints older than torch 0.4.1 lack this counter, which evaluation never reads.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    shapes = [
        f"{k} is {list(state[k].shape)} and should be {list(own[k].shape)}"
        for k in state
        if k in own and state[k].shape != own[k].shape
    ]
    problems = list(_problems(missing, unexpected, shapes))
    if problems:
        raise IntraFusionError(
            ErrorCode.STATE_DICT_MISMATCH,
            f"The state dict does not fit the architecture: {'; '.join(problems)}.",
            "Name the architecture and the arguments with which the network was made, such as "
            "its number of classes.",
            missing=missing,
            unexpected=unexpected,
            shapes=shapes,
        )
    module.load_state_dict(dict(state), strict=False)
    converted = sorted(
        {
            f"{state[k].dtype} to {own[k].dtype}".replace("torch.", "")
            for k in state
            if state[k].dtype != own[k].dtype
        }
    )
    return tuple(f"Tensors of the state dict were converted from {c}." for c in converted)


def _problems(missing: list[str], unexpected: list[str], shapes: list[str]) -> Iterator[str]:
    for what, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"{what} {', '.join(names[:_SHOWN])}{more}"
    if shapes:
        more = f" and {len(shapes) - _SHOWN} more" if len(shapes) > _SHOWN else ""
        yield ", ".join(shapes[:_SHOWN]) + more


def _without_prefix(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    while not (state.keys() & own.keys()):
        prefix = next((p for p in _PREFIXES if all(k.startswith(p) for k in state)), None)
        if prefix is None:
            break
        state = {k.removeprefix(prefix): v for k, v in state.items()}
    return state
