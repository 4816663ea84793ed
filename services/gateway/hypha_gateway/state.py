from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypha_common.audit import Audit
from hypha_common.blocks import BlockList
from hypha_common.bus import Bus
from hypha_common.ids import Address
from hypha_common.rpc.peer import RpcPeer
from hypha_common.security_feed import Security
from hypha_common.settings import Settings
from hypha_common.verifier import Authenticator, TokenVerifier

from .custom_auth import CustomAuthOf
from .local_client import LocalClient
from .web_apps import WebApps

__all__ = ["GatewayState"]


@dataclass(slots=True)
class GatewayState:
    """What HTTP handlers need of the gateway; found at ``request.app.state.gateway``."""

    settings: Settings
    bus: Bus
    verifier: TokenVerifier  # judges the cluster's own tokens at once
    authenticator: Authenticator  # any token; asks auth where it must
    client: LocalClient
    revocations_known: asyncio.Event  # until it is set no token can be trusted
    security: Security
    audit: Audit
    custom: CustomAuthOf
    web_apps: WebApps = field(default_factory=WebApps)
    draining: bool = False

    @property
    def blocks(self) -> BlockList:
        """Users and addresses that are kept out."""
        return self.security.blocks

    @property
    def peer(self) -> RpcPeer:
        """The gateway's own RPC client."""
        return self.client.peer

    async def sender_for(self, workspace: str) -> Address:
        """Return the address as which the gateway calls on behalf of somebody in ``workspace``."""
        return await self.client.sender_for(workspace)
