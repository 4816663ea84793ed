from __future__ import annotations

import hashlib
import time
from typing import Any

from hypha_common.errors import BadRequest, Unauthorized
from hypha_common.principal import Principal
from hypha_common.scopes import is_app_scope
from hypha_common.tokens import EXPIRED, TokenKind, VerifiedToken, principal_of_claims

from .config import ProviderConfig
from .discovery import Discovery
from .identities import Identities
from .keys import ProviderKeys
from .profile import Profile
from .signatures import SignedToken, peek

__all__ = ["AccessTokens"]

_LEEWAY_S = 60  # for clocks that differ; expiry has none
_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")  # a token made for something else is no access token


class AccessTokens:
    """Judges access tokens of the issuer that are presented in place of the cluster's own (contract 01 §4.3)."""

    def __init__(
        self,
        *,
        config: ProviderConfig,
        discovery: Discovery,
        keys: ProviderKeys,
        identities: Identities,
        namespace: str,
    ) -> None:
        self._config = config
        self._discovery = discovery
        self._keys = keys
        self._identities = identities
        self._namespace = namespace

    async def verify(self, token: str) -> VerifiedToken | None:
        """
        Return what a token of the issuer says; None where it is not one of the issuer's.

        Raises Unauthorized with the texts of contract 01 §4.3, Unavailable where keys cannot be fetched.

        """
        signed = peek(token)
        if signed is None or not self._config.audience or not self._config.is_issuer(signed.claims.get("iss")):
            return None
        if f"{self._namespace}typ" in signed.claims:
            return None  # one of the cluster's own, whose issuer may have been set to be the same
        await signed.verify(self._keys)
        metadata = await self._discovery.metadata()
        claims = _checked(signed, issuer=metadata.issuer, audience=self._config.audience)
        profile = Profile.of(claims, self._namespace)
        user_id = await self._identities.user_id(metadata.issuer, profile.subject)
        principal = self._principal(claims, profile, user_id)
        return VerifiedToken(
            principal=principal,
            workspace=principal.scope.current_workspace,
            client_id=principal.scope.client_id,
            extra_scopes=principal.scope.extra_scopes or (),
            expires_at=principal.expires_at,
            # Not the issuer's `jti`: it could name a token of this cluster.
            token_id=hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest(),
            kind=TokenKind.ACCESS,
        )

    def _principal(self, claims: dict[str, Any], profile: Profile, user_id: str) -> Principal:
        scope = claims.get("scope")
        words = scope.split() if isinstance(scope, str) else []
        ours = {
            "sub": user_id,
            "exp": claims["exp"],
            # Many issuers let clients choose scopes: those that limit hold, those that grant workspaces or make
            # somebody an app of this cluster do not.
            "scope": " ".join(word for word in words if not word.startswith("ws:") and not is_app_scope(word)),
            f"{self._namespace}roles": list(profile.roles),
            f"{self._namespace}email": profile.email,
        }
        try:
            return principal_of_claims(ours, self._namespace)
        except BadRequest as error:
            raise Unauthorized(f"Invalid token claims: {error}") from None


def _checked(signed: SignedToken, *, issuer: str, audience: str) -> dict[str, Any]:
    from joserfc.errors import ExpiredTokenError, JoseError
    from joserfc.jwt import JWTClaimsRegistry

    kind = signed.header.get("typ")
    if "events" in signed.claims or (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
        raise Unauthorized("Invalid token type: an access token is needed")
    now = int(time.time())
    registry = JWTClaimsRegistry(
        now=now,
        leeway=_LEEWAY_S,
        iss={"essential": True, "value": issuer},
        sub={"essential": True},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
    )
    try:
        registry.validate(signed.claims)
    except ExpiredTokenError:
        raise Unauthorized(EXPIRED) from None
    except JoseError as error:
        raise Unauthorized(f"Invalid token claims: {error.description}") from None
    if signed.claims["exp"] <= now:
        raise Unauthorized(EXPIRED)
    return signed.claims
