"""Values put aside between two steps of a run: in memory up to a limit, on disk above it."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from intrafusion.program.torch_private import flatten, unflatten


class Shelf:
    """Holds tensors, and nests of them, under keys; a context that leaves no file behind.

    Up to `room` bytes stay in memory, where they are; what is more goes to disk.
    """

    def __init__(self, room: int) -> None:
        self._free = room
        self._held: dict[Hashable, Any] = {}
        self._files: dict[Hashable, Path] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._written = 0

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._held or key in self._files

    def put(self, key: Hashable, value: Any) -> None:
        """Keep `value` under a new `key`."""
        size = _bytes(value)
        if size <= self._free:
            self._free -= size
            self._held[key] = value
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="intrafusion-")
        self._written += 1
        path = Path(self._folder.name) / str(self._written)
        torch.save(_compact(value), path)
        self._files[key] = path

    def get(self, key: Hashable) -> Any:
        """What was put under `key`."""
        if key in self._held:
            return self._held[key]
        return torch.load(self._files[key], weights_only=True)

    def take(self, key: Hashable) -> Any:
        """What was put under `key`, which is free again."""
        value = self.get(key)
        self.drop(key)
        return value

    def drop(self, key: Hashable) -> None:
        """Forget what was put under `key`."""
        if key in self._held:
            self._free += _bytes(self._held.pop(key))
        else:
            self._files.pop(key).unlink()


def _bytes(value: Any) -> int:
    leaves, _ = flatten(value)
    return sum(x.untyped_storage().nbytes() for x in leaves if isinstance(x, Tensor))


def _compact(value: Any) -> Any:
    """The same without what else lies in the tensors' storages."""
    leaves, nesting = flatten(value)
    return unflatten([x.clone() if isinstance(x, Tensor) else x for x in leaves], nesting)
