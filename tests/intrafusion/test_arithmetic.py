"""What cuDNN is told while networks are worked on, and that it is told nothing afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from intrafusion import CompressionSpec, compress
from intrafusion.arithmetic import as_deployed, exact
from intrafusion.report import Progress
from tests.intrafusion.programs import program_of

cudnn = torch.backends.cudnn


def told() -> tuple[str, bool]:
    return cudnn.conv.fp32_precision, cudnn.deterministic


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = told()
    yield
    assert told() == before


def test_a_compression_is_exact_throughout() -> None:
    seen = set()

    def look(progress: Progress) -> None:
        seen.add(told())

    compress(program_of("vgg"), CompressionSpec(compensation="none"), progress=look)
    assert seen == {("none", True)}


def test_what_is_timed_is_as_fast_as_torch_makes_it() -> None:
    with exact(), as_deployed():
        assert told() == ("tf32", False)


def test_what_an_error_leaves_is_what_was_there() -> None:
    with pytest.raises(ZeroDivisionError), exact():
        raise ZeroDivisionError


def test_precisions_that_differ_by_kind_are_given_back() -> None:
    before = cudnn.rnn.fp32_precision
    cudnn.rnn.fp32_precision = "ieee"  # from here on the common name may not be read
    try:
        with exact():
            assert not cudnn.allow_tf32
        assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == ("tf32", "ieee")
    finally:
        cudnn.rnn.fp32_precision = before
