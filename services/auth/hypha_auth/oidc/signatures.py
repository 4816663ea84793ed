from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypha_common.errors import Unauthorized
from hypha_common.tokens import BAD_HEADER, BAD_SIGNATURE

from .keys import ProviderKeys

if TYPE_CHECKING:
    from joserfc.jwk import Key

__all__ = ["ALGORITHMS", "SignedToken", "peek"]

# Asymmetric ones only: whoever knows a provider's public key must not be able to sign with it.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")

_COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
_MAX_TOKEN_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A JSON Web Token: what it says. Nothing of it may be believed before :meth:`verify`."""

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]

    async def verify(self, keys: ProviderKeys) -> None:
        """Check the signature. Raises Unauthorized with the texts of contract 01 §4.3, or Unavailable."""
        algorithm, key_id = self.header.get("alg"), self.header.get("kid")
        if algorithm not in ALGORITHMS:
            raise Unauthorized(f"Invalid algorithm: {str(algorithm)[:32]}")
        if key_id is not None and not isinstance(key_id, str):
            raise Unauthorized(BAD_HEADER)
        # A key that is not known, or another under the same name: the provider may have changed it.
        for newer in (False, True):
            key = await keys.find(key_id, algorithm, newer=newer)
            if key is not None and self._is_signed_with(key):
                return
        raise Unauthorized(BAD_SIGNATURE)

    def _is_signed_with(self, key: Key) -> bool:
        from joserfc import jws
        from joserfc.errors import JoseError

        registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        try:
            jws.deserialize_compact(self.text, key, registry=registry)
        except (JoseError, ValueError):
            return False
        return True


def peek(token: str) -> SignedToken | None:
    """Read a token without believing it; None where it is not one."""
    if len(token) > _MAX_TOKEN_BYTES or not _COMPACT.fullmatch(token):
        return None
    header, claims = (_json(part) for part in token.split(".")[:2])
    # "crit" changes how the rest is to be read; no provider needs it here.
    if header is None or claims is None or "crit" in header:
        return None
    return SignedToken(token, header, claims)


def _json(part: str) -> dict[str, Any] | None:
    try:
        value = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
