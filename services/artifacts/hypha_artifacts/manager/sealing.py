from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_common.errors import InternalError

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["Sealing"]

_NONCE_BYTES = 12
_FORMAT = b"\x01"  # AES-256-GCM: nonce, then what is sealed with its tag


class Sealing:
    """
    Secrets of artifacts as they are kept: whoever reads the database or its backups cannot read them.

    Sealed with a key that follows from the cluster's secret, and bound to their artifact; what was sealed before the
    secret was changed can still be opened.

    """

    def __init__(self, settings: Settings) -> None:
        self._keys = [_key(secret) for secret in (settings.jwt_secret, *settings.jwt_previous_secrets)]

    def seal(self, artifact: UUID, values: dict[str, Any]) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORMAT + nonce + AESGCM(self._keys[0]).encrypt(nonce, json.dumps(values).encode(), artifact.bytes)

    def open(self, artifact: UUID, sealed: bytes | None) -> dict[str, Any]:
        """Return what was sealed; nothing: no secrets. Raises InternalError where the key is no longer known."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if sealed is None:
            return {}
        nonce, data = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        for key in self._keys:
            try:
                values: dict[str, Any] = json.loads(AESGCM(key).decrypt(nonce, data, artifact.bytes))
            except InvalidTag:
                continue
            return values
        raise InternalError("The secrets of this artifact were sealed with a key that is no longer known here")


def _key(secret: str) -> bytes:
    return hmac.new(secret.encode(), b"hypha: secrets of artifacts", hashlib.sha256).digest()
