from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import structlog

from hypha_common.errors import BadRequest, Conflict, DeadlineExceeded, HyphaError, Unauthorized, Unavailable
from hypha_common.ids import new_id
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.rpc.service import rpc_method
from hypha_common.tokens import TokenCodec, TokenKind, VerifiedToken

from .issuing import DEFAULT_LIFE_S, life_of
from .login_page import LoginPage, Response
from .repository import LoginSession, LoginSessions
from .waiters import Waiters

__all__ = ["LOGIN_SERVICE", "Login"]

log = structlog.get_logger(__name__)

LOGIN_SERVICE = "hypha-login"

_POLL_S = 2.0
_DEFAULT_TIMEOUT_S = 180.0
_MAX_CLAIM = 8192
_MAX_WORKSPACE = 255
_KEY = re.compile(r"[0-9A-Za-z]{1,64}")
_CLAIMS = ("email", "email_verified", "name", "nickname", "user_id", "picture")


class Login:
    """
    The service ``hypha-login`` (contract 01 §4.5): a program starts a login, a person completes it on a web page, the
    program fetches the token.

    Nothing of a login is kept in memory: each step may reach another replica. With no identity provider configured, a
    person logs in with a token that he or she has already.

    """

    def __init__(
        self,
        *,
        sessions: LoginSessions,
        codec: TokenCodec,
        verify: Callable[[str], VerifiedToken],
        owned: Callable[[Principal, str], Awaitable[Permission]],
        waiters: Waiters,
        public_base_url: str,
        life_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._codec = codec
        self._verify = verify
        self._owned = owned  # what the record of a workspace grants somebody; raises PermissionDenied, NotFound
        self._waiters = waiters
        self._services_url = f"{public_base_url}/public/services/{LOGIN_SERVICE}"
        self._page_url = f"{public_base_url}/public/apps/{LOGIN_SERVICE}/"
        self._page = LoginPage(public_base_url=public_base_url, finish=self._finish)
        self._life_s = life_s
        self._now = now

    @rpc_method
    async def start(self, workspace: str | None = None, expires_in: float | str | None = None) -> dict[str, str]:
        """
        Begin a login.

        Args:
            workspace: the workspace that the token shall be limited to
            expires_in: the life in seconds of such a token

        """
        key, life_s = new_id(), _life(expires_in)
        workspace = _workspace(workspace)
        await self._sessions.create(key, workspace=workspace, expires_in=life_s, life_s=self._life_s)
        query = {"key": key, "workspace": workspace, "expires_in": life_s}
        given = urlencode({name: value for name, value in query.items() if value is not None})
        return {
            "login_url": f"{self._page_url}?{given}",
            "key": key,
            "report_url": f"{self._services_url}/report",
            "check_url": f"{self._services_url}/check",
            "generate_url": f"{self._services_url}/generate",
        }

    @rpc_method
    async def check(self, key: str, timeout: float | None = _DEFAULT_TIMEOUT_S, profile: bool = False) -> Any:
        """
        Wait until a login is completed and return its token, once.

        Args:
            key: the key from start
            timeout: seconds to wait; 0 answers at once, with null where nobody has logged in yet
            profile: return a map with the token and what is known of the person, instead of the token alone

        """
        seconds = _DEFAULT_TIMEOUT_S if timeout is None else timeout
        if not _KEY.fullmatch(key):
            raise _unknown_key()
        deadline = asyncio.get_running_loop().time() + seconds
        with self._waiters.watch(key) as completed:
            while True:
                completed.clear()
                session = await self._taken(key, retry=seconds > 0)
                if session is not None:
                    return session.profile if profile else session.token
                if seconds <= 0:
                    return None
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise DeadlineExceeded(f"Login timeout, waited for {seconds:g} seconds", rpc_type="Exception")
                with suppress(TimeoutError):
                    await asyncio.wait_for(completed.wait(), min(left, _POLL_S))

    @rpc_method
    async def report(
        self,
        key: str,
        token: str,
        workspace: str | None = None,
        expires_in: float | str | None = None,
        email: str | None = None,
        email_verified: bool | str | None = None,
        name: str | None = None,
        nickname: str | None = None,
        user_id: str | None = None,
        picture: str | None = None,
    ) -> None:
        """
        Complete a login: called by the login page with the token of the person who has logged in.

        Args:
            key: the key from start
            token: the token of the person
            workspace: hand on a token that is limited to this workspace
            expires_in: the life in seconds of such a token

        """
        claims = (email, email_verified, name, nickname, user_id, picture)
        profile = {claim: value for claim, value in zip(_CLAIMS, claims, strict=True) if value not in (None, "")}
        if any(isinstance(value, str) and not _is_storable(value, _MAX_CLAIM) for value in profile.values()):
            raise BadRequest("A claim is too long, or no text")
        await self._finish(key, token, workspace, _life(expires_in), profile)

    @rpc_method
    async def index(self, event: dict[str, Any]) -> Response:
        """Serve the login page."""
        return await self._page.serve(event)

    @rpc_method
    async def profile(self, event: dict[str, Any] | None = None) -> Response:
        """Send a person's browser to the login page."""
        return {"status": 302, "headers": {"Location": self._page_url}, "body": ""}

    @rpc_method
    async def logout(self, config: dict[str, Any] | None = None) -> dict[str, str]:
        """Tell where a browser forgets who it is logged in as."""
        return {"logout_url": f"{self._page_url}?logout=true&close=true"}

    async def _taken(self, key: str, *, retry: bool) -> LoginSession | None:
        try:
            session = await self._sessions.take(key)
            if session is None and await self._sessions.get(key) is None:
                raise _unknown_key()
        except (Unavailable, DeadlineExceeded):
            if not retry:
                raise
            return None  # the database is restarting; the person is still typing
        return session

    async def _finish(
        self, key: str, token: str, workspace: str | None, life_s: int | None, claims: Mapping[str, Any]
    ) -> str:
        """Verify a person's token, put what the program shall get into the session, and return that."""
        session = await self._sessions.get(key) if _KEY.fullmatch(key) else None
        if session is None:
            raise _unknown_key()
        workspace = _workspace(workspace) or session.workspace
        if life_s is None:
            life_s = session.expires_in
        try:
            verified = self._verify(token).require(TokenKind.ACCESS)
            handed = await self._handed(token, verified, workspace, life_s)
        except (Unauthorized, BadRequest) as error:
            raise BadRequest(f"Invalid token provided to report_login: {error}") from None
        user = verified.principal
        profile = dict.fromkeys(_CLAIMS) | {"email": user.email, "user_id": user.id} | dict(claims)
        profile |= {"token": handed, "workspace": workspace, "expires_in": life_s}
        if not await self._sessions.complete(key, handed, profile):
            raise Conflict("This login is already completed")
        log.info("login_completed", user=user.id, workspace=workspace)
        with suppress(HyphaError):  # the program then finds out by itself within a poll
            self._waiters.wake(key)
        return handed

    async def _handed(self, token: str, verified: VerifiedToken, workspace: str | None, life_s: int | None) -> str:
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
        life: float = life_s or DEFAULT_LIFE_S
        if limited and verified.expires_at is not None:
            life = min(life, verified.expires_at - self._now())
        scope = Scope(
            workspaces={workspace: held},
            current_workspace=workspace,
            client_id=verified.client_id,
            extra_scopes=verified.extra_scopes,
        )
        return self._codec.sign(_limited(verified, scope), life_s=life, origin=verified.origin or verified.token_id)


def _limited(verified: VerifiedToken, scope: Scope) -> Principal:
    """The same user without the power over the cluster; a parent marks an identity that does not act directly."""
    user = verified.principal
    roles = tuple(role for role in user.roles if role != "admin")
    return replace(user, roles=roles, parent=user.parent or user.id, scope=scope)


def _life(expires_in: float | str | None) -> int | None:
    """Read a life in seconds as a query string or a program writes it; empty is absent."""
    if expires_in is None or expires_in == "":
        return None
    try:
        return life_of(float(expires_in))
    except ValueError:
        raise BadRequest("expires_in must be a number of seconds") from None


def _workspace(name: str | None) -> str | None:
    if name and not _is_storable(name, _MAX_WORKSPACE):
        raise BadRequest("Invalid workspace")
    return name or None


def _is_storable(text: str, max_length: int) -> bool:
    """PostgreSQL holds no NUL, and UTF-8 no lone surrogate."""
    return len(text) <= max_length and "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _unknown_key() -> BadRequest:
    return BadRequest("Invalid key, key does not exist", rpc_type="AssertionError")
