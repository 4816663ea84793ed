"""
What secrets of an artifact may be (contract 02 §1.5). Nothing here does I/O.
"""

from __future__ import annotations

from typing import Any

from hypha_common.errors import NotSupported

from .documents import check_line, read_map

__all__ = ["MAX_SECRETS_BYTES", "check_secret_key", "read_secrets"]

MAX_SECRETS_BYTES = 64 * 1024  # all of one artifact


def read_secrets(given: object) -> dict[str, Any]:
    """Return secrets that can be kept. Raises BadRequest, NotSupported, PayloadTooLarge."""
    values = read_map(given, "Secrets", max_bytes=MAX_SECRETS_BYTES)
    for key in values:
        check_secret_key(key)
    return values


def check_secret_key(key: object) -> str:
    """Return the name of a secret. Raises BadRequest, NotSupported."""
    name = check_line(key, "Secret key")
    if name.startswith("S3_"):
        raise NotSupported(
            f"Secret '{name}' is not supported: files of artifacts are kept in the store of this server, "
            "not in one of their own."
        )
    return name
