"""What torch's errors say, in one line for people."""

from __future__ import annotations

import re

_SHAPE_WORDS = re.compile(
    r"\bshapes?\b|\bsizes?\b|\bdimensions?\b|\bdims?\b|\bchannels?\b|\d-?d\b|multiplied"
    r"|out of range|out of bounds|too small|non-empty|numel|elements|normalized_shape",
    re.IGNORECASE,
)
_DTYPE_WORDS = re.compile(
    r"dtype|scalar type|input type|\bindices\b.*\btypes?\b|not implemented for '\w+'",
    re.IGNORECASE,
)
_ARITY_WORDS = re.compile(
    r"missing value for argument|expected at most|positional arguments?|takes \d+", re.IGNORECASE
)

_REASON = re.compile(r"(?:[\w.]*Error|Exception): (.+)")
"""How TorchScript's interpreter reports the error inside, at the end of a traceback."""


def reason_line(error: BaseException) -> str:
    """The line of an error's message that says what was wrong, without a final full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [match[1] for line in lines if (match := _REASON.match(line))]
    line = (reasons[-1:] or lines[:1] or [type(error).__name__])[0]
    return line.rstrip(".")[:300]


def is_about_shape(error: BaseException) -> bool:
    """Whether torch complains of the inputs' number, shape or dtype.

    A judgement by the words of the message: torch raises the same exception types for these
    and for everything else.
    """
    line = reason_line(error)
    if isinstance(error, NotImplementedError) and not _DTYPE_WORDS.search(line):
        return False
    return any(words.search(line) for words in (_SHAPE_WORDS, _DTYPE_WORDS, _ARITY_WORDS))
