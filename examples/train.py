"""Train the example networks and write every file that examples/ ships.

    python -m examples.train                   both networks, then the data slices
    python -m examples.train fashion_vgg       one network
    python -m examples.train data              the data slices alone

The last 5,000 training images are held out: anything one may want to choose is chosen on
them. The test images are read once, after training, to state the accuracy.
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
from torch.nn import functional

from examples.data import Images, fashion_mnist
from examples.networks import NETWORKS

HERE = Path(__file__).resolve().parent
SEED = 20261124
EPOCHS = 12
BATCH = 128
HELD_OUT = 5_000
CALIBRATION = 256
TEST_SLICE = 2_000


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (n, 1, 28, 28) by chance and move it by up to two pixels each way."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (2, 2, 2, 2))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(0, 5, (2, count), generator=generator)
    moved = windows[torch.arange(count), :, down, right]
    mirror = torch.rand(count, generator=generator) < 0.5
    return torch.where(mirror[:, None, None, None], moved.flip(3), moved)


def accuracy(network: nn.Module, images: Images) -> float:
    """Top-1 accuracy of `network` in evaluation mode."""
    network.eval()
    hits = 0
    with torch.no_grad():
        for start in range(0, len(images), 500):
            part = images[start : start + 500]
            scores = network(torch.from_numpy(part.inputs))
            hits += int((scores.argmax(1) == torch.from_numpy(part.labels)).sum())
    return hits / len(images)


def train(name: str, images: Images) -> nn.Module:
    """A network of that name trained on all but the last `HELD_OUT` of `images`."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    network = NETWORKS[name]().to(memory_format=torch.channels_last)
    training, held_out = images[: len(images) - HELD_OUT], images[len(images) - HELD_OUT :]
    inputs, labels = torch.from_numpy(training.inputs), torch.from_numpy(training.labels)
    steps = len(training) // BATCH
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=EPOCHS * steps, pct_start=0.2
    )
    for epoch in range(EPOCHS):
        began, total = time.perf_counter(), 0.0
        network.train()
        for rows in torch.randperm(len(training), generator=generator)[: steps * BATCH].split(
            BATCH
        ):
            batch = augment(inputs[rows], generator).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                scores = network(batch)
            loss = functional.cross_entropy(scores.float(), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"{name} epoch {epoch + 1}/{EPOCHS}  loss {total / steps:.4f}  "
            f"held-out accuracy {accuracy(network, held_out):.4f}  "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )
    return network.to(memory_format=torch.contiguous_format).eval()


def write_network(name: str, network: nn.Module) -> None:
    """Write `network` as traced TorchScript and its state dict as safetensors."""
    traced = torch.jit.trace(network, torch.zeros(2, 1, 28, 28))
    torch.jit.save(traced, str(HERE / f"{name}.pt"))
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()},
        HERE / f"{name}.safetensors",
    )


def write_data() -> None:
    """Write 256 training images without labels and 2,000 test images with theirs."""
    rows = np.random.default_rng(SEED).permutation(60_000 - HELD_OUT)[:CALIBRATION]
    np.savez_compressed(
        HERE / "fashion_calibration.npz", inputs=fashion_mnist("train").inputs[np.sort(rows)]
    )
    test = fashion_mnist("t10k")[:TEST_SLICE]
    np.savez_compressed(HERE / "fashion_test.npz", inputs=test.inputs, labels=test.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", default=[*NETWORKS, "data"], help="networks, or data")
    for what in parser.parse_args().what:
        if what == "data":
            write_data()
            continue
        network = train(what, fashion_mnist("train"))
        write_network(what, network)
        figures = {
            "network": what,
            "parameters": sum(p.numel() for p in network.parameters()),
            "test_accuracy": accuracy(network, fashion_mnist("t10k")),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
