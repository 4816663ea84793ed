from __future__ import annotations

from typing import Any

from hypha_common.bus import Bus
from hypha_common.errors import BadRequest, NotFound

from .openid_connect import OpenIdConnect

__all__ = ["OAuthVerbs"]


class OAuthVerbs:
    """What gateways ask to answer ``/oauth/…``: ``hy.r.auth.0.oauth_*``. Without a provider each raises NotFound."""

    def __init__(self, provider: OpenIdConnect | None) -> None:
        self._provider = provider

    async def serve(self, bus: Bus) -> None:
        for verb in (self.oauth_endpoints, self.oauth_token):
            await bus.serve("auth", verb.__name__, verb)

    async def oauth_endpoints(self, message: dict[str, Any]) -> dict[str, str]:
        """``{}`` -> ``{authorization_endpoint}``"""
        metadata = await self._configured().discovery.metadata()
        return {"authorization_endpoint": metadata.authorization_endpoint}

    async def oauth_token(self, message: dict[str, Any]) -> dict[str, Any]:
        """``{form, authorization}`` -> ``{status, content}``: the provider's answer to a form as a client sent it."""
        provider = self._configured()
        form, authorization = message.get("form"), message.get("authorization") or ""
        if not isinstance(form, str) or not isinstance(authorization, str):
            raise BadRequest("form and authorization must be text")
        answer = await provider.tokens.forward(form, authorization)
        return {"status": answer.status, "content": answer.content}

    def _configured(self) -> OpenIdConnect:
        if self._provider is None:
            raise NotFound("No identity provider is configured on this server")
        return self._provider
