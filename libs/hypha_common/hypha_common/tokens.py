from __future__ import annotations

import hashlib
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import jwt

from .errors import BadRequest, ConfigurationError, Unauthorized
from .ids import new_id, personal_workspace
from .principal import Permission, Principal
from .revocation import key_mark
from .scopes import format_scope, parse_scope

__all__ = [
    "DEFAULT_AUDIENCE",
    "DEFAULT_ISSUER",
    "DEFAULT_NAMESPACE",
    "MIN_SECRET_BYTES",
    "TokenCodec",
    "TokenKind",
    "VerifiedToken",
    "is_local",
    "principal_of_claims",
]

DEFAULT_ISSUER = "https://amun.ai/"
DEFAULT_NAMESPACE = "https://amun.ai/"
DEFAULT_AUDIENCE = "https://amun-ai.eu.auth0.com/api/v2/"
MIN_SECRET_BYTES = 32

_MAX_TOKEN_BYTES = 8 * 1024
_COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)  # decoders of base64 skip what does not belong there
_TOKEN_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)  # without a colon: it cannot be the mark of a key
_ALGORITHM = "HS256"
_REQUIRED = ["iss", "sub", "aud", "iat", "exp"]

BAD_HEADER = "Error decoding token headers."
BAD_SIGNATURE = "Signature verification failed."
EXPIRED = "The token has expired. Please fetch a new one"


class TokenKind(StrEnum):
    """What a token is for. One kind is never accepted in place of another."""

    ACCESS = "access"
    RECONNECTION = "reconnection"
    # Signed with the same secret by somebody who does not say: access, or reconnection where it names wid and cid.
    UNTYPED = "untyped"


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token says, after its signature, issuer, audience and expiry were found good."""

    principal: Principal
    workspace: str | None  # wid: the only workspace it may be used in
    client_id: str | None  # cid: the only client that may present it
    extra_scopes: tuple[str, ...]
    expires_at: float | None  # None only for the root token
    token_id: str  # what a revocation names
    kind: TokenKind
    generation: int | None = None  # of the connection that a reconnection token was made for
    origins: tuple[str, ...] = ()  # ids of the tokens that this one descends from; revoking one revokes this
    key_id: str = ""  # of the key of the cluster's ring that signed it; empty: the shared secret

    @property
    def revocable(self) -> tuple[str, ...]:
        """The ids of which none may be revoked: its own, those it descends from, the mark of its key."""
        own = (self.token_id, *self.origins)
        return (*own, key_mark(self.key_id)) if self.key_id else own

    @property
    def lineage(self) -> tuple[str, ...]:
        """
        The ``origins`` of what is made from this token.

        A reconnection token is only one link between its origins and its successor: it leaves no trace, or the list
        would grow with every reconnection.

        """
        ids = self.revocable[1:] if self.kind is TokenKind.RECONNECTION else self.revocable
        return tuple(dict.fromkeys(ids))

    def require(self, kind: TokenKind) -> VerifiedToken:
        """Return self if it may serve as ``kind``, or raise Unauthorized."""
        if self.kind is kind:
            return self
        bound = self.workspace is not None and self.client_id is not None
        if self.kind is TokenKind.UNTYPED and (kind is TokenKind.ACCESS or bound):
            return self
        raise Unauthorized(f"Invalid token type: {self.kind} token where {kind} token is needed")

    def dump(self) -> dict[str, Any]:
        return {
            "user": self.principal.dump(),
            "workspace": self.workspace,
            "client_id": self.client_id,
            "extra_scopes": list(self.extra_scopes),
            "expires_at": self.expires_at,
            "token_id": self.token_id,
            "kind": str(self.kind),
            "generation": self.generation,
            "origins": list(self.origins),
            "key_id": self.key_id,
        }

    @classmethod
    def load(cls, data: dict[str, Any]) -> VerifiedToken:
        """Rebuild what :meth:`dump` wrote. Raises BadRequest."""
        try:
            return cls(
                principal=Principal.load(data["user"]),
                workspace=data["workspace"],
                client_id=data["client_id"],
                extra_scopes=tuple(data["extra_scopes"]),
                expires_at=data["expires_at"],
                token_id=data["token_id"],
                kind=TokenKind(data["kind"]),
                generation=data["generation"],
                origins=tuple(data["origins"]),
                key_id=data["key_id"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadRequest(f"Invalid token information: {error!r}") from None


class TokenCodec:
    """
    Signs and verifies the tokens of this cluster: HS256 with the one secret that every node shares.

    It knows nothing of revocation; use :class:`hypha_common.verifier.TokenVerifier` to decide about a caller.

    """

    def __init__(
        self,
        secret: str,
        issuer: str = DEFAULT_ISSUER,
        audience: str = DEFAULT_AUDIENCE,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> None:
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise ConfigurationError(
                f"The token secret (HYPHA_JWT_SECRET) must have at least {MIN_SECRET_BYTES} bytes; "
                "make one with: openssl rand -hex 32"
            )
        # A prepared key: a plain one would be examined again for every token.
        encoded = urlsafe_b64encode(secret.encode()).decode()
        self._key = jwt.PyJWK({"kty": "oct", "k": encoded}, algorithm=_ALGORITHM)
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

    def sign(
        self,
        principal: Principal,
        *,
        life_s: float,
        kind: TokenKind = TokenKind.ACCESS,
        generation: int | None = None,
        origins: Iterable[str] = (),
    ) -> str:
        """Return a token with the principal's scope (``current_workspace`` -> wid, ``client_id`` -> cid)."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": principal.id,
            "aud": self._audience,
            "iat": now,
            "exp": now + max(1, int(life_s)),
            "jti": new_id(),
            "scope": format_scope(principal.scope),
            "gty": "client-credentials",
            f"{self._namespace}roles": list(principal.roles),
            f"{self._namespace}email": principal.email,
            f"{self._namespace}typ": str(kind),
        }
        optional = {"parent": principal.parent, "gen": generation, "origin": list(origins) or None}
        claims.update({f"{self._namespace}{name}": value for name, value in optional.items() if value is not None})
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

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

    def verify(self, token: str) -> VerifiedToken:
        """Check a token and return what it says, whatever its kind. Raises Unauthorized."""
        if len(token) > _MAX_TOKEN_BYTES or not _COMPACT.fullmatch(token):
            raise Unauthorized(BAD_HEADER)
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], audience=self._audience, issuer=self._issuer
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized(EXPIRED) from None
        except jwt.InvalidSignatureError:
            raise Unauthorized(BAD_SIGNATURE) from None
        except jwt.InvalidAlgorithmError:
            raise Unauthorized(f"Invalid algorithm: {_algorithm_of(token)}") from None
        except jwt.DecodeError:
            raise Unauthorized(BAD_HEADER) from None
        except jwt.InvalidTokenError as error:
            raise Unauthorized(f"Invalid token claims: {error}") from None
        try:
            return self._read(claims, token)
        except (BadRequest, TypeError, ValueError) as error:
            raise Unauthorized(f"Invalid token claims: {error}") from None

    def _read(self, claims: dict[str, Any], token: str) -> VerifiedToken:
        principal = principal_of_claims(claims, self._namespace)
        scope = principal.scope
        generation, jti = claims.get(f"{self._namespace}gen"), claims.get("jti")
        return VerifiedToken(
            principal=principal,
            workspace=scope.current_workspace,
            client_id=scope.client_id,
            extra_scopes=scope.extra_scopes or (),
            expires_at=principal.expires_at,
            token_id=jti if isinstance(jti, str) and _TOKEN_ID.fullmatch(jti) else _digest(token),
            kind=TokenKind(claims.get(f"{self._namespace}typ", TokenKind.UNTYPED)),
            generation=None if generation is None else int(generation),
            origins=_origins(claims.get(f"{self._namespace}origin")),
        )


