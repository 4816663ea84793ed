from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypha_common.errors import Unavailable

from .discovery import Discovery
from .http import ProviderHttp
from .refreshed import Refreshed

if TYPE_CHECKING:
    from joserfc.jwk import Key

__all__ = ["ProviderKeys"]

_FRESH_S, _STALE_S, _RETRY_S = 3600.0, 86400.0, 1.0
_MAX_KEYS = 64
_KEY_TYPES = ("RSA", "EC")  # never "oct": a public document holds no secrets
_MIN_RSA_BITS = 2048


class ProviderKeys:
    """The public keys with which the provider signs, fetched when first needed and when it has changed them."""

    def __init__(self, discovery: Discovery, http: ProviderHttp) -> None:
        self._discovery = discovery
        self._http = http
        self._keys = Refreshed("jwks", self._fetch, fresh_s=_FRESH_S, stale_s=_STALE_S, retry_s=_RETRY_S)

    async def find(self, key_id: str | None, algorithm: str, *, newer: bool = False) -> Key | None:
        """
        Return the key that a token names; one that names none means the only one there is.

        ``newer``: what is known is out of date, the provider is asked unless that was only just done. Raises
        Unavailable.

        """
        keys = await (self._keys.newer() if newer else self._keys.get())
        fitting = [key for key in keys if _fits(key, algorithm)]
        if key_id is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.kid == key_id), None)

    async def _fetch(self) -> list[Key]:
        metadata = await self._discovery.metadata()
        document = await self._http.get(metadata.jwks_uri)
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise Unavailable("The provider's set of keys cannot be read")
        return [key for data in keys[:_MAX_KEYS] if (key := _imported(data)) is not None]


def _imported(data: Any) -> Key | None:
    """Return a key that may verify signatures; others (to encrypt, of types not known here) are left out."""
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry, RSAKey

    if not isinstance(data, Mapping) or data.get("kty") not in _KEY_TYPES or data.get("use", "sig") != "sig":
        return None
    public = {name: value for name, value in data.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
    try:
        key = JWKRegistry.import_key(public)
        if isinstance(key, RSAKey) and key.public_key.key_size < _MIN_RSA_BITS:
            return None
    except (JoseError, TypeError, ValueError):
        return None
    return key


def _fits(key: Key, algorithm: str) -> bool:
    kind = "EC" if algorithm.startswith("ES") else "RSA"
    return key.key_type == kind and (key.alg is None or key.alg == algorithm)
