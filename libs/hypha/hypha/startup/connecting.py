from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypha.hub_client import CLIENT_LOG, METHOD_TIMEOUT_S
from hypha_common.ids import PUBLIC_WORKSPACE, new_id
from hypha_common.principal import Principal, root_principal
from hypha_common.settings import Settings
from hypha_common.tokens import TokenCodec

__all__ = ["Connecting"]

# Only until the connection stands: then it has reconnection tokens, which are renewed.
_TOKEN_LIFE_S = 86400.0


class Connecting:
    """Makes connections of the unmodified ``hypha-rpc`` client, with tokens signed by the cluster's secret."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.gateway_url or settings.public_base_url
        self._client_id = settings.startup_client
        self._codec = TokenCodec.from_settings(settings)

    def public(self) -> Any:
        """Return the connection, to be awaited, of the one client that startup functions act as."""
        return self.client(root_principal(PUBLIC_WORKSPACE), PUBLIC_WORKSPACE, self._client_id)

    def client(self, principal: Principal, workspace: str, client_id: str | None = None) -> Any:
        """Return a connection, to be awaited or used with ``async with``, to ``workspace`` as ``principal``."""
        # Imported late: it configures logging where nobody has, and takes a while.
        from hypha_rpc import connect_to_server

        client_id = client_id or new_id()
        scope = replace(principal.scope, current_workspace=workspace, client_id=client_id)
        token = self._codec.sign(replace(principal, scope=scope), life_s=_TOKEN_LIFE_S)
        return connect_to_server(
            {
                "server_url": self._url,
                "workspace": workspace,
                "client_id": client_id,
                "token": token,
                "method_timeout": METHOD_TIMEOUT_S,
                "logger": CLIENT_LOG,
            }
        )
