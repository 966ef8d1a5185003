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

_REASON = re.compile(r"(?P<kind>[\w.]*(?:Error|Exception)): (?P<reason>.+)")
"""How TorchScript's interpreter reports the error inside, at the end of a traceback."""

_FRAME = re.compile(
    r'File "(?P<file>[^"]+)", line (?P<line>\d+), in \S+\n'
    r'(?:(?!\s*File ").*\n)*?\s*(?P<code>\S.*)\n\s*~+ <--- HERE'
)
"""A call in TorchScript's traceback, with the line of code that it stands at."""

_BRANCH = re.compile(
    r'File "(?P<file>[^"]+)", line (?P<line>\d+)\n(?:(?!\s*~).*\n)*?\s*(?P<code>\S.*)\n\s*~'
)
"""A statement in TorchScript's source, underlined."""

_TRACED_FRAME = re.compile(r"^(?P<file>\S.*)\((?P<line>\d+)\): \S+$", re.MULTILINE)
"""A call in what `torch.jit.trace` keeps of the Python that it saw, the innermost first."""

_UNKNOWN_OPERATION = re.compile(r"Unknown builtin op: (\w+::\w+)")

_TORCHS_OWN = re.compile(r"[\\/]torch[\\/](?:nn|jit|_\w+|functional\.py)")


def reason_line(error: BaseException) -> str:
    """The line of an error's message that says what was wrong, without a final full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [match["reason"] for line in lines if (match := _REASON.match(line))]
    line = (reasons[-1:] or lines[:1] or [type(error).__name__])[0]
    return line.rstrip(".")[:300]


def kind_of_error(error: BaseException) -> str:
    """The type of an error; of the one inside, where TorchScript's interpreter reports it."""
    kinds = [match["kind"] for match in _REASON.finditer(str(error))]
    return kinds[-1].rpartition(".")[2] if kinds else type(error).__name__


def place_of(error: BaseException) -> str:
    """Where in its code TorchScript raised an error: the user's line and the operation.

    Such as ``line 31 of net.py, `return torch.add(x, y)` ``; "" for errors from elsewhere.
    """
    serialised, _, original = str(error).partition("original code (most recent call last):")
    scripted = list(_FRAME.finditer(original)) or list(_FRAME.finditer(serialised))
    if not scripted:
        return ""
    operation = scripted[-1]["code"].strip()
    # A trace has calls, innermost first, in place of code.
    calls = [*_TRACED_FRAME.finditer(original)] or scripted[::-1]
    own = [call for call in calls if not _TORCHS_OWN.search(call["file"])]
    call = (own or calls)[0]
    file = re.split(r"[\\/]", call["file"])[-1]
    return f"line {call['line']} of {file}, `{call.groupdict().get('code', operation):.100}`"


def unknown_operation(error: BaseException) -> str | None:
    """The operation that TorchScript's compiler does not know, where that is the error."""
    match = _UNKNOWN_OPERATION.search(str(error))
    return None if match is None else match[1]


def branch_at(source_range: str) -> str:
    """Where a branch of TorchScript stands, as torch prints it; "" where torch does not know.

    Such as ``line 9 of net.py, `if x.sum() > 0:` ``.
    """
    match = _BRANCH.search(source_range)
    if match is None:
        return ""
    file = re.split(r"[\\/]", match["file"])[-1]
    return f"line {match['line']} of {file}, `{match['code']:.100}`"


def is_about_shape(error: BaseException) -> bool:
    """Whether torch complains of the inputs' number, shape or dtype.

    A judgement by the words of the message: torch raises the same exception types for these
    and for everything else.
    """
    line = reason_line(error)
    if isinstance(error, NotImplementedError) and not _DTYPE_WORDS.search(line):
        return False
    return any(words.search(line) for words in (_SHAPE_WORDS, _DTYPE_WORDS, _ARITY_WORDS))
