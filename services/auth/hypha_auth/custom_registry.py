from __future__ import annotations

import structlog

from hypha_common.custom_auth import PARTS, REGISTRY_SERVICE, CustomAuth
from hypha_common.errors import BadRequest, PermissionDenied
from hypha_common.ids import PUBLIC_WORKSPACE, Address
from hypha_common.rpc import Service
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method
from hypha_common.security_feed import Security

from .announcing import Announcer
from .custom_repository import CustomAuthRow

__all__ = ["CustomAuthRegistry"]

log = structlog.get_logger(__name__)


class CustomAuthRegistry:
    """
    Where the startup runner says which functions for authentication it has: the service ``custom-auth``.

    It is remembered also while the runner is away: what only it can judge is then refused for the time being.

    """

    def __init__(self, *, row: CustomAuthRow, security: Security, announcer: Announcer, startup_client: str) -> None:
        self._row = row
        self._security = security
        self._announcer = announcer
        self._startup = Address(PUBLIC_WORKSPACE, startup_client)
        self.service = Service.of(REGISTRY_SERVICE, self, description="Custom authentication by startup functions.")

    @rpc_method
    async def register(self, parts: list[str], *, context: Caller) -> None:
        """
        Say which parts of authentication the startup functions have; none: whatever there was is over.

        Args:
            parts: any of parse_token, generate_token, get_token, login

        """
        if context.sender != self._startup or not context.principal.is_root:
            raise PermissionDenied("Only startup functions may register custom authentication")
        if not all(part in PARTS for part in parts):
            raise BadRequest(f"parts must be among {', '.join(PARTS)}")
        if not parts:
            await self.forget()
            return
        custom = CustomAuth(self._startup.client, frozenset(parts))
        await self._row.put(custom)
        self._tell(custom)
        log.warning("custom_auth_registered", provider=str(self._startup), parts=sorted(parts))

    async def forget(self) -> None:
        """Go back to the cluster's own authentication."""
        if await self._row.delete():
            log.warning("custom_auth_removed")
        self._tell(None)

    def _tell(self, custom: CustomAuth | None) -> None:
        self._security.custom_auth = None if custom is None else custom.dump()
        self._announcer.changed(custom_auth=self._security.custom_auth)
