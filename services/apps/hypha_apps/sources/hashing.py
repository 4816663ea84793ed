"""
The hash of a source: base58 of a multihash (sha2-256), as in ``Qm…``. Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import hmac

from hypha_common.errors import BadRequest

__all__ = ["source_hash", "verify_source"]

_SHA2_256 = b"\x12\x20"  # code and length
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def source_hash(source: str) -> str:
    """Return the hash of a source. Raises BadRequest for what is no valid text."""
    try:
        data = source.encode()
    except UnicodeEncodeError:
        raise BadRequest("The source is no valid text") from None
    number = int.from_bytes(_SHA2_256 + hashlib.sha256(data).digest())
    letters = []
    while number:
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(reversed(letters))


def verify_source(source: str, expected: object) -> str:
    """Return the hash of a source. Raises BadRequest where another one was expected; None: anything will do."""
    found = source_hash(source)
    if expected is not None and not hmac.compare_digest(str(expected).encode("utf-8", "replace"), found.encode()):
        raise BadRequest(f"Source hash verification failed: it is {found}, not {expected!s:.80}")
    return found
