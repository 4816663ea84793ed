from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hypha_common.db import Shard
from hypha_common.principal import Permission, Principal
from hypha_common.rpc import Service
from hypha_common.settings import Settings
from hypha_common.tokens import TokenCodec, VerifiedToken

from .handover import Handover
from .identity import IdentityProvider
from .login import LOGIN_SERVICE, Login
from .login_flow import LoginFlow
from .oidc import OpenIdConnect
from .pages.layout import Layout
from .pages.login_page import LoginPage
from .repository import LoginSessions
from .waiters import Waiters

__all__ = ["People"]

_DESCRIPTION = "Log in: start a login, complete it on a web page, fetch the token."


class People:
    """How people log in: the parts behind the service ``hypha-login``, put together."""

    def __init__(
        self,
        settings: Settings,
        *,
        home: Shard,
        codec: TokenCodec,
        verify: Callable[[str], VerifiedToken],
        owned: Callable[[Principal, str], Awaitable[Permission]],
        waiters: Waiters,
        oidc: OpenIdConnect | None = None,
    ) -> None:
        self.sessions = LoginSessions(home)
        layout = Layout(public_base_url=settings.public_base_url, frames=settings.allow_origins)
        handover = Handover(sessions=self.sessions, codec=codec, verify=verify, owned=owned, waiters=waiters)
        self.flow = LoginFlow(handover=handover, layout=layout, codec=codec)
        self._providers: list[IdentityProvider] = self._configured(settings, oidc)
        page = LoginPage(flow=self.flow, handover=handover, verify=verify, providers=self._providers)
        login = Login(
            sessions=self.sessions,
            handover=handover,
            page=page,
            waiters=waiters,
            public_base_url=settings.public_base_url,
            life_s=settings.maximum_login_time,
        )
        about: dict[str, Any] = {
            "name": "Hypha Login",
            "type": "functions",
            "visibility": "public",
            "description": _DESCRIPTION,
        }
        self.service = Service.of(LOGIN_SERVICE, login, *self._providers, **about)

    async def sweep(self) -> None:
        """Forget logins that have ended. Raises what the database does."""
        await self.sessions.delete_expired()
        for provider in self._providers:
            await provider.sweep()

    async def close(self) -> None:
        for provider in self._providers:
            await provider.close()

    def _configured(self, settings: Settings, oidc: OpenIdConnect | None) -> list[IdentityProvider]:
        """Return the identity providers that the settings name."""
        found = [None if oidc is None else oidc.login(self.flow)]
        return [provider for provider in found if provider is not None]
