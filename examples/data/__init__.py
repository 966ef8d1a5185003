"""Labelled data for the example networks, real where it can be had from a package registry."""

from __future__ import annotations

from collections.abc import Callable

from examples.data import fashion, mnist, text, tones
from examples.data.labelled import HELD_OUT, SEED, DataSet, Labelled

__all__ = ["DATA", "HELD_OUT", "SEED", "DataSet", "Labelled", "data_for"]

DATA: dict[str, Callable[[], DataSet]] = {
    "fashion": fashion.read,
    "mnist": mnist.read,
    "text": text.read,
    "tones": tones.make,
}


def data_for(network: str) -> DataSet:
    """The data set that the example network of that name is for."""
    return DATA[network.partition("_")[0]]()
