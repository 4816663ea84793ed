from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from hypha_common.audit import Audit
from hypha_common.errors import NotFound, PermissionDenied
from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal
from hypha_common.tokens import TokenCodec

from .issuing import TokenConfig, issue

__all__ = ["TokenDesk"]

log = structlog.get_logger(__name__)


class TokenDesk:
    """Where a person who is logged in gets a token for a program: ``generate_token`` without a connection."""

    def __init__(
        self, *, codec: TokenCodec, owned: Callable[[Principal, str], Awaitable[Permission]], audit: Audit
    ) -> None:
        self._codec = codec
        self._owned = owned
        self._audit = audit

    async def issue(self, caller: Principal, config: Mapping[str, Any] | None) -> str:
        """Return a token as contract 01 §3.5 says. Raises BadRequest, PermissionDenied."""
        if caller.is_anonymous:
            raise PermissionDenied("Log in first")
        asked = TokenConfig.parse(config, workspace=personal_workspace(caller.id))
        owner = caller.permission(asked.workspace) < Permission.ADMIN and await self._is_owner(caller, asked.workspace)
        token = issue(self._codec, caller, asked, owner=owner)
        log.info("token_issued", user=caller.id, workspace=asked.workspace, permission=asked.permission.wire)
        self._audit.record(
            "token_issued",
            user=caller.id,
            workspace=asked.workspace,
            permission=asked.permission.wire,
            expires_in=asked.expires_in,
        )
        return token

    async def _is_owner(self, caller: Principal, workspace: str) -> bool:
        try:
            return await self._owned(caller, workspace) >= Permission.ADMIN
        except (NotFound, PermissionDenied):
            return False
