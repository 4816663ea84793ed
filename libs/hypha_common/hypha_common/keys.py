from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt
import structlog

from .errors import ConfigurationError
from .settings_checks import MIN_SECRET_BYTES

__all__ = ["RING_ALGORITHM", "SECRET_ALGORITHM", "Key", "KeySet", "PublicKeys", "secret_key"]

log = structlog.get_logger(__name__)

SECRET_ALGORITHM = "HS256"
RING_ALGORITHM = "ES256"

# What a public key of the ring consists of. A map with more in it, such as the private "d", is not published.
_PUBLIC_MEMBERS = frozenset({"kty", "crv", "x", "y", "kid", "alg", "use"})


@dataclass(frozen=True, slots=True)
class Key:
    """A key with the one algorithm that it may be used with."""

    id: str
    algorithm: str
    jwk: jwt.PyJWK  # prepared: a plain key would be examined again for every token


class PublicKeys:
    """The keys of the cluster's ring, by key id: what tokens that the auth service signs are verified with."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self.jwks: list[dict[str, Any]] = []

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._keys

    def get(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    def replace(self, jwks: Iterable[dict[str, Any]]) -> None:
        """Forget everything and take these. One that cannot be used is left out: others must go on."""
        wanted = list(jwks)
        if wanted == self.jwks:
            return
        keys = [key for key in map(_public_key, wanted) if key is not None]
        self._keys = {key.id: key for key in keys}
        self.jwks = wanted


class KeySet:
    """
    Every key that a token may have been signed with: the shared secrets and the ring.

    Which keys are tried follows from the algorithm and the key id in a token's header, and from nothing else in it.

    """

    def __init__(self, secret: str, previous: Iterable[str] = ()) -> None:
        self.secret = secret_key(secret)
        self.ring = PublicKeys()
        self._secrets = [self.secret, *(secret_key(old) for old in previous)]
        self._secret_by_id = {key.id: key for key in self._secrets}

    def candidates(self, algorithm: object, key_id: object) -> list[Key]:
        """
        Return the keys to try, each of that algorithm; none: nobody here can judge such a token.

        Tokens of deployments that share the secret may have no key id, or one that means something to others.

        """
        name = key_id if isinstance(key_id, str) else ""
        if algorithm == SECRET_ALGORITHM:
            known = self._secret_by_id.get(name)
            return self._secrets if known is None else [known]
        if algorithm == RING_ALGORITHM:
            key = self.ring.get(name)
            return [] if key is None else [key]
        return []


def secret_key(secret: str) -> Key:
    """Return a shared secret as a key. Raises ConfigurationError for one that could be guessed."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"The token secret (HYPHA_JWT_SECRET) must have at least {MIN_SECRET_BYTES} bytes; "
            "make one with: openssl rand -hex 32"
        )
    # The id is shown to everybody: it must not help to guess the secret, which is why short ones are refused.
    key_id = "s" + hashlib.sha256(b"hypha key id:" + secret.encode()).hexdigest()[:12]
    encoded = urlsafe_b64encode(secret.encode()).decode()
    return Key(key_id, SECRET_ALGORITHM, jwt.PyJWK({"kty": "oct", "k": encoded}, algorithm=SECRET_ALGORITHM))


def _public_key(jwk: dict[str, Any]) -> Key | None:
    try:
        if jwk["alg"] != RING_ALGORITHM or not _PUBLIC_MEMBERS.issuperset(jwk):
            raise ValueError("not a public key of the ring")
        return Key(str(jwk["kid"]), RING_ALGORITHM, jwt.PyJWK(jwk, algorithm=RING_ALGORITHM))
    except (KeyError, TypeError, ValueError, jwt.PyJWTError, json.JSONDecodeError) as error:
        log.warning("public_key_unusable", error=repr(error))
        return None
