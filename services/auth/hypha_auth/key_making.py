from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from jwt.algorithms import ECAlgorithm

from hypha_common.ids import new_id
from hypha_common.keys import RING_ALGORITHM

from .key_repository import KeyRow

__all__ = ["PrivateKey", "Sealer", "make_key"]

_NONCE_BYTES = 12
_PURPOSE = b"hypha signing keys, version 1"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key of the ring that can sign."""

    id: str
    jwk: jwt.PyJWK


class Sealer:
    """Encrypts private keys for the database with what only the cluster knows: its token secret."""

    def __init__(self, secret: str, previous: Iterable[str] = ()) -> None:
        self._ciphers = [AESGCM(_derived(text)) for text in (secret, *previous)]

    def seal(self, plain: bytes, key_id: str) -> bytes:
        """Return nonce and ciphertext, bound to the key's id: one cannot be put in another's place."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, plain, key_id.encode())

    def open(self, row: KeyRow) -> PrivateKey | None:
        """Return what can sign; None for a retired key, and where the secret it was sealed with is not known here."""
        if row.private_key is None:
            return None
        nonce, sealed = row.private_key[:_NONCE_BYTES], row.private_key[_NONCE_BYTES:]
        for cipher in self._ciphers:
            try:
                plain = cipher.decrypt(nonce, sealed, row.id.encode())
            except InvalidTag:
                continue
            key = load_der_private_key(plain, None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            return PrivateKey(row.id, jwt.PyJWK(_jwk(key), algorithm=row.algorithm))
        return None


def make_key(sealer: Sealer) -> KeyRow:
    """Return a new key, ready to be stored."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    key_id, now = new_id(12), time.time()
    public = {**_jwk(key.public_key()), "kid": key_id, "alg": RING_ALGORITHM, "use": "sig"}
    return KeyRow(
        id=key_id,
        algorithm=RING_ALGORITHM,
        private_key=sealer.seal(plain, key_id),
        public_key=public,
        created_at=now,
        retired_at=None,
        last_expiry=now,
    )


def _jwk(key: Any) -> dict[str, Any]:
    members: dict[str, Any] = ECAlgorithm.to_jwk(key, as_dict=True)
    members.pop("key_ops", None)
    return members


def _derived(secret: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret.encode())
