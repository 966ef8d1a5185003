"""Files are told apart by their structure alone, without torch."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file

from intrafusion import ErrorCode, IntraFusionError
from intrafusion.program.sniff import kind_of
from tests.networks import build, samples


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    network = build("vgg")
    state = network.state_dict()
    torch.jit.script(network).save(folder / "scripted.torchscript")
    torch.jit.trace(network, samples(2)).save(folder / "traced.torchscript")
    torch.jit.freeze(torch.jit.script(network)).save(folder / "frozen.torchscript")
    torch.export.save(torch.export.export(network, (samples(2),)), folder / "net.exported")
    save_file(state, folder / "net.safetensors")
    torch.save(state, folder / "net.state_dict")
    torch.save({"epoch": 1, "model": state}, folder / "checkpoint.state_dict")
    torch.save(state, folder / "legacy.state_dict", _use_new_zipfile_serialization=False)
    return folder


def refusal(path: Path) -> IntraFusionError:
    with pytest.raises(IntraFusionError) as caught:
        kind_of(path)
    assert caught.value.hint
    return caught.value


def test_every_kind(files: Path) -> None:
    found = {file.name: kind_of(file) for file in files.iterdir()}
    assert found == {name: name.rpartition(".")[2] for name in found}
    assert len(found) == 8


def test_no_torch_is_imported(files: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import intrafusion.program, intrafusion.calibration, intrafusion.evaluation\n"
        "from intrafusion.program.sniff import kind_of\n"
        "from intrafusion.program.architectures import ARCHITECTURES\n"
        "import intrafusion.calibration.sniff, intrafusion.program.emit\n"
        "assert 'timm/resnet18' in ARCHITECTURES\n"
        "print(kind_of(Path(sys.argv[1])))\n"
        "assert not {'torch', 'numpy', 'timm', 'torchvision'} & sys.modules.keys()\n"
    )
    path = files / "scripted.torchscript"
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "torchscript\n"


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x00" * 100, bytes(range(256)) * 64, b"\x93NUMPY\x01\x00"]
)
def test_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert refusal(tmp_path / "file").code is ErrorCode.NOT_A_MODEL


def test_other_zips(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "book.zip", "w") as archive:
        archive.writestr("chapter.txt", "Once")
    assert refusal(tmp_path / "book.zip").code is ErrorCode.NOT_A_MODEL
    numpy.savez(tmp_path / "data.npz", inputs=numpy.zeros(3))
    error = refusal(tmp_path / "data.npz")
    assert error.code is ErrorCode.NOT_A_MODEL
    assert "dataset" in error.hint


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("name", ["scripted.torchscript", "net.exported", "net.state_dict"])
def test_truncated_zip(files: Path, tmp_path: Path, name: str, share: float) -> None:
    content = (files / name).read_bytes()
    (tmp_path / "cut").write_bytes(content[: int(len(content) * share)])
    assert refusal(tmp_path / "cut").code is ErrorCode.CORRUPT_MODEL


@pytest.mark.parametrize("protocol", [2, 4])
def test_bare_pickles(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1], protocol))
    assert refusal(tmp_path / "list.pkl").code is ErrorCode.UNSAFE_PICKLE


@pytest.mark.parametrize("in_zip", [True, False])
def test_pickled_module_names_what_it_needs(tmp_path: Path, in_zip: bool) -> None:
    torch.save(build("vgg"), tmp_path / "net.pt", _use_new_zipfile_serialization=in_zip)
    error = refusal(tmp_path / "net.pt")
    assert error.code is ErrorCode.UNSAFE_PICKLE
    assert "tests.networks.VGGSmall" in error.message
    assert "state_dict()" in error.hint


@pytest.mark.parametrize("length", [20, 100, 200, 1000])
def test_cut_legacy_state_dict(files: Path, tmp_path: Path, length: int) -> None:
    (tmp_path / "cut").write_bytes((files / "legacy.state_dict").read_bytes()[:length])
    assert refusal(tmp_path / "cut").code is ErrorCode.CORRUPT_MODEL


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1",)


def test_pickle_that_runs_code(tmp_path: Path) -> None:
    torch.save({"weight": Exploit()}, tmp_path / "net.pt")
    assert refusal(tmp_path / "net.pt").code is ErrorCode.UNSAFE_PICKLE


def rezipped(source: Path, target: Path, method: int, *twice: str) -> Path:
    """A copy of a zip with its entries compressed by `method`, and those named `twice` doubled."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in [*old.namelist(), *twice]:
            new.writestr(name, old.read(name))
    return target


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_with_a_name_twice(files: Path, tmp_path: Path) -> None:
    source = files / "net.state_dict"
    with zipfile.ZipFile(source) as archive:
        name = archive.namelist()[0]
    target = rezipped(source, tmp_path / "twice", zipfile.ZIP_STORED, name)
    error = refusal(target)
    assert error.code is ErrorCode.CORRUPT_MODEL
    assert "twice" in error.message


def test_zip_with_deflated_tensors(files: Path, tmp_path: Path) -> None:
    target = rezipped(files / "net.state_dict", tmp_path / "small", zipfile.ZIP_DEFLATED)
    error = refusal(target)
    assert error.code is ErrorCode.CORRUPT_MODEL
    assert "compressed" in error.message


def safetensors(header: object, data: bytes = b"", announced: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if announced is None else announced) + text + data


F4 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors({"a": F4}, b"123"),
        safetensors({"a": F4}, b"12345"),
        safetensors({"a": F4, "b": F4}, b"1234"),
        safetensors({"a": {**F4, "data_offsets": [4, 8]}}, b"12345678"),
        safetensors({"a": {**F4, "shape": [2]}}, b"1234"),
        safetensors({"a": {**F4, "shape": [-1]}}, b"1234"),
        safetensors({"a": {**F4, "shape": [True]}}, b"1234"),
        safetensors({"a": {**F4, "dtype": "F33"}}, b"1234"),
        safetensors({"a": {"dtype": "F32"}}, b"1234"),
        safetensors({"a": 3}, b"1234"),
        safetensors({"a": F4}, b"1234", announced=10),
        safetensors({"a": F4}, b"1234", announced=5000),
    ],
)
def test_safetensors_that_do_not_add_up(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert refusal(tmp_path / "file").code is ErrorCode.CORRUPT_MODEL


def test_safetensors_header_beyond_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(safetensors({"a": F4}, b"1234", announced=1 << 40))
    assert refusal(tmp_path / "file").code is ErrorCode.NOT_A_MODEL
