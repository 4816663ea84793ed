from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.audit import Audit
from hypha_common.db import Shard
from hypha_common.settings import Settings
from hypha_common.tokens import VerifiedToken

from .access_tokens import AccessTokens
from .authorization import Authorization
from .config import ProviderConfig
from .discovery import Discovery
from .http import ProviderHttp
from .identities import Identities
from .keys import ProviderKeys
from .states import PendingAuthorizations
from .token_requests import TokenRequests

if TYPE_CHECKING:
    from hypha_auth.login_flow import LoginFlow

    from .login import OpenIdLogin

__all__ = ["OpenIdConnect"]

_PAGE = "/public/apps/hypha-login/"


class OpenIdConnect:
    """The OpenID Connect provider of this hub, all parts put together. Nothing is asked of it before it is needed."""

    def __init__(self, config: ProviderConfig, settings: Settings, home: Shard) -> None:
        self._config = config
        self._namespace = settings.auth0_namespace
        self._page_url = settings.public_base_url + _PAGE
        self._http = ProviderHttp()
        self.discovery = Discovery(config, self._http)
        self._keys = ProviderKeys(self.discovery, self._http)
        self._identities = Identities(home)
        self.tokens = TokenRequests(config, self.discovery, self._http)
        self._access_tokens = AccessTokens(
            config=config,
            discovery=self.discovery,
            keys=self._keys,
            identities=self._identities,
            namespace=self._namespace,
        )
        self._pending = PendingAuthorizations(home)

    @classmethod
    def from_settings(cls, settings: Settings, home: Shard) -> OpenIdConnect | None:
        """Return the provider that is configured, or None. Raises ConfigurationError."""
        config = ProviderConfig.from_settings(settings)
        return None if config is None else cls(config, settings, home)

    async def verify(self, token: str) -> VerifiedToken | None:
        """Return what an access token of the issuer says, None for other tokens. Raises Unauthorized, Unavailable."""
        return await self._access_tokens.verify(token)

    def login(self, flow: LoginFlow, audit: Audit) -> OpenIdLogin | None:
        """Return the way in for people, where there is one."""
        from .login import OpenIdLogin

        if not self._config.client_id:
            return None
        authorization = Authorization(
            config=self._config,
            discovery=self.discovery,
            keys=self._keys,
            http=self._http,
            pending=self._pending,
            tokens=self.tokens,
            redirect_uri=f"{self._page_url}oidc/callback",
            namespace=self._namespace,
        )
        return OpenIdLogin(
            config=self._config,
            discovery=self.discovery,
            authorization=authorization,
            identities=self._identities,
            flow=flow,
            audit=audit,
            page_url=self._page_url,
        )

    async def close(self) -> None:
        await self._http.close()
