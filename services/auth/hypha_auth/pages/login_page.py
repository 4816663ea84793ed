from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from html import escape
from typing import Any

from hypha_auth.handover import Handover, UnknownLogin
from hypha_auth.identity import IdentityProvider
from hypha_auth.issuing import DEFAULT_LIFE_S
from hypha_auth.login_flow import TOKEN_COOKIES, LoginFlow, problem_of
from hypha_auth.login_request import LoginRequest, check_workspace
from hypha_common.errors import BadRequest, HyphaError, PayloadTooLarge, Unauthorized
from hypha_common.tokens import TokenKind, VerifiedToken

from .account_pages import AccountPages
from .browser import BrowserRequest
from .forms import button_links, problem_box, program_box, token_form
from .home_page import HomePage
from .layout import Response

__all__ = ["LoginPage"]

_FOREIGN = "This form was sent by another site. Open the login page yourself and try again."
_CLOSE = "window.close();"


class LoginPage:
    """The page where a person logs in, for a program that has asked for it or for the browser alone."""

    def __init__(
        self,
        *,
        flow: LoginFlow,
        handover: Handover,
        judge: Callable[[str], Awaitable[VerifiedToken]],
        home: HomePage,
        accounts: AccountPages | None = None,
        providers: Sequence[IdentityProvider] = (),
    ) -> None:
        self._flow = flow
        self._handover = handover
        self._judge = judge
        self._home = home
        self._accounts = accounts
        self._providers = providers

    async def serve(self, event: Mapping[str, Any], address: str = "") -> Response:
        """Answer one request for the page."""
        layout = self._flow.layout
        try:
            browser = BrowserRequest.of(event, origin=layout.origin, address=address)
        except PayloadTooLarge:
            return self._flow.refuse(LoginRequest(), "That is too long.", status=413)
        request = LoginRequest.of(browser.fields)
        if browser.method == "POST":
            if browser.is_foreign:
                return self._flow.refuse(request, _FOREIGN, status=403)
            return await self._submitted(browser, request)
        if browser.query.get("logout"):
            return self._logged_out(request)
        return await self._opened(browser, request)

    async def _opened(self, browser: BrowserRequest, request: LoginRequest) -> Response:
        """Answer somebody who comes to the page."""
        verified = None if browser.query.get("clear") else await self._logged_in(browser)
        if verified is not None and not request.key and not request.redirect:
            return await self._home.page(verified)
        return await self._sign_in(browser, request, verified=verified, view=browser.query.get("view", ""))

    async def _submitted(self, browser: BrowserRequest, request: LoginRequest) -> Response:
        """Do what a form of the page asks for."""

        async def again(**how: Any) -> Response:
            return await self._sign_in(browser, request, **how)

        if self._accounts is not None:
            answer = await self._accounts.act(browser, request, again)
            if answer is not None:
                return answer
        action = browser.form.get("action", "token")
        if action == "token":
            return await self._pasted(browser, request, browser.form.get("token", "").strip())
        # All others act in the name of whom the browser is logged in as.
        verified = await self._logged_in(browser)
        if verified is None or not browser.is_own:
            return await again(problem="Log in first.", status=401)
        if action == "continue":
            return await self._continued(browser, request, verified)
        return await self._home.act(action, browser, verified)

    async def _pasted(self, browser: BrowserRequest, request: LoginRequest, token: str) -> Response:
        """Log in with a token that the person has already."""
        try:
            verified, life_s = await self._accepted(token), request.life_s
            mine = await self._handover.limited(token, verified, None, life_s)
            await self._hand_over(request, token)
        except UnknownLogin:
            return self._flow.late()
        except HyphaError as error:
            return await self._sign_in(browser, request, problem=problem_of(error), status=error.status, by_token=True)
        left = life_s or DEFAULT_LIFE_S if verified.expires_at is None else verified.expires_at - time.time()
        # A form on somebody else's page must not log this browser in as somebody else.
        return self._flow.done(request, mine if browser.is_own else "", left)

    async def _continued(self, browser: BrowserRequest, request: LoginRequest, verified: VerifiedToken) -> Response:
        """Hand the program a token of whom the browser is logged in as already."""
        try:
            await self._hand_over(request, self._token_in(browser))
        except UnknownLogin:
            return self._flow.late()
        except HyphaError as error:
            problem = problem_of(error)
            return await self._sign_in(browser, request, verified=verified, problem=problem, status=error.status)
        return self._flow.done(request)

    async def _hand_over(self, request: LoginRequest, token: str) -> None:
        if request.key:
            await self._handover.finish(request.key, token, check_workspace(request.workspace), request.life_s, {})

    async def _sign_in(
        self,
        browser: BrowserRequest,
        request: LoginRequest,
        *,
        verified: VerifiedToken | None = None,
        email: str = "",
        problem: str = "",
        told: str = "",
        status: int = 200,
        by_token: bool = False,
        view: str = "",
    ) -> Response:
        """Return the page with every way to log in, or with the one click that somebody needs who is logged in."""
        opener = browser.form.get("opener", "")[:200] or browser.opened_by
        try:
            asked = await self._asked(request, opener)
        except UnknownLogin:
            return self._flow.late()
        except HyphaError as error:
            return self._flow.refuse(request, problem_of(error), status=error.status)
        head = problem_box(problem) + (f'<p role="status">{escape(told)}</p>\n' if told else "") + asked
        if verified is not None:
            return self._home.confirm(request, verified, head, opener=opener, status=status)
        other = self._accounts.view(view, request, asked, opener) if view and self._accounts is not None else None
        if other is not None:
            return other
        window = f"{self._flow.layout.path}?{request.query()}" if browser.is_framed else ""
        return self._ways(
            request,
            head,
            email=email,
            problem=problem,
            status=status,
            by_token=by_token,
            opener=opener,
            window=window,
        )

    def _ways(
        self,
        request: LoginRequest,
        head: str,
        *,
        email: str,
        problem: str,
        status: int,
        by_token: bool,
        opener: str,
        window: str,
    ) -> Response:
        buttons = [button for provider in self._providers if (button := provider.button(request)) is not None]
        alone = self._accounts is None and not buttons
        token = token_form(request, self._flow.layout.path, opener=opener, invalid=by_token, focus=by_token or alone)
        ways = []
        if self._accounts is not None:
            wrong = "" if by_token else problem
            form = self._accounts.forms.sign_in(request, email=email, problem=wrong, opener=opener, focus=not by_token)
            ways.append(form)
        if buttons:
            ways.append(button_links(buttons, window=window))
        content = head + '<p class="or">or</p>\n'.join(ways)
        shown = " open" if by_token else ""
        content += token if alone else f"<details{shown}><summary>Log in with a token</summary>\n{token}</details>\n"
        return self._flow.layout.page("Log in", content, status=status, framed=True)

    async def _asked(self, request: LoginRequest, opener: str) -> str:
        if not request.key:
            return ""
        session = await self._handover.session(request.key)
        if session.token is not None:
            raise UnknownLogin
        life_s = request.life_s if request.expires_in else session.expires_in
        workspace = request.workspace or session.workspace or ""
        return program_box(request, workspace=workspace, life_s=life_s, opened_by=opener)

    async def _logged_in(self, browser: BrowserRequest) -> VerifiedToken | None:
        """Return whom the browser is logged in as, where that may count: never inside somebody else's page."""
        token = self._token_in(browser)
        if not token or browser.is_framed:
            return None
        try:
            verified = await self._accepted(token)
        except HyphaError:
            return None
        return None if verified.principal.is_anonymous else verified

    def _token_in(self, browser: BrowserRequest) -> str:
        return next(filter(None, (browser.cookie(name) for name in reversed(TOKEN_COOKIES))), "")

    async def _accepted(self, token: str) -> VerifiedToken:
        """Raises BadRequest for what is no token that a person may log in with."""
        try:
            return (await self._judge(token)).require(TokenKind.ACCESS)
        except Unauthorized as error:
            raise BadRequest(f"This token is not accepted: {error}") from None

    def _logged_out(self, request: LoginRequest) -> Response:
        layout = self._flow.layout
        headers: dict[str, Any] = {"Set-Cookie": self._flow.no_cookies()}
        if layout.is_own_page(request.redirect):
            return {"status": 303, "headers": headers | {"Location": request.redirect}, "body": ""}
        closes = request.close or request.close_after_logout
        content = (
            '<p role="status">This browser has forgotten who you are.</p>\n'
            f'<p><a class="button second" href="{escape(layout.path)}">Log in again</a></p>\n{self._farewells()}'
        )
        script = _CLOSE if closes and request.closes else ""
        return layout.page("You are logged out", content, script=script, framed=True, headers=headers)

    def _farewells(self) -> str:
        """Who was logged in by a provider is still logged in there."""
        ways = [way for provider in self._providers if (way := provider.farewell()) is not None]
        return "".join(
            f'\n<p><a class="button second" href="{escape(way.url)}">{escape(way.label)}</a></p>' for way in ways
        )
