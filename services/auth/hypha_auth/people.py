from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import structlog

from hypha_common.audit import Audit
from hypha_common.db import Shard
from hypha_common.principal import Permission, Principal
from hypha_common.rpc import Service
from hypha_common.settings import Settings
from hypha_common.tokens import TokenCodec, VerifiedToken
from hypha_common.trust import is_loopback

from .accounts.accounts import Accounts
from .accounts.codes import Codes
from .accounts.mailer import mailer_of
from .accounts.methods import AccountMethods
from .accounts.passwords import Passwords
from .accounts.repository import AccountRows
from .accounts.throttle import ThrottleRows, Throttles
from .accounts.verification import Verification, VerificationLimits
from .handover import Handover
from .identity import IdentityProvider
from .login import LOGIN_SERVICE, Login
from .login_flow import LoginFlow
from .oidc import OpenIdConnect
from .pages.account_pages import AccountPages
from .pages.home_page import HomePage
from .pages.layout import Layout
from .pages.login_page import LoginPage
from .repository import LoginSessions
from .token_desk import TokenDesk
from .waiters import Waiters

__all__ = ["People", "has_accounts"]

log = structlog.get_logger(__name__)

_DESCRIPTION = "Log in: start a login, complete it on a web page, fetch the token."


class People:
    """How people log in: the parts behind the service ``hypha-login``, put together."""

    def __init__(
        self,
        settings: Settings,
        *,
        home: Shard,
        codec: TokenCodec,
        judge: Callable[[str], Awaitable[VerifiedToken]],
        owned: Callable[[Principal, str], Awaitable[Permission]],
        waiters: Waiters,
        revoke: Callable[[str, str], Awaitable[None]],
        audit: Audit,
        oidc: OpenIdConnect | None = None,
    ) -> None:
        self.sessions = LoginSessions(home)
        layout = Layout(public_base_url=settings.public_base_url, frames=settings.allow_origins)
        handover = Handover(sessions=self.sessions, codec=codec, judge=judge, owned=owned, waiters=waiters)
        self.flow = LoginFlow(handover=handover, layout=layout, codec=codec, audit=audit)
        self._providers: list[IdentityProvider] = self._configured(oidc, audit)
        desk = TokenDesk(codec=codec, owned=owned, audit=audit)
        self._accounts = accounts = local_accounts(settings, home, revoke, audit) if has_accounts(settings) else None
        account_pages = None if accounts is None else AccountPages(accounts=accounts, flow=self.flow)
        page = LoginPage(
            flow=self.flow,
            handover=handover,
            judge=judge,
            home=HomePage(flow=self.flow, desk=desk, accounts=account_pages),
            accounts=account_pages,
            providers=self._providers,
        )
        login = Login(
            sessions=self.sessions,
            handover=handover,
            page=page,
            desk=desk,
            accounts=accounts,
            waiters=waiters,
            public_base_url=settings.public_base_url,
            life_s=settings.maximum_login_time,
        )
        methods = [] if accounts is None else [AccountMethods(accounts=accounts, flow=self.flow)]
        about: dict[str, Any] = {
            "name": "Hypha Login",
            "type": "functions",
            "visibility": "public",
            "description": _DESCRIPTION,
        }
        self.service = Service.of(LOGIN_SERVICE, login, *methods, *self._providers, **about)

    async def sweep(self) -> None:
        """Forget logins that have ended. Raises what the database does."""
        await self.sessions.delete_expired()
        if self._accounts is not None:
            await self._accounts.sweep()
        for provider in self._providers:
            await provider.sweep()

    async def close(self) -> None:
        if self._accounts is not None:
            self._accounts.close()
        for provider in self._providers:
            await provider.close()

    def _configured(self, oidc: OpenIdConnect | None, audit: Audit) -> list[IdentityProvider]:
        """Return the identity providers that the settings name."""
        found = [None if oidc is None else oidc.login(self.flow, audit)]
        return [provider for provider in found if provider is not None]


def local_accounts(
    settings: Settings, home: Shard, revoke: Callable[[str, str], Awaitable[None]], audit: Audit
) -> Accounts:
    """Return the accounts that the settings describe. Raises ConfigurationError."""
    mailer = mailer_of(settings)
    is_private = is_loopback(urlsplit(settings.public_base_url).hostname or "") and is_loopback(settings.host)
    if mailer is None and not is_private:
        reason = "addresses cannot be verified, so tokens do not contain them: set smtp_url or resend_api_key"
        log.warning("accounts_without_mail", reason=reason)
    rows, attempts, codes, throttles = AccountRows(home), ThrottleRows(home), Codes(settings.jwt_secret), Throttles()
    verification = Verification(
        rows=rows,
        attempts=attempts,
        codes=codes,
        mailer=mailer,
        public_base_url=settings.public_base_url,
        limits=VerificationLimits(
            code_life_s=settings.verification_code_ttl,
            max_attempts=settings.verification_max_attempts,
            resend_throttle_s=settings.verification_resend_throttle,
            max_pending=settings.verification_max_pending,
        ),
        throttles=throttles,
        believes_shown=is_private,
    )
    return Accounts(
        rows=rows,
        attempts=attempts,
        passwords=Passwords(),
        codes=codes,
        verification=verification,
        revoke=revoke,
        audit=audit,
        throttles=throttles,
    )


def has_accounts(settings: Settings) -> bool:
    """Tell whether people have accounts here: unless another identity provider is named, or as it is told."""
    if settings.disable_local_auth or settings.enable_local_auth:
        return not settings.disable_local_auth
    return not settings.oidc_client_id and "auth0_domain" not in settings.sources
