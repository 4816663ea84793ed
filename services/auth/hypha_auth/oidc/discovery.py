from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypha_common.errors import Unavailable
from hypha_common.trust import is_trustworthy

from .config import ProviderConfig
from .http import ProviderHttp
from .refreshed import Refreshed

__all__ = ["Discovery", "ProviderMetadata"]

_PATH = "/.well-known/openid-configuration"
_FRESH_S, _STALE_S, _RETRY_S = 3600.0, 7 * 86400.0, 1.0


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What a provider says of itself (OpenID Connect Discovery 1.0 §3), as far as it is used. Empty: it has none."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    end_session_endpoint: str
    token_auth_methods: tuple[str, ...]
    names_itself: bool  # in every answer to an authorization request (RFC 9207)

    @classmethod
    def parse(cls, document: Mapping[str, Any], config: ProviderConfig) -> ProviderMetadata:
        """Check a document. Raises Unavailable: it is the provider's fault, and may be repaired."""
        issuer = document.get("issuer")
        if not isinstance(issuer, str) or not config.is_issuer(issuer):
            raise Unavailable(f"The provider at {config.issuer} calls itself {issuer!r}: it must be the same name")
        methods = document.get("token_endpoint_auth_methods_supported")
        return cls(
            issuer=issuer,
            authorization_endpoint=_address(document, "authorization_endpoint"),
            token_endpoint=_address(document, "token_endpoint"),
            jwks_uri=_address(document, "jwks_uri"),
            userinfo_endpoint=_address(document, "userinfo_endpoint", required=False),
            end_session_endpoint=_address(document, "end_session_endpoint", required=False),
            token_auth_methods=tuple(str(method) for method in methods) if isinstance(methods, list) else (),
            names_itself=document.get("authorization_response_iss_parameter_supported") is True,
        )


class Discovery:
    """The provider's metadata, fetched when it is first needed: a provider that is down is no reason not to start."""

    def __init__(self, config: ProviderConfig, http: ProviderHttp) -> None:
        self._config = config
        self._http = http
        self._metadata = Refreshed(
            "openid-configuration", self._fetch, fresh_s=_FRESH_S, stale_s=_STALE_S, retry_s=_RETRY_S
        )

    async def metadata(self) -> ProviderMetadata:
        """Return it. Raises Unavailable while it is not known."""
        return await self._metadata.get()

    async def _fetch(self) -> ProviderMetadata:
        document = await self._http.get(self._config.issuer.rstrip("/") + _PATH)
        return ProviderMetadata.parse(document, self._config)


def _address(document: Mapping[str, Any], name: str, *, required: bool = True) -> str:
    url = document.get(name)
    if url is None and not required:
        return ""
    if not isinstance(url, str) or not is_trustworthy(url):
        raise Unavailable(f"The provider's {name} cannot be used: {url!r}")
    return url
