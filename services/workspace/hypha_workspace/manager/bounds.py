"""
Limits on what users store through the manager. Nothing here does I/O.
"""

from __future__ import annotations

from typing import Any

from hypha_common.errors import BadRequest, PayloadTooLarge
from hypha_common.wire import pack

__all__ = [
    "MAX_BOOKMARKS",
    "MAX_DATA_BYTES",
    "MAX_ENV_BYTES",
    "MAX_ENV_VARIABLES",
    "MAX_NAME_BYTES",
    "MAX_RECORD_BYTES",
    "MAX_SERVICE_TYPES",
    "check_size",
    "check_text",
]

MAX_NAME_BYTES = 255
MAX_ENV_BYTES = 256 * 1024  # one value
MAX_ENV_VARIABLES = 1000  # of one workspace
MAX_DATA_BYTES = 64 * 1024  # of one logged event
MAX_RECORD_BYTES = 256 * 1024  # a workspace record, a service type
MAX_BOOKMARKS = 1000
MAX_SERVICE_TYPES = 1000


def check_text(value: object, what: str, *, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return a name that the database can hold, or raise BadRequest."""
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{what} must be a string that is not empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadRequest(f"{what} is not valid text") from None
    if "\x00" in value:
        raise BadRequest(f"{what} is not valid text")
    if size > max_bytes:
        raise BadRequest(f"{what} is longer than {max_bytes} bytes")
    return value


def check_size(value: Any, what: str, max_bytes: int) -> Any:
    """Return a value that can be stored, or raise BadRequest or PayloadTooLarge."""
    try:
        size = len(pack(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(f"{what} cannot be stored: {error}") from None
    if size > max_bytes:
        raise PayloadTooLarge(f"{what} is larger than {max_bytes} bytes")
    return value
