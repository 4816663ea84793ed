from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import structlog

from hypha_common.errors import HyphaError, Unauthorized
from hypha_common.ids import new_id

from .config import ProviderConfig
from .discovery import Discovery, ProviderMetadata
from .http import ProviderHttp
from .id_tokens import verify_id_token
from .keys import ProviderKeys
from .profile import Profile
from .states import PendingAuthorization, PendingAuthorizations
from .token_requests import TokenRequests

__all__ = ["LIFE_S", "Authorization", "Begun", "NotLoggedIn"]

log = structlog.get_logger(__name__)

LIFE_S = 600.0  # a person may have to find a second factor first


class NotLoggedIn(Unauthorized):
    """The provider sent the person back without saying who it is; ``error`` is its code (RFC 6749 §4.1.2.1)."""

    def __init__(self, error: str) -> None:
        super().__init__(f"The identity provider answered: {error}")
        self.error = error


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send a person's browser, and the secret that proves afterwards that it is the same browser."""

    url: str
    state: str
    secret: str


class Authorization:
    """The authorization code flow with PKCE, ``state`` and ``nonce`` (OpenID Connect Core 1.0 §3.1)."""

    def __init__(
        self,
        *,
        config: ProviderConfig,
        discovery: Discovery,
        keys: ProviderKeys,
        http: ProviderHttp,
        pending: PendingAuthorizations,
        tokens: TokenRequests,
        redirect_uri: str,
        namespace: str,
    ) -> None:
        self._config = config
        self._discovery = discovery
        self._keys = keys
        self._http = http
        self._pending = pending
        self._tokens = tokens
        self._redirect_uri = redirect_uri
        self._namespace = namespace

    async def begin(self, fields: dict[str, str]) -> Begun:
        """Remember ``fields`` until the person is back, and return where to send it. Raises Unavailable."""
        from authlib.oauth2.rfc7636.challenge import create_s256_code_challenge

        metadata = await self._discovery.metadata()
        state, secret = new_id(32), new_id(32)
        pending = PendingAuthorization(_digest(secret), nonce=new_id(32), verifier=new_id(64), fields=fields)
        await self._pending.add(state, pending, life_s=LIFE_S)
        query = {
            "response_type": "code",
            "client_id": self._config.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": self._config.scope,
            "state": state,
            "nonce": pending.nonce,
            "code_challenge": create_s256_code_challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        separator = "&" if urlsplit(metadata.authorization_endpoint).query else "?"
        return Begun(f"{metadata.authorization_endpoint}{separator}{urlencode(query)}", state, secret)

    async def forget_old(self) -> None:
        """Forget people who did not come back."""
        await self._pending.delete_expired()

    async def returned(self, state: str, secret: str) -> PendingAuthorization | None:
        """Return what :meth:`begin` remembered, once, if this is the browser it was begun in."""
        return await self._pending.take(state, _digest(secret)) if state and secret else None

    async def identify(self, pending: PendingAuthorization, answer: Mapping[str, str]) -> Profile:
        """
        Find out who came back with ``answer``, the query of the redirect.

        Raises NotLoggedIn, Unauthorized where the provider's word is not good, Unavailable.

        """
        metadata = await self._discovery.metadata()
        issuer = answer.get("iss")
        if issuer != metadata.issuer and (issuer is not None or metadata.names_itself):
            raise Unauthorized("The answer came from another identity provider than was asked")
        if answer.get("error") or not answer.get("code"):
            raise NotLoggedIn(answer.get("error") or "nothing")
        given = await self._redeem(answer["code"], pending.verifier)
        access_token = given.get("access_token")
        access_token = access_token if isinstance(access_token, str) else ""
        claims = await verify_id_token(
            given.get("id_token"),
            metadata=metadata,
            keys=self._keys,
            client_id=self._config.client_id,
            nonce=pending.nonce,
            access_token=access_token,
        )
        return Profile.of(await self._completed(claims, metadata, access_token), self._namespace)

    async def _redeem(self, code: str, verifier: str) -> dict[str, Any]:
        answer = await self._tokens.exchange(code, redirect_uri=self._redirect_uri, verifier=verifier)
        if answer.status != 200:
            error = str(answer.content.get("error"))[:64]
            # For whoever runs the hub: its client may be registered in another way than it is configured.
            log.warning(
                "token_request_refused",
                status=answer.status,
                error=error,
                description=str(answer.content.get("error_description"))[:256],
            )
            raise NotLoggedIn(error)
        return answer.content

    async def _completed(self, claims: dict[str, Any], metadata: ProviderMetadata, access_token: str) -> dict[str, Any]:
        """Add what only the userinfo endpoint tells. Without it a person is logged in all the same."""
        if (claims.get("name") and claims.get("email") and "email_verified" in claims) or not access_token:
            return claims
        if not metadata.userinfo_endpoint:
            return claims
        try:
            told = await self._http.get(metadata.userinfo_endpoint, bearer=access_token)
        except HyphaError as error:
            log.warning("userinfo_missing", error=error.message)
            return claims
        if told.get("sub") != claims["sub"]:
            raise Unauthorized("The identity provider tells of somebody else than who has logged in")
        if "email_verified" not in claims and told.get("email"):
            claims = {name: value for name, value in claims.items() if name != "email"}  # verified is only the other
        return told | claims


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
