from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from hypha_common.errors import BadRequest, DeadlineExceeded, Unauthorized, Unavailable
from hypha_common.ids import new_id
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .accounts.accounts import Accounts
from .callers import address_of, person_of
from .handover import CLAIMS, Handover, UnknownLogin, is_key
from .login_request import LoginRequest, check_workspace, is_storable, life_in
from .pages.layout import Response
from .pages.login_page import LoginPage
from .repository import LoginSession, LoginSessions
from .token_desk import TokenDesk
from .waiters import Waiters

__all__ = ["LOGIN_SERVICE", "Login"]

LOGIN_SERVICE = "hypha-login"

_POLL_S = 2.0
_DEFAULT_TIMEOUT_S = 180.0
_MAX_CLAIM = 8192


class Login:
    """
    The service ``hypha-login`` (contract 01 §4.5): a program starts a login, a person completes it on a web page, the
    program fetches the token.

    Nothing of a login is kept in memory: each step may reach another replica.

    """

    def __init__(
        self,
        *,
        sessions: LoginSessions,
        handover: Handover,
        page: LoginPage,
        desk: TokenDesk,
        accounts: Accounts | None = None,
        waiters: Waiters,
        public_base_url: str,
        life_s: float,
    ) -> None:
        self._sessions = sessions
        self._handover = handover
        self._page = page
        self._desk = desk
        self._accounts = accounts
        self._waiters = waiters
        self._services_url = f"{public_base_url}/public/services/{LOGIN_SERVICE}"
        self._page_url = f"{public_base_url}/public/apps/{LOGIN_SERVICE}/"
        self._life_s = life_s

    @rpc_method
    async def start(self, workspace: str | None = None, expires_in: float | str | None = None) -> dict[str, str]:
        """
        Begin a login.

        Args:
            workspace: the workspace that the token shall be limited to
            expires_in: the life in seconds of such a token

        """
        key, life_s = new_id(), life_in(expires_in)
        workspace = check_workspace(workspace)
        await self._sessions.create(key, workspace=workspace, expires_in=life_s, life_s=self._life_s)
        asked = LoginRequest(key=key, workspace=workspace or "", expires_in="" if life_s is None else str(life_s))
        return {
            "login_url": f"{self._page_url}?{asked.query()}",
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
        if not is_key(key):
            raise UnknownLogin
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
                    async with asyncio.timeout(min(left, _POLL_S)):
                        await completed.wait()

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
        profile = {claim: value for claim, value in zip(CLAIMS, claims, strict=True) if value not in (None, "")}
        if any(isinstance(value, str) and not is_storable(value, _MAX_CLAIM) for value in profile.values()):
            raise BadRequest("A claim is too long, or no text")
        await self._handover.finish(key, token, workspace, life_in(expires_in), profile)

    @rpc_method
    async def generate(self, config: dict[str, Any] | None = None, context: Caller | None = None) -> str:
        """
        Return a token for a program, limited to one workspace.

        Args:
            config: workspace, permission (read, read_write, admin), expires_in, as generate_token takes it

        """
        if context is None:
            raise Unauthorized("Log in first")
        return await self._desk.issue(context.principal, config)

    @rpc_method
    async def index(self, event: dict[str, Any], context: Caller | None = None) -> Response:
        """Serve the login page."""
        return await self._page.serve(event, address_of(context))

    @rpc_method
    async def profile(self, event: dict[str, Any] | None = None, context: Caller | None = None) -> dict[str, Any]:
        """Tell who the caller is; a browser is sent to the login page."""
        if event is not None or context is None:
            return {"status": 302, "headers": {"Location": self._page_url}, "body": ""}
        user = context.principal
        about = {"user_id": user.id, "email": user.email, "roles": list(user.roles), "is_anonymous": user.is_anonymous}
        account = None if self._accounts is None else await self._accounts.account(person_of(context))
        if account is not None:
            about |= {"name": account.name, "email_verified": account.email_verified}
        return {"success": True, **about}

    @rpc_method
    async def logout(self, config: dict[str, Any] | None = None) -> dict[str, str]:
        """Tell where a browser forgets who it is logged in as."""
        return {"logout_url": f"{self._page_url}?logout=true&close=true"}

    async def _taken(self, key: str, *, retry: bool) -> LoginSession | None:
        try:
            session = await self._sessions.take(key)
            if session is None and await self._sessions.get(key) is None:
                raise UnknownLogin
        except (Unavailable, DeadlineExceeded):
            if not retry:
                raise
            return None  # the database is restarting; the person is still typing
        return session
