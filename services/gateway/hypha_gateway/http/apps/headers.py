from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from hypha_common.ids import PUBLIC_WORKSPACE, Address, role_of

from .faults import AppFault

__all__ = ["Headers", "app_headers", "checked", "checked_value", "for_app"]

Headers = list[tuple[bytes, bytes]]

# The server's own: how a message is framed, and what becomes of the connection, is its business.
_OURS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"trailer", b"transfer-encoding", b"upgrade"})
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # no control character: it could begin another header
_MAX_HEADERS = 256
_MAX_BYTES = 64 * 1024
_TOKENS = (b"access_token", b"hypha_local_token")  # cookies that speak for whoever sends them


def app_headers(given: Any, *, ours: frozenset[bytes] = _OURS) -> Headers:
    """
    Return the headers of an event, a list of (name, value), without those that are the server's own.

    Raises AppFault for what is no header and for too much of them.

    """
    if not isinstance(given, (list, tuple)):
        raise AppFault(f"headers must be a list of pairs, not {type(given).__name__}")
    found: Headers = []
    size = 0
    for pair in given:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise AppFault("each header must be a pair of name and value")
        name, value = checked(*pair)
        if name not in ours:
            found.append((name, value))
        size += len(name) + len(value)
        if len(found) > _MAX_HEADERS or size > _MAX_BYTES:
            raise AppFault("the headers are too large")
    return found


def checked(name: Any, value: Any) -> tuple[bytes, bytes]:
    """Return name, in lower case, and value of a header as bytes. Raises AppFault."""
    raw = _bytes(name)
    if raw is None or not _NAME.fullmatch(raw):
        raise AppFault(f"invalid header {str(name)[:64]!r}")
    return raw.lower(), checked_value(name, value)


def checked_value(name: Any, value: Any) -> bytes:
    raw = _bytes(value)
    if raw is None or not _VALUE.fullmatch(raw):
        raise AppFault(f"invalid header {str(name)[:64]!r}")
    return raw.strip(b" \t")


def for_app(headers: Iterable[tuple[bytes, bytes]], provider: Address) -> Iterator[tuple[bytes, bytes]]:
    """
    Yield the headers of a request as a web service may see them.

    A browser sends the hub's cookies to each service that lives at the hub: whoever made the service must not be able
    to act as its visitors. Only what the cluster and its operator serve themselves is given them.

    """
    if provider.workspace == PUBLIC_WORKSPACE or role_of(provider.workspace, provider.client) is not None:
        yield from headers
        return
    for name, value in headers:
        if name == b"cookie":
            value = b"; ".join(crumb.strip() for crumb in value.split(b";") if not _is_token(crumb))
            if not value:
                continue
        yield name, value


def _is_token(crumb: bytes) -> bool:
    return crumb.partition(b"=")[0].strip() in _TOKENS


def _bytes(value: Any) -> bytes | None:
    """JavaScript has no bytes literals: text is fine where a byte can express it."""
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            return None
    return bytes(value) if isinstance(value, (bytes, memoryview)) else None
