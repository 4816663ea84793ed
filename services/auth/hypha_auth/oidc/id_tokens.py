from __future__ import annotations

import time
from typing import Any

from hypha_common.errors import Unauthorized

from .discovery import ProviderMetadata
from .keys import ProviderKeys
from .signatures import peek

__all__ = ["verify_id_token"]

_LEEWAY_S = 60  # clocks differ


async def verify_id_token(
    token: object, *, metadata: ProviderMetadata, keys: ProviderKeys, client_id: str, nonce: str, access_token: str
) -> dict[str, Any]:
    """
    Return the claims of an ID token that answers our own request (OpenID Connect Core 1.0 §3.1.3.7).

    Raises Unauthorized, or Unavailable where the provider's keys cannot be fetched.

    """
    from authlib.oidc.core.claims import CodeIDToken
    from joserfc.errors import JoseError

    signed = peek(token) if isinstance(token, str) else None
    if signed is None:
        raise Unauthorized("The identity provider gave no ID token that can be read")
    await signed.verify(keys)
    claims = CodeIDToken(
        signed.claims,
        signed.header,
        options={
            "iss": {"essential": True, "value": metadata.issuer},
            "aud": {"essential": True, "value": client_id},
        },
        params={"client_id": client_id, "nonce": nonce, "access_token": access_token},
    )
    try:
        claims.validate(now=int(time.time()), leeway=_LEEWAY_S)
        _check_audiences(signed.claims, client_id)
    except (JoseError, TypeError, ValueError) as error:
        raise Unauthorized(f"The ID token of the identity provider is not good: {error}") from None
    return signed.claims


def _check_audiences(claims: dict[str, Any], client_id: str) -> None:
    """A token that others may use as well must say that it was made for us."""
    audience = claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client_id:
        raise ValueError("it is for several audiences and names no authorized party")
