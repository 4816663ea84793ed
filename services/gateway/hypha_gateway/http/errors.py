from __future__ import annotations

import re

from hypha_common.errors import DeadlineExceeded, HyphaError, NotFound, PeerNotFound, Unavailable
from hypha_common.rpc.remote import RemoteError

__all__ = ["FunctionNotFound", "describe_failure", "is_missing_method", "is_no_function", "last_error"]

MAX_DETAIL_CHARS = 2000

# A line at which a formatted exception begins: "ValueError: …", "pkg.mod.SomeError: …", "TimeoutError".
_EXCEPTION_LINE = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(:\s|:?$)")
_WRAPPERS = re.compile(r"^(?:(?:[A-Za-z_]\w*\.)*RemoteException: |RemoteError:\s*)+(?=\S)")
_JAVASCRIPT_FRAME = re.compile(r"\s+at \S")
_NO_FUNCTION = re.compile(r"not callable|not a function")
_MISSING_METHOD = re.compile(r"Method (?:expired or )?not found")


class FunctionNotFound(NotFound):
    """The service is there; what was asked of it is not."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} not found.")


def describe_failure(error: HyphaError, *, detailed: bool = False) -> tuple[int, str]:
    """
    Return status and detail for what a call or look-up raised (contract 01 §5.4).

    ``detailed`` adds the remote traceback; without it nothing but the exception itself is told.

    """
    if isinstance(error, RemoteError):
        return error.status, f"RemoteException: {error.text if detailed else last_error(error.text)}"
    if isinstance(error, FunctionNotFound):
        return error.status, error.message
    if isinstance(error, (DeadlineExceeded, PeerNotFound, Unavailable)):
        return error.status, error.rpc_text()
    return error.status, f"RemoteException: {error.rpc_text()}"


def is_missing_method(error: RemoteError, method: str) -> bool:
    """Tell whether a provider refused because it has no ``method``, not because that method found something missing."""
    return method in error.text and _MISSING_METHOD.search(error.text) is not None


def is_no_function(error: RemoteError) -> bool:
    """Tell whether a provider found something that it cannot call."""
    return _NO_FUNCTION.search(error.last_line) is not None


def last_error(text: str) -> str:
    """
    Return the last exception of a rejection, ``ValueError: bad thing``, without its traceback.

    A message of several lines is kept whole, up to 2000 characters.

    """
    lines = [line for line in text.rstrip().splitlines() if not _JAVASCRIPT_FRAME.match(line)]
    lines = [_WRAPPERS.sub("", line, count=1) for line in lines]
    for index in range(len(lines) - 1, -1, -1):
        if _EXCEPTION_LINE.match(lines[index]):
            return "\n".join(lines[index:])[:MAX_DETAIL_CHARS]
    return (lines[-1].strip() if lines else "Exception")[:MAX_DETAIL_CHARS]
