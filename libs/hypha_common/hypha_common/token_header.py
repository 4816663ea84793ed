from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from functools import lru_cache

from .errors import Unauthorized

__all__ = ["BAD_HEADER", "MAX_TOKEN_BYTES", "TokenHeader", "header_of"]

BAD_HEADER = "Error decoding token headers."
MAX_TOKEN_BYTES = 8 * 1024

_MAX_HEADER_BYTES = 1024
_COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)  # decoders of base64 skip what does not belong there


@dataclass(frozen=True, slots=True)
class TokenHeader:
    algorithm: object
    key_id: object


def header_of(token: str) -> TokenHeader:
    """Return what is needed of a header that nobody has verified. Raises Unauthorized."""
    if len(token) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(token):
        raise Unauthorized(BAD_HEADER)
    segment = token.partition(".")[0]
    header = _decoded(segment) if len(segment) <= _MAX_HEADER_BYTES else None
    if header is None:
        raise Unauthorized(BAD_HEADER)
    return header


@lru_cache(maxsize=256)
def _decoded(segment: str) -> TokenHeader | None:
    """Most tokens of a cluster have one of a few headers."""
    try:
        header = json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (ValueError, RecursionError):
        return None
    # An extension that must be understood, and here none is (RFC 7515 §4.1.11).
    if not isinstance(header, dict) or "crit" in header:
        return None
    return TokenHeader(header.get("alg"), header.get("kid"))
