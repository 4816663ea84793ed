from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypha_common.plans import Headers

__all__ = ["safe_headers"]

_MAX_HEADERS = 32
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_VALUE = re.compile(r"[\x20-\x7e]{0,4096}")
# What concerns the page alone. Others concern the server, or how its answers are read on their way; the gateway lets
# pages of any origin read them by itself.
_ALLOWED = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-language",
        "content-security-policy",
        "cross-origin-embedder-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
        "expires",
        "permissions-policy",
        "referrer-policy",
    }
)
# Of one's own: `x-`, but for what servers and proxies on the way take for theirs.
_OWN = re.compile(r"x-(?!accel|content-type-options|forwarded|hypha|litespeed|proxy|real-ip|sendfile)[a-z0-9-]+")


def safe_headers(wanted: object) -> Headers:
    """Return the headers of ``view_config.headers`` that pages of users may have; others are left out."""
    if not isinstance(wanted, dict):
        return []
    pairs = [(name.lower(), value.strip()) for name, value in wanted.items() if _is_text(name, value)]
    kept = [pair for pair in pairs if _is_safe(*pair)]
    return list(dict(kept).items())[:_MAX_HEADERS]


def _is_text(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, str)


def _is_safe(name: str, value: str) -> bool:
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        return False
    return name in _ALLOWED or _OWN.fullmatch(name) is not None
