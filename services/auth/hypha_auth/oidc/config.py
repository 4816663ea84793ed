from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hypha_common.errors import ConfigurationError
from hypha_common.settings import Settings
from hypha_common.settings_checks import issuer_url

__all__ = ["ProviderConfig"]


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """The OpenID Connect provider that this hub trusts."""

    issuer: str
    client_id: str  # empty: nobody logs in there, only its access tokens are accepted
    client_secret: str = field(repr=False)  # empty: a public client
    scope: str
    audience: str  # of access tokens; empty: none are accepted
    name: str  # what people call it

    @classmethod
    def from_settings(cls, settings: Settings) -> ProviderConfig | None:
        """
        Return what is configured, or None. Raises ConfigurationError.

        Auth0 has variables of its own. Their defaults name a tenant of somebody else, so that only what was set
        explicitly counts.

        """
        if settings.oidc_issuer:
            return cls._checked(
                settings.oidc_issuer, settings.oidc_client_id, settings.oidc_audience, settings=settings
            )
        if settings.oidc_client_id:
            raise ConfigurationError("oidc_client_id is set without oidc_issuer: set HYPHA_OIDC_ISSUER too")
        given = {name for name in ("auth0_domain", "auth0_client_id", "auth0_audience") if name in settings.sources}
        if not given & {"auth0_domain", "auth0_client_id"}:
            return None
        if not given >= {"auth0_domain", "auth0_client_id"}:
            raise ConfigurationError("AUTH0_DOMAIN and AUTH0_CLIENT_ID are of use only together: set both, or neither")
        audience = settings.oidc_audience or (settings.auth0_audience if "auth0_audience" in given else "")
        issuer = f"https://{settings.auth0_domain.removeprefix('https://').strip('/')}/"
        return cls._checked(issuer, settings.auth0_client_id, audience, settings=settings)

    @classmethod
    def _checked(cls, issuer: str, client_id: str, audience: str, *, settings: Settings) -> ProviderConfig:
        wrong = issuer_url(issuer)  # seen to when settings are read, but for Auth0's
        if wrong:
            raise ConfigurationError(f"The issuer {wrong}")
        if not client_id and not audience:
            raise ConfigurationError(
                "oidc_issuer is set without oidc_client_id, with which people log in, "
                "or oidc_audience, with which access tokens of the issuer are accepted"
            )
        scope = settings.oidc_scope.split()
        return cls(
            issuer=issuer,
            client_id=client_id,
            client_secret=settings.oidc_client_secret,
            scope=" ".join(dict.fromkeys(["openid", *scope])),
            audience=audience,
            name=settings.oidc_name or urlsplit(issuer).hostname or issuer,
        )

    def is_issuer(self, issuer: object) -> bool:
        """Tell whether a name is the issuer's, whatever slash it ends with: people leave it out, Auth0 has it."""
        return isinstance(issuer, str) and issuer.rstrip("/") == self.issuer.rstrip("/")
