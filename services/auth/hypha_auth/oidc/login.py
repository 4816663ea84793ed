from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import structlog

from hypha_auth.callers import address_of
from hypha_auth.identity import Identity, IdentityProvider, SignInButton
from hypha_auth.login_flow import LoginFlow
from hypha_auth.login_request import LoginRequest
from hypha_auth.pages.browser import BrowserRequest
from hypha_auth.pages.layout import Response, reply
from hypha_common.audit import Audit
from hypha_common.errors import HyphaError, PayloadTooLarge, Unauthorized, Unavailable
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .authorization import LIFE_S, Authorization, Begun, NotLoggedIn
from .config import ProviderConfig
from .discovery import Discovery
from .identities import Identities
from .profile import Profile

__all__ = ["OpenIdLogin"]

log = structlog.get_logger(__name__)

_MAX_FIELDS = 2048  # characters; anybody can have them kept for a while

_STRANGER = (
    "This login was not begun in this browser, was completed already, or took too long. Please start it again, and "
    "allow cookies for this site."
)


class OpenIdLogin(IdentityProvider):
    """Logging in at the OpenID Connect provider: a button on the login page, and where its way leads."""

    def __init__(
        self,
        *,
        config: ProviderConfig,
        discovery: Discovery,
        authorization: Authorization,
        identities: Identities,
        flow: LoginFlow,
        audit: Audit,
        page_url: str,
    ) -> None:
        self._config = config
        self._discovery = discovery
        self._authorization = authorization
        self._identities = identities
        self._flow = flow
        self._audit = audit
        self._page_url = page_url
        is_secure = urlsplit(page_url).scheme == "https"
        # "__Host-": no other site of the same domain can plant it.
        self._cookie_prefix = "__Host-hypha-oidc-" if is_secure else "hypha-oidc-"
        self._cookie_end = f"; Path=/; HttpOnly; SameSite=Lax{'; Secure' if is_secure else ''}"

    def button(self, request: LoginRequest) -> SignInButton | None:
        """Return the way to the provider; nobody is sent there who has not seen what for."""
        return SignInButton(
            f"Continue with {self._config.name}", f"{self._flow.layout.path}oidc/start?{request.query()}"
        )

    def farewell(self) -> SignInButton | None:
        """Return the way to the provider's own logout."""
        return SignInButton(f"Log out at {self._config.name} too", f"{self._flow.layout.path}oidc/logout")

    async def sweep(self) -> None:
        await self._authorization.forget_old()

    async def close(self) -> None:
        """Its connections are those of :class:`OpenIdConnect`, which is closed by itself."""

    @rpc_method(name="oidc.start")
    async def start(self, event: dict[str, Any]) -> Response:
        """Send a person's browser from the login page to the identity provider."""
        browser = self._browser(event)
        request = LoginRequest.of(browser.query)
        if browser.method != "GET" or not _comes_from_here(browser):
            # Whoever is logged in at the provider would give a program its token without having seen the page.
            return self._to_page(request)
        if not self._is_at_home(browser):
            # The provider sends the browser to the public address: a cookie of another name would not come along.
            return reply(303, "", {"Location": f"{self._page_url}?{request.query()}"})
        fields = request.given()
        if sum(map(len, fields.values())) > _MAX_FIELDS:
            return self._flow.refuse(LoginRequest(), "The address of this login is too long.", status=400)
        try:
            begun = await self._authorization.begin(fields)
        except HyphaError as error:
            return self._refused(request, error)
        return reply(303, "", {"Location": begun.url, "Set-Cookie": self._binding(begun)})

    @rpc_method(name="oidc.callback")
    async def callback(self, event: dict[str, Any], context: Caller | None = None) -> Response:
        """Take a person's browser back from the identity provider."""
        browser = self._browser(event)
        if browser.method != "GET":
            return self._to_page(LoginRequest())
        state = browser.query.get("state", "")
        try:
            pending = await self._authorization.returned(state, browser.cookie(self._cookie_name(state)))
        except HyphaError as error:
            return self._refused(LoginRequest(), error)
        if pending is None:
            self._note("not begun in this browser", context)
            return self._flow.refuse(LoginRequest(), _STRANGER, status=400)
        request = LoginRequest.of(pending.fields)
        try:
            profile = await self._authorization.identify(pending, browser.query)
            answer = await self._flow.complete(request, await self._identity(profile))
        except HyphaError as error:
            self._note(type(error).__name__, context)
            answer = self._refused(request, error)
        return _with_cookie(answer, f"{self._cookie_name(state)}={self._cookie_end}; Max-Age=0")

    @rpc_method(name="oidc.logout")
    async def logout(self, event: dict[str, Any]) -> Response:
        """Send a person's browser to where the identity provider ends its own login (RP-Initiated Logout 1.0)."""
        try:
            endpoint = (await self._discovery.metadata()).end_session_endpoint
        except HyphaError as error:
            return self._refused(LoginRequest(), error)
        if not endpoint:
            return self._flow.refuse(LoginRequest(), f"{self._config.name} offers no logout here: log out there.")
        query = urlencode({"client_id": self._config.client_id, "post_logout_redirect_uri": self._page_url})
        return reply(303, "", {"Location": f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{query}"})

    async def _identity(self, profile: Profile) -> Identity:
        metadata = await self._discovery.metadata()
        return Identity(
            user_id=await self._identities.user_id(metadata.issuer, profile.subject),
            email=profile.email,
            email_verified=profile.email is not None,
            name=profile.name,
            nickname=profile.nickname,
            picture=profile.picture,
            roles=profile.roles or ("user",),
        )

    def _refused(self, request: LoginRequest, error: HyphaError) -> Response:
        """Say in plain words what went wrong; the details are for whoever runs the hub."""
        name = self._config.name
        log.warning("login_refused", provider=name, error=error.message)
        if isinstance(error, NotLoggedIn) and error.error in ("access_denied", "consent_required", "login_required"):
            text = f"You were not logged in: {name} was not allowed to tell who you are."
        elif isinstance(error, NotLoggedIn):
            text = f"{name} could not log you in. Please try again, or ask whoever runs this server."
        elif isinstance(error, Unauthorized):
            text = f"What {name} said of you cannot be trusted, so that you were not logged in."
        elif isinstance(error, Unavailable):
            text = f"{name} cannot be reached at the moment. Please try again in a minute."
        else:
            text = error.message
        return self._flow.refuse(request, text, status=error.status)

    def _note(self, reason: str, context: Caller | None) -> None:
        self._audit.record("login_failed", address=address_of(context), provider=self._config.name, reason=reason)

    def _to_page(self, request: LoginRequest) -> Response:
        query = request.query()
        return reply(303, "", {"Location": f"{self._flow.layout.path}{f'?{query}' if query else ''}"})

    def _browser(self, event: Mapping[str, Any]) -> BrowserRequest:
        try:
            return BrowserRequest.of(event, origin=self._flow.layout.origin)
        except PayloadTooLarge:
            return BrowserRequest.of({**event, "body": b""}, origin=self._flow.layout.origin)

    def _is_at_home(self, browser: BrowserRequest) -> bool:
        referer = browser.headers.get("referer", "")
        return not referer or f"{referer}/".startswith(f"{self._flow.layout.origin}/")

    def _binding(self, begun: Begun) -> str:
        return f"{self._cookie_name(begun.state)}={begun.secret}{self._cookie_end}; Max-Age={int(LIFE_S)}"

    def _cookie_name(self, state: str) -> str:
        # One for each login under way: a person may have several windows.
        return self._cookie_prefix + "".join(c for c in state[:12] if c.isascii() and c.isalnum())


def _comes_from_here(browser: BrowserRequest) -> bool:
    """Tell whether the person clicked on a page of this server. Without TLS browsers say so by the referrer only."""
    if "sec-fetch-site" in browser.headers:
        return browser.is_own
    return bool(browser.headers.get("referer")) and not browser.opened_by


def _with_cookie(answer: Response, line: str) -> Response:
    headers = dict(answer["headers"])
    set_already = headers.get("Set-Cookie", [])
    headers["Set-Cookie"] = [*([set_already] if isinstance(set_already, str) else set_already), line]
    return {**answer, "headers": headers}
