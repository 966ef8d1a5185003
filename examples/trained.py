"""The trained example networks with the data to compress and to measure them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

import intrafusion
from examples.data import DataSet, Labelled, data_for
from examples.networks import NETWORKS

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Trained:
    """One network, and the data that every method is given or measured on.

    Attributes:
        name: a key of `NETWORKS`.
        network: the trained network, in evaluation mode.
        program: the same from its TorchScript file, as a user would load it.
        calibration: 256 training samples without labels.
        held_out: 5,000 labelled samples on which anything may be chosen.
        test: labelled samples on which nothing may be chosen.
    """

    name: str
    network: nn.Module
    program: intrafusion.Program
    calibration: intrafusion.Dataset
    held_out: Labelled
    test: Labelled


def trained(names: Iterable[str] = NETWORKS) -> Iterator[Trained]:
    """The networks of these names, one after the other; a data set is fetched at first use."""
    for name in names:
        data = data_for(name)
        yield _trained(name, data)


def load_network(name: str) -> nn.Module:
    """The trained example network as an nn.Module in evaluation mode."""
    network = NETWORKS[name]()
    network.load_state_dict(load_file(HERE / f"{name}.safetensors"))
    return network.eval()


def load(network: Path | nn.Module, samples: Labelled) -> intrafusion.Program:
    """A network for such samples as a program, which is told their shape and dtype alone."""
    return intrafusion.load(
        network,
        input_shapes=[(1, *samples.inputs.shape[1:])],
        input_dtypes=[samples.inputs.dtype.name],
    )


def _trained(name: str, data: DataSet) -> Trained:
    program = load(HERE / f"{name}.pt", data.test)
    calibration = intrafusion.Dataset((torch.from_numpy(data.calibration),))
    return Trained(name, load_network(name), program, calibration, data.held_out, data.test)
