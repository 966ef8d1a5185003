"""An accelerator that is none, for machines without a GPU: as strict as CUDA, as exact as the CPU.

`accelerator.cpp` is a device for torch with the CPU's memory and kernels, which refuses tensors of
different devices where CUDA would. What CUDA takes and what it lacks stands in the list of
operations that comes with torch.
"""

from __future__ import annotations

import ctypes
import fcntl
import re
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torchgen

NAME = "pretend"
SOURCE = Path(__file__).with_name("accelerator.cpp")


class Accelerator:
    """The device, for as long as the process lives: torch forgets none."""

    def __init__(self, library: Path) -> None:
        torch.utils.rename_privateuse1_backend(NAME)
        torch._register_device_module(NAME, _module())
        torch.ops.load_library(str(library))
        self._library = ctypes.CDLL(str(library))
        self._library.accelerator_bytes_to_host.restype = ctypes.c_longlong
        self._library.accelerator_waits.restype = ctypes.c_longlong
        rules = ["\n".join(names).encode() for names in _rules()]
        self._library.accelerator_rules(*rules)
        self.device = torch.device(NAME, 0)

    @property
    def bytes_to_host(self) -> int:
        """Bytes copied from it to the CPU so far; numbers taken by `item` are not counted."""
        copied: int = self._library.accelerator_bytes_to_host()
        return copied

    @property
    def waits(self) -> int:
        """How often the CPU had to wait for it so far: copies to the CPU, and numbers taken."""
        waited: int = self._library.accelerator_waits()
        return waited


def build(folder: Path) -> Path:
    """The compiled device in `folder`, where it may lie already; compiling takes half a minute.

    Raises `subprocess.CalledProcessError` where the compiler fails.
    """
    torch_folder, library = Path(torch.__file__).parent, folder / "accelerator.so"
    include = torch_folder / "include"
    command = [
        *("g++", "-std=c++20", "-O0", "-fPIC", "-shared"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(f"-I{path}" for path in (include, include / "torch" / "csrc" / "api" / "include")),
        str(SOURCE),
        *(f"-L{torch_folder / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10"),
    ]
    with (folder / "accelerator.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of the same test run want it too
        if not library.exists():
            unfinished = library.with_suffix(".part")
            subprocess.run([*command, "-o", str(unfinished)], check=True)
            unfinished.rename(library)
    return library


def _module() -> ModuleType:
    """What torch looks for as `torch.pretend`."""
    module: Any = ModuleType(NAME)
    module._lazy_init = lambda: None
    module._is_in_bad_fork = lambda: False
    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.device = nullcontext
    return module  # type: ignore[no-any-return]


def _rules() -> tuple[set[str], set[str], set[str]]:
    """Operations that take numbers from the CPU as tensors, those that CUDA has no kernel for, and
    those that have one of their own for sparse tensors.

    The names are with their overloads, as `aten::add.Tensor`.
    """
    path = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    with_numbers, on_cpu, on_cuda, sparse = (set[str]() for _ in range(4))
    for entry in path.read_text().split("\n- func: ")[1:]:
        name = f"aten::{entry.partition('(')[0]}"
        if re.search(r"^ +device_check: NoCheck", entry, re.MULTILINE):
            with_numbers.add(name)
        kernels = set(_kernels(entry))
        if "CPU" in kernels:
            on_cpu.add(name)
        if any(key == "CUDA" or key.startswith("Composite") for key in kernels):
            on_cuda.add(name)
        if "SparseCPU" in kernels:
            sparse.add(name)
    return with_numbers, on_cpu - on_cuda, sparse


def _kernels(entry: str) -> Iterator[str]:
    """The keys under `dispatch` in an operation's entry."""
    for keys in re.findall(r"^ {4}([A-Z][\w, ]*):", entry, re.MULTILINE):
        yield from (key.strip() for key in keys.split(","))
