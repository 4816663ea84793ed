from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from .errors import Unauthorized
from .ids import ROOT_WORKSPACE, is_text
from .principal import root_principal
from .revocation import RevokedTokens
from .tokens import BAD_HEADER, BAD_SIGNATURE, EXPIRED, TokenCodec, TokenKind, VerifiedToken

__all__ = ["REVOKED", "Authenticator", "RootToken", "TokenVerifier", "is_foreign"]

REVOKED = "Token has been revoked"

_MAX_CACHED = 4096
_FOREIGN_LIFE_S = 30.0  # how long auth's word about a token of somebody else's making is believed


class RootToken:
    """The secret that makes its bearer ``root`` (contract 01 §4.4). An empty one makes nobody root."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.token_id = "root:" + hashlib.sha256(b"root token:" + self._secret).hexdigest()[:16]

    def verify(self, token: str) -> VerifiedToken | None:
        """Return root's identity if ``token`` is the root token."""
        given = token.encode("utf-8", "surrogatepass")
        if not self._secret or not hmac.compare_digest(given, self._secret):
            return None
        return VerifiedToken(
            principal=root_principal(),
            workspace=ROOT_WORKSPACE,
            client_id=None,
            extra_scopes=(),
            expires_at=None,
            token_id=self.token_id,
            kind=TokenKind.ACCESS,
        )


@dataclass(frozen=True, slots=True)
class _Cached:
    token: VerifiedToken
    until: float


class _Cache:
    """Verified tokens by their text, the least recently used dropped first."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[str, _Cached] = OrderedDict()

    def get(self, token: str, now: float) -> VerifiedToken | None:
        entry = self._entries.get(token)
        if entry is None:
            return None
        if entry.until <= now:
            del self._entries[token]
            return None
        self._entries.move_to_end(token)
        return entry.token

    def put(self, token: str, verified: VerifiedToken, until: float) -> None:
        self._entries[token] = _Cached(verified, until)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


class TokenVerifier:
    """
    Decides about tokens signed in this cluster, without asking anybody: signature, claims, expiry, revocation.

    Verified tokens are remembered; expiry and revocation are looked at on every use.

    """

    def __init__(
        self,
        codec: TokenCodec,
        revoked: RevokedTokens,
        *,
        max_cached: int = _MAX_CACHED,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._codec = codec
        self._revoked = revoked
        self._cache = _Cache(max_cached)
        self._now = now

    def verify(self, token: str, kind: TokenKind | None = TokenKind.ACCESS) -> VerifiedToken:
        """Return what a token of this kind (None: any) says. Raises Unauthorized with the texts of contract 01 §4.3."""
        now = self._now()
        verified = self._cache.get(token, now)
        if verified is None:  # an error is not remembered: a key that is unknown now may come
            verified = self._codec.verify(token)
            if verified.expires_at is not None and verified.expires_at <= now:
                raise Unauthorized(EXPIRED)
            self._cache.put(token, verified, verified.expires_at or now)
        self.check_revoked(*verified.revocable)
        return verified if kind is None else verified.require(kind)

    def judges(self, token: str) -> bool:
        """Tell whether it is for this verifier to say what a token is worth; all others are for the auth service."""
        return self._cache.get(token, self._now()) is not None or self._codec.judges(token)

    def check_revoked(self, *token_ids: str) -> None:
        """
        Raise Unauthorized if any of these is revoked.

        Ask it with a connection's ``origins`` before giving that connection a new reconnection token.

        """
        if any(token_id in self._revoked for token_id in token_ids):
            raise Unauthorized(REVOKED)


class Authenticator:
    """
    Finds out who a token stands for: at once for the cluster's own, else by asking the auth service.

    ``ask(token)`` is the ``authenticate`` verb of auth; it knows the root token, other issuers, and the newest keys.

    """

    def __init__(
        self,
        verifier: TokenVerifier,
        ask: Callable[[str], Awaitable[dict[str, Any]]],
        *,
        others: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._ask = ask
        self._others = others  # whether somebody beside the cluster judges tokens that look like its own
        self._cache = _Cache(_MAX_CACHED)
        self._now = now

    async def verify(self, token: str, kind: TokenKind | None = TokenKind.ACCESS) -> VerifiedToken:
        """Return what the token says. Raises Unauthorized, or Unavailable where auth is needed and away."""
        if not is_text(token):
            raise Unauthorized(BAD_HEADER)
        if self._verifier.judges(token):
            try:
                return self._verifier.verify(token, kind)
            except Unauthorized as error:
                if not (is_foreign(error) and self._others()):
                    raise
        now = self._now()
        verified = self._cache.get(token, now)
        if verified is None:
            verified = VerifiedToken.load(await self._ask(token))
            limit = now + _FOREIGN_LIFE_S
            self._cache.put(token, verified, min(limit, verified.expires_at or limit))
        self._verifier.check_revoked(*verified.revocable)
        return verified if kind is None else verified.require(kind)

    def forget(self) -> None:
        """Believe nothing any more of what auth has said: somebody else judges tokens now."""
        self._cache = _Cache(_MAX_CACHED)


def is_foreign(error: Unauthorized) -> bool:
    """Tell whether a token was refused for not being signed by the cluster: then somebody else may know it."""
    return error.message in (BAD_SIGNATURE, BAD_HEADER) or error.message.startswith("Invalid algorithm")
