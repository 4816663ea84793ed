from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import structlog

from hypha_common.audit import Audit
from hypha_common.bus import Bus
from hypha_common.errors import BadRequest, PermissionDenied, Unauthorized
from hypha_common.principal import Permission, Principal
from hypha_common.revocation import RevokedTokens
from hypha_common.tokens import EXPIRED, TokenCodec, TokenKind, UnknownKey, VerifiedToken
from hypha_common.verifier import RootToken, TokenVerifier, is_foreign

from .announcing import Announcer
from .custom_auth import CustomTokens
from .issuing import TokenConfig, child_of
from .key_ring import KeyRing
from .repository import RevokedTokenRows
from .revoking import LOGIN_LIFE_S, MAX_HANDED_LIFE_S, revocation_of

__all__ = ["AuthVerbs", "External"]

log = structlog.get_logger(__name__)

# Returns what an access token of the identity provider says, None for one that is not the provider's.
External: TypeAlias = Callable[[str], Awaitable[VerifiedToken | None]]


class AuthVerbs:
    """
    What the auth service answers to other services: ``hy.r.auth.<p>.<verb>``.

    Callers are gateways and workspace services; the ``user`` they name is the one that a gateway has stamped.

    """

    def __init__(
        self,
        *,
        codec: TokenCodec,
        ring: KeyRing,
        verifier: TokenVerifier,
        root: RootToken,
        revoked: RevokedTokens,
        rows: RevokedTokenRows,
        announcer: Announcer,
        audit: Audit,
        reconnection_life_s: float,
        external: External | None = None,
        custom: CustomTokens | None = None,
    ) -> None:
        self._codec = codec
        self._ring = ring
        self._verifier = verifier
        self._root = root
        self._revoked = revoked
        self._rows = rows
        self._announcer = announcer
        self._audit = audit
        self._reconnection_life_s = reconnection_life_s
        self._external = external
        self._custom = custom

    async def serve(self, bus: Bus) -> None:
        for verb in (self.authenticate, self.issue, self.parse, self.revoke):
            await bus.serve("auth", verb.__name__, verb)

    def verify(self, token: str) -> VerifiedToken:
        """Return what any token says, of whatever kind. Raises Unauthorized."""
        return self._root.verify(token) or self._verifier.verify(token, None)

    async def authenticate(self, message: dict[str, Any]) -> dict[str, Any]:
        """``{token}`` -> the dump of a VerifiedToken."""
        return (await self.judge(_text(message, "token"))).dump()

    async def issue(self, message: dict[str, Any]) -> dict[str, str]:
        """``{user, config, workspace, owner?}`` -> ``{token}``; ``owner``: the workspace's record names the caller."""
        caller = Principal.load(message.get("user") or {})
        config = TokenConfig.parse(message.get("config"), workspace=_text(message, "workspace"))
        child = child_of(caller, config, owner=bool(message.get("owner")))
        custom = None if self._custom is None else await self._custom.generate(caller, child, config.expires_in)
        token = self._codec.sign(child, life_s=config.expires_in) if custom is None else custom
        log.info("token_issued", user=caller.id, workspace=config.workspace, permission=config.permission.wire)
        self._audit.record(
            "token_issued",
            user=caller.id,
            workspace=config.workspace,
            permission=config.permission.wire,
            expires_in=config.expires_in,
        )
        return {"token": token}

    async def parse(self, message: dict[str, Any]) -> dict[str, Any]:
        """``{token, workspace}`` -> UserInfo of a token that may be used in that workspace."""
        workspace = _text(message, "workspace")
        verified = (await self.judge(_text(message, "token"))).require(TokenKind.ACCESS)
        if verified.workspace is not None and verified.workspace != workspace:
            raise PermissionDenied(f"Token is not authorized for workspace '{workspace}'")
        return verified.principal.dump()

    async def revoke(self, message: dict[str, Any]) -> None:
        """``{token, user}``: refuse a token, and the reconnection tokens that came from it, from now on everywhere."""
        token, caller = _text(message, "token"), Principal.load(message.get("user") or {})
        if self._root.verify(token) is not None:
            raise BadRequest("Invalid token: the root token cannot be revoked, only changed in the configuration")
        try:
            verified = await self._of_any_signer(token)
        except Unauthorized as error:
            text = "Token has already expired" if error.message == EXPIRED else f"Invalid token: {error.message}"
            raise BadRequest(text) from None
        _check_may_revoke(caller, verified)
        token_id, until = revocation_of(verified, self._reconnection_life_s)
        await self.refuse(token_id, until, caller.id)
        log.info("token_revoked", user=caller.id, subject=verified.principal.id, token_id=verified.token_id)
        subject = verified.principal.id
        workspace = verified.workspace or ""
        self._audit.record(
            "token_revoked", user=caller.id, workspace=workspace, subject=subject, token_id=verified.token_id
        )

    async def judge(self, token: str) -> VerifiedToken:
        """
        Return what any token says, wherever and with however new a key it was made.

        What the cluster has not signed, startup functions judge where there are some, else the identity provider.
        Raises Unauthorized, Unavailable.

        """
        external = await self._issued_elsewhere(token)
        if external is not None:
            self._verifier.check_revoked(*external.revocable)
            return external
        try:
            return await self._own(token)
        except Unauthorized as error:
            custom = await self._judged_elsewhere(token, error)
            if custom is None:
                raise
        self._verifier.check_revoked(*custom.revocable)
        return custom

    async def _own(self, token: str) -> VerifiedToken:
        try:
            return self.verify(token)
        except UnknownKey:
            await self._ring.refresh_for_unknown()
            return self.verify(token)

    async def _of_any_signer(self, token: str) -> VerifiedToken:
        """Return what a token says, revoked or not."""
        try:
            return await self._issued_elsewhere(token) or self._codec.verify(token)
        except Unauthorized as error:
            custom = await self._judged_elsewhere(token, error)
            if custom is None:
                raise
            return custom

    async def _issued_elsewhere(self, token: str) -> VerifiedToken | None:
        replaced = self._custom is not None and self._custom.judges
        if self._external is None or replaced or self._codec.judges(token):
            return None
        return await self._external(token)

    async def refuse(self, token_id: str, until: float, user_id: str) -> None:
        """Refuse a token and what descends from it, from now on everywhere, until that Unix time."""
        await self._rows.add(token_id, until, user_id)
        self._revoked.add([(token_id, until)])
        self._announcer.revoked([(token_id, until)])

    async def revoke_origin(self, origin: str, user_id: str) -> None:
        """Refuse, from now on everywhere, all tokens that descend from one login."""
        # A token that the login handed on at its end, and the reconnection token of a connection made with that.
        until = time.time() + LOGIN_LIFE_S + MAX_HANDED_LIFE_S + self._reconnection_life_s
        await self.refuse(origin, until, user_id)
        log.info("login_revoked", user=user_id)
        self._audit.record("token_revoked", user=user_id, subject=user_id, token_id=origin)

    async def _judged_elsewhere(self, token: str, error: Unauthorized) -> VerifiedToken | None:
        """Return what custom authentication says of a token that the cluster has not signed; None: there is none."""
        return await self._custom.judge(token) if self._custom is not None and is_foreign(error) else None


def _check_may_revoke(caller: Principal, verified: VerifiedToken) -> None:
    """Its own user, that user's parent, and administrators of its workspace may revoke a token."""
    owner, workspace = verified.principal, verified.workspace
    if caller.id in (owner.id, owner.parent) or caller.permission("*") >= Permission.ADMIN:
        return
    if workspace is None or caller.permission(workspace) < Permission.ADMIN:
        raise PermissionDenied(f"Permission denied for workspace: {workspace or owner.id}")


def _text(message: dict[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be text")
    return value