def principal_of_claims(claims: dict[str, Any], namespace: str) -> Principal:
    """
    Return the user that verified claims describe (contract 01 §4.1).

    A user owns its personal workspace, and an administrator everything. A token bound to another workspace does not
    bring the personal one along: whoever holds it would not be limited to the workspace it was made for.

    """
    user_id, roles = claims["sub"], claims.get(f"{namespace}roles") or []
    granted = claims.get("scope") or ""
    if not user_id or not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise BadRequest("a subject and a list of roles are needed")
    if not isinstance(granted, str):
        raise BadRequest("the scope must be text")
    scope = parse_scope(granted)
    grants = dict(scope.workspaces)
    own = personal_workspace(user_id)
    if scope.current_workspace in (None, own):
        grants[own] = Permission.ADMIN
    if "admin" in roles:
        grants["*"] = Permission.ADMIN
    return Principal(
        id=user_id,
        roles=tuple(roles),
        is_anonymous="anonymous" in roles,
        scope=replace(scope, workspaces=grants),
        email=claims.get(f"{namespace}email"),
        parent=claims.get(f"{namespace}parent"),
        expires_at=float(claims["exp"]),
    )


def is_local(token: str) -> bool:
    """Tell whether a token claims to be one that :class:`TokenCodec` can judge; anything else is for auth."""
    try:
        return _algorithm_of(token) == _ALGORITHM
    except Unauthorized:
        return False


def _algorithm_of(token: str) -> str:
    try:
        return str(jwt.get_unverified_header(token).get("alg"))
    except (jwt.InvalidTokenError, UnicodeEncodeError):
        raise Unauthorized(BAD_HEADER) from None


def _origins(claim: object) -> tuple[str, ...]:
    """Read a list of ids, or the single id that older replicas write."""
    ids = [claim] if isinstance(claim, str) else claim or []
    if not isinstance(ids, list) or not all(isinstance(token_id, str) for token_id in ids):
        raise BadRequest("the origins must be a list of token ids")
    return tuple(ids)


def _digest(token: str) -> str:
    # Only the signed part: base64 lets one signature be written in several ways.
    return hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()
