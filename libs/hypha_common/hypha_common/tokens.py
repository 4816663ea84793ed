from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import jwt

from .errors import BadRequest, Unauthorized
from .ids import new_id
from .keys import RING_ALGORITHM, SECRET_ALGORITHM, Key, KeySet
from .principal import Principal
from .scopes import format_scope
from .token_claims import principal_of_claims, read_claims
from .token_header import BAD_HEADER, MAX_TOKEN_BYTES, header_of
from .verified_token import TokenKind, VerifiedToken

if TYPE_CHECKING:
    from .settings import Settings

__all__ = [
    "BAD_HEADER",
    "BAD_SIGNATURE",
    "DEFAULT_AUDIENCE",
    "DEFAULT_ISSUER",
    "DEFAULT_NAMESPACE",
    "EXPIRED",
    "Signer",
    "SigningKey",
    "TokenCodec",
    "TokenKind",
    "UnknownKey",
    "VerifiedToken",
    "principal_of_claims",
]

DEFAULT_ISSUER = "https://amun.ai/"
DEFAULT_NAMESPACE = "https://amun.ai/"
DEFAULT_AUDIENCE = "https://amun-ai.eu.auth0.com/api/v2/"

_REQUIRED = ["iss", "sub", "aud", "iat", "exp"]
_LEEWAY_S = 60  # for `nbf`, because clocks differ; expiry has none

BAD_SIGNATURE = "Signature verification failed."
EXPIRED = "The token has expired. Please fetch a new one"


class SigningKey(Protocol):
    """A private key of the ring."""

    @property
    def id(self) -> str: ...

    @property
    def jwk(self) -> jwt.PyJWK: ...


class Signer(Protocol):
    """The ring, at the one service that signs with it."""

    def key_for(self, expires_at: float) -> SigningKey:
        """Return the key for a token that expires then. Never waits."""


class UnknownKey(Unauthorized):
    """A token of our kind whose key is not known here: it may be a new one."""


class TokenCodec:
    """
    Signs and verifies the tokens of this cluster.

    Access tokens are signed by the auth service (``signer``) with the ring's current key, ES256. Everybody verifies
    with the ring's public keys. Reconnection tokens, and access tokens of operators and of deployments that share it,
    are signed with the cluster's secret, HS256.

    It knows nothing of revocation; use :class:`hypha_common.verifier.TokenVerifier` to decide about a caller.

    """

    def __init__(
        self,
        secret: str,
        issuer: str = DEFAULT_ISSUER,
        audience: str = DEFAULT_AUDIENCE,
        namespace: str = DEFAULT_NAMESPACE,
        *,
        previous: Iterable[str] = (),
    ) -> None:
        self.keys = KeySet(secret, previous)
        self.signer: Signer | None = None
        self._issuer = issuer
        self._audience = audience
        self._namespace = namespace
        self._jwt = jwt.PyJWT(
            {
                "require": _REQUIRED,
                "enforce_minimum_key_length": True,
                # Replicas' clocks differ: a token from a node whose clock is ahead is good at once.
                "verify_iat": False,
            }
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> TokenCodec:
        return cls(
            settings.jwt_secret,
            settings.auth0_issuer,
            settings.auth0_audience,
            settings.auth0_namespace,
            previous=settings.jwt_previous_secrets,
        )

    def sign(
        self,
        principal: Principal,
        *,
        life_s: float,
        kind: TokenKind = TokenKind.ACCESS,
        generation: int | None = None,
        origins: Iterable[str] = (),
    ) -> str:
        """
        Return a token with the principal's scope (``current_workspace`` -> wid, ``client_id`` -> cid).

        Raises BadRequest for one that would be too long to be accepted.

        """
        now = int(time.time())
        expires_at = now + max(1, int(life_s))
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": principal.id,
            "aud": self._audience,
            "iat": now,
            "exp": expires_at,
            "jti": new_id(),
            "scope": format_scope(principal.scope),
            "gty": "client-credentials",
            f"{self._namespace}roles": list(principal.roles),
            f"{self._namespace}email": principal.email,
            f"{self._namespace}typ": str(kind),
        }
        optional = {"parent": principal.parent, "gen": generation, "origin": list(origins) or None}
        claims.update({f"{self._namespace}{name}": value for name, value in optional.items() if value is not None})
        key: SigningKey = self.keys.secret
        if self.signer is not None and kind is TokenKind.ACCESS:
            key = self.signer.key_for(expires_at)
        token = jwt.encode(claims, key.jwk, algorithm=key.jwk.algorithm_name, headers={"kid": key.id})
        if len(token) > MAX_TOKEN_BYTES:
            raise BadRequest("The token would be too long: ask for fewer or shorter scopes")
        return token

    def reconnection_token(
        self,
        principal: Principal,
        workspace: str,
        client_id: str,
        generation: int,
        life_s: float,
        *,
        origins: Iterable[str] = (),
    ) -> str:
        """Return the token with which one client may come back to its place, and nothing else."""
        bound = principal.with_scope(current_workspace=workspace, client_id=client_id)
        return self.sign(bound, life_s=life_s, kind=TokenKind.RECONNECTION, generation=generation, origins=origins)

    def judges(self, token: str) -> bool:
        """Tell whether a token claims to be signed with a key that is known here; anything else is for auth."""
        try:
            header = header_of(token)
        except Unauthorized:
            return False
        return bool(self.keys.candidates(header.algorithm, header.key_id))

    def verify(self, token: str) -> VerifiedToken:
        """Check a token and return what it says, whatever its kind. Raises Unauthorized, UnknownKey among others."""
        header = header_of(token)
        candidates = self.keys.candidates(header.algorithm, header.key_id)
        if not candidates:
            if header.algorithm == RING_ALGORITHM:
                raise UnknownKey(BAD_SIGNATURE)
            raise Unauthorized(f"Invalid algorithm: {header.algorithm}")
        for key in candidates:
            with suppress(jwt.InvalidSignatureError):
                return self._judge(token, key)
        raise Unauthorized(BAD_SIGNATURE)

    def _judge(self, token: str, key: Key) -> VerifiedToken:
        """Verify with one key. Raises InvalidSignatureError where another one may fit, else Unauthorized."""
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token,
                key.jwk,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
            )
            if int(claims["exp"]) <= time.time():
                raise jwt.ExpiredSignatureError
        except jwt.InvalidSignatureError:
            raise
        except jwt.ExpiredSignatureError:
            raise Unauthorized(EXPIRED) from None
        except (jwt.DecodeError, jwt.InvalidAlgorithmError):
            raise Unauthorized(BAD_HEADER) from None
        except jwt.InvalidTokenError as error:
            raise Unauthorized(f"Invalid token claims: {error}") from None
        key_id = "" if key.algorithm == SECRET_ALGORITHM else key.id
        try:
            return read_claims(claims, self._namespace, token=token, key_id=key_id)
        except (BadRequest, TypeError, ValueError) as error:
            raise Unauthorized(f"Invalid token claims: {error}") from None
