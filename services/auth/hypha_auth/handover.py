from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog

from hypha_common.errors import BadRequest, Conflict, HyphaError, Unauthorized
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.tokens import TokenCodec, TokenKind, VerifiedToken

from .issuing import DEFAULT_LIFE_S
from .login_request import check_workspace
from .repository import LoginSession, LoginSessions
from .revoking import MAX_HANDED_LIFE_S
from .waiters import Waiters

__all__ = ["CLAIMS", "Handover", "UnknownLogin", "is_key"]

log = structlog.get_logger(__name__)

CLAIMS = ("email", "email_verified", "name", "nickname", "user_id", "picture")

_KEY = re.compile(r"[0-9A-Za-z]{1,64}")


class Handover:
    """
    Gives a program that has started a login the token for it.

    The token is the person's own, or one that is limited to the workspace that the program named.

    """

    def __init__(
        self,
        *,
        sessions: LoginSessions,
        codec: TokenCodec,
        judge: Callable[[str], Awaitable[VerifiedToken]],
        owned: Callable[[Principal, str], Awaitable[Permission]],
        waiters: Waiters,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._codec = codec
        self._judge = judge
        self._owned = owned  # what the record of a workspace grants somebody; raises PermissionDenied, NotFound
        self._waiters = waiters
        self._now = now

    async def session(self, key: str) -> LoginSession:
        """Return the login that waits under ``key``. Raises BadRequest (AssertionError) where there is none."""
        session = await self._sessions.get(key) if is_key(key) else None
        if session is None:
            raise UnknownLogin
        return session

    async def finish(
        self, key: str, token: str, workspace: str | None, life_s: int | None, claims: Mapping[str, Any]
    ) -> str:
        """
        Verify a person's token, put what the program shall get into the session, and return that.

        The workspace and the life that the program asked for at the start hold where none are given here.

        """
        session = await self.session(key)
        workspace = check_workspace(workspace) or session.workspace
        if life_s is None:
            life_s = session.expires_in
        try:
            verified = (await self._judge(token)).require(TokenKind.ACCESS)
            handed = await self.limited(token, verified, workspace, life_s)
        except (Unauthorized, BadRequest) as error:
            raise BadRequest(f"Invalid token provided to report_login: {error}") from None
        user = verified.principal
        profile = dict.fromkeys(CLAIMS) | {"email": user.email, "user_id": user.id} | dict(claims)
        profile |= {"token": handed, "workspace": workspace, "expires_in": life_s}
        if not await self._sessions.complete(key, handed, profile):
            raise Conflict("This login is already completed")
        log.info("login_completed", user=user.id, workspace=workspace)
        with suppress(HyphaError):  # the program then finds out by itself within a poll
            self._waiters.wake(key)
        return handed

    async def limited(self, token: str, verified: VerifiedToken, workspace: str | None, life_s: int | None) -> str:
        """
        Return the token for the program: the person's own, or one that is limited to ``workspace``.

        A token that is limited already neither reaches further nor lives longer afterwards. The root token itself is
        never handed on: it has no end.

        """
        user = verified.principal
        if workspace is None:
            if verified.expires_at is not None:
                return token
            bound = user.with_scope(current_workspace=verified.workspace)
            return self._codec.sign(bound, life_s=life_s or DEFAULT_LIFE_S)
        held = user.permission(workspace)
        limited = user.parent is not None or verified.workspace is not None
        if limited and workspace != verified.workspace and not held:
            raise BadRequest(f"it is restricted to workspace {verified.workspace}")
        if held < Permission.READ:
            # Written into the token, because one that is limited owns nothing by its bearer's name.
            held = await self._owned(user, workspace)
        life: float = min(life_s or DEFAULT_LIFE_S, MAX_HANDED_LIFE_S)
        if limited and verified.expires_at is not None:
            life = min(life, verified.expires_at - self._now())
        scope = Scope(
            workspaces={workspace: held},
            current_workspace=workspace,
            client_id=verified.client_id,
            extra_scopes=verified.extra_scopes,
        )
        return self._codec.sign(_without_power(verified, scope), life_s=life, origins=verified.lineage)


def is_key(text: str) -> bool:
    return _KEY.fullmatch(text) is not None


class UnknownLogin(BadRequest):
    """No login waits under this key: there was none, it took too long, or its token was fetched."""

    rpc_type = "AssertionError"

    def __init__(self) -> None:
        super().__init__("Invalid key, key does not exist")


def _without_power(verified: VerifiedToken, scope: Scope) -> Principal:
    """The same user without the power over the cluster; a parent marks an identity that does not act directly."""
    user = verified.principal
    roles = tuple(role for role in user.roles if role != "admin")
    return replace(user, roles=roles, parent=user.parent or user.id, scope=scope)
