"""Train the example networks and write every file that examples/ ships.

    python -m examples.train                   all networks, then the data slices
    python -m examples.train fashion_vgg       one network
    python -m examples.train data              the data slices alone

The last 5,000 training samples are held out: anything one may want to choose is chosen on
them. The test samples are read once, after training, to state the accuracy.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from examples.data import DATA, SEED, DataSet, Labelled, data_for
from examples.networks import NETWORKS
from examples.recipes import RECIPES

HERE = Path(__file__).resolve().parent
BATCH = 128
TEST_SLICE = 2_000


def accuracy(network: nn.Module, samples: Labelled) -> float:
    """Top-1 accuracy of `network` in evaluation mode."""
    network.eval()
    hits = 0
    with torch.no_grad():
        for start in range(0, len(samples), 500):
            part = samples[start : start + 500]
            scores = network(torch.from_numpy(part.inputs))
            hits += int((scores.argmax(1) == torch.from_numpy(part.labels)).sum())
    return hits / len(samples)


def train(name: str, data: DataSet) -> nn.Module:
    """A network of that name, trained on `data.training`."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    recipe = RECIPES[name]
    network = NETWORKS[name]().to(memory_format=torch.channels_last)
    inputs, labels = torch.from_numpy(data.training.inputs), torch.from_numpy(data.training.labels)
    steps = len(inputs) // BATCH
    optimizer = recipe.optimizer(network)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.rate, total_steps=recipe.epochs * steps, pct_start=0.2
    )
    for epoch in range(recipe.epochs):
        began, total = time.perf_counter(), 0.0
        network.train()
        for rows in torch.randperm(len(inputs), generator=generator)[: steps * BATCH].split(BATCH):
            batch = _channels_last(recipe.augment(inputs[rows], generator))
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                loss = recipe.loss(network, batch, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"{name} epoch {epoch + 1}/{recipe.epochs}  loss {total / steps:.4f}  "
            f"held-out accuracy {accuracy(network, data.held_out):.4f}  "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )
    return network.to(memory_format=torch.contiguous_format).eval()


def _channels_last(batch: Tensor) -> Tensor:
    return batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch


def write_network(name: str, network: nn.Module, data: DataSet) -> None:
    """Write `network` as traced TorchScript and its state dict as safetensors."""
    traced = torch.jit.trace(network, torch.from_numpy(data.test.inputs[:2]))
    torch.jit.save(traced, str(HERE / f"{name}.pt"))
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()},
        HERE / f"{name}.safetensors",
    )


def write_data() -> None:
    """Write 256 training images without labels and 2,000 test images with theirs, per data set.

    Tones are made faster than they are read.
    """
    for name in DATA:
        if name != "tones":
            data = DATA[name]()
            test = data.test[:TEST_SLICE]
            np.savez_compressed(HERE / f"{name}_calibration.npz", inputs=data.calibration)
            np.savez_compressed(HERE / f"{name}_test.npz", inputs=test.inputs, labels=test.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", default=[*NETWORKS, "data"], help="networks, or data")
    for what in parser.parse_args().what:
        if what == "data":
            write_data()
            continue
        data = data_for(what)
        network = train(what, data)
        write_network(what, network, data)
        figures = {
            "network": what,
            "parameters": sum(p.numel() for p in network.parameters()),
            "test_accuracy": accuracy(network, data.test),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
