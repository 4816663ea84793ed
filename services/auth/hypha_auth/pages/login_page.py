from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from hypha_auth.handover import Handover
from hypha_auth.identity import IdentityProvider
from hypha_auth.issuing import DEFAULT_LIFE_S
from hypha_auth.login_flow import LoginFlow, problem_of
from hypha_auth.login_request import LoginRequest, check_workspace
from hypha_common.errors import BadRequest, HyphaError, PayloadTooLarge, Unauthorized
from hypha_common.tokens import TokenKind, VerifiedToken

from .browser import BrowserRequest
from .layout import Response, hidden

__all__ = ["LoginPage"]

_FOREIGN = "This form was sent by another site. Open the login page yourself and try again."


class LoginPage:
    """The page where a person logs in, for a program that has asked for it or for the browser alone."""

    def __init__(
        self,
        *,
        flow: LoginFlow,
        handover: Handover,
        verify: Callable[[str], VerifiedToken],
        providers: Sequence[IdentityProvider] = (),
    ) -> None:
        self._flow = flow
        self._handover = handover
        self._verify = verify
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
        return self._form(request)

    async def _submitted(self, browser: BrowserRequest, request: LoginRequest) -> Response:
        return await self._pasted(browser, request)

    async def _pasted(self, browser: BrowserRequest, request: LoginRequest) -> Response:
        """Log in with a token that the person has already."""
        token = browser.form.get("token", "").strip()
        try:
            life_s = request.life_s
            if request.key:
                workspace = check_workspace(request.workspace)
                token = await self._handover.finish(request.key, token, workspace, life_s, {})
            else:
                verified = self._verified(token)
                token = await self._handover.limited(token, verified, None, life_s)
        except HyphaError as error:
            return self._form(request, problem=problem_of(error), status=error.status)
        # A form on somebody else's page must not log this browser in as somebody else.
        return self._flow.done(request, token, life_s or DEFAULT_LIFE_S, remember=browser.is_own)

    def _verified(self, token: str) -> VerifiedToken:
        """Raises BadRequest for what is no token that a person may log in with."""
        try:
            return self._verify(token).require(TokenKind.ACCESS)
        except Unauthorized as error:
            raise BadRequest(f"This token is not accepted: {error}") from None

    def _logged_out(self, request: LoginRequest) -> Response:
        content = '<p role="status">This browser has forgotten your token.</p>' + self._farewells()
        return self._flow.layout.page("You are logged out", content, headers={"Set-Cookie": self._flow.no_cookies()})

    def _form(self, request: LoginRequest, *, problem: str = "", status: int = 200) -> Response:
        content = (f'<p class="error" role="alert">{escape(problem)}</p>\n' if problem else "") + self._buttons(request)
        content += (
            f'<form method="post" action="{escape(self._flow.layout.path)}">\n{hidden(request.given())}'
            '<div class="field"><label for="token">Your token</label>\n'
            '<textarea id="token" name="token" required autofocus autocomplete="off"'
            ' spellcheck="false"></textarea></div>\n'
            '<button type="submit">Log in</button>\n</form>'
        )
        return self._flow.layout.page("Log in", content, status=status, framed=True)

    def _farewells(self) -> str:
        """Who was logged in by a provider is still logged in there."""
        ways = [way for provider in self._providers if (way := provider.farewell()) is not None]
        return "".join(
            f'\n<p><a class="button second" href="{escape(way.url)}">{escape(way.label)}</a></p>' for way in ways
        )

    def _buttons(self, request: LoginRequest) -> str:
        buttons = [button for provider in self._providers if (button := provider.button(request)) is not None]
        return "".join(
            f'<p><a class="button" href="{escape(button.url)}">{escape(button.label)}</a></p>\n' for button in buttons
        )
