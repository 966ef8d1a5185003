"""Files to upload: a network in several forms, and samples that fit it or do not."""

from __future__ import annotations

import io

import numpy as np
import torch
from safetensors.torch import save

from tests.networks import CLASSES, INPUT_SHAPE, build, samples

NETWORK = "vgg"


def torchscript() -> bytes:
    """The network as a traced TorchScript file."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(build(NETWORK).eval(), samples(2)), file)
    return file.getvalue()


def state_dict() -> bytes:
    """The network's parameters as safetensors."""
    return bytes(save({k: v.contiguous() for k, v in build(NETWORK).state_dict().items()}))


def inputs(count: int = 192) -> np.ndarray:
    """Samples that fit the network."""
    found: np.ndarray = samples(count).numpy()
    return found


def labels(count: int = 192) -> np.ndarray:
    """One class for each sample."""
    return np.arange(count) % CLASSES


def npz(**arrays: np.ndarray) -> bytes:
    """Samples as an .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


SHAPE = [1, *INPUT_SHAPE]
