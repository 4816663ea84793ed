from __future__ import annotations

from base64 import b64encode
from urllib.parse import parse_qs, quote, urlencode

from hypha_common.errors import Unavailable

from .config import ProviderConfig
from .discovery import Discovery, ProviderMetadata
from .http import Answer, ProviderHttp

__all__ = ["TokenRequests"]


class TokenRequests:
    """Requests to the provider's token endpoint: our own, and those of others that are passed on."""

    def __init__(self, config: ProviderConfig, discovery: Discovery, http: ProviderHttp) -> None:
        self._config = config
        self._discovery = discovery
        self._http = http

    async def exchange(self, code: str, *, redirect_uri: str, verifier: str) -> Answer:
        """Exchange an authorization code that was given to us. Raises Unavailable."""
        metadata = await self._discovery.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        credentials, headers = self._credentials(metadata)
        return await self._http.post(metadata.token_endpoint, urlencode(form | credentials), headers=headers)

    async def forward(self, form: str, authorization: str) -> Answer:
        """
        Pass on somebody else's request as it is. Raises Unavailable.

        Of ours nothing is added but the name of a client that has no secret, where no client is named.

        """
        metadata = await self._discovery.metadata()
        is_basic = authorization[:6].lower() == "basic "
        if not is_basic and not self._config.client_secret and "client_id" not in parse_qs(form):
            form = "&".join(part for part in (form, urlencode({"client_id": self._config.client_id})) if part)
        headers = {"Authorization": authorization} if is_basic else {}
        return await self._http.post(metadata.token_endpoint, form, headers=headers)

    def _credentials(self, metadata: ProviderMetadata) -> tuple[dict[str, str], dict[str, str]]:
        """Return what the form and the headers say of who we are (RFC 6749 §2.3.1)."""
        client_id, secret, methods = self._config.client_id, self._config.client_secret, metadata.token_auth_methods
        if not secret:
            return {"client_id": client_id}, {}
        if not methods or "client_secret_basic" in methods:
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            return {}, {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        if "client_secret_post" in methods:
            return {"client_id": client_id, "client_secret": secret}, {}
        raise Unavailable("The identity provider takes no client secret: neither client_secret_basic nor _post")
