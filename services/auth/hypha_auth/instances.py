from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from hypha_common.errors import BadRequest
from hypha_common.names import readable_name
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.scopes import app_scope

if TYPE_CHECKING:
    from hypha_common.audit import Audit
    from hypha_common.bus import Bus
    from hypha_common.tokens import TokenCodec

__all__ = ["InstanceTokens"]

Refuse: TypeAlias = Callable[[str, float, str], Awaitable[None]]  # token id, until, user id

log = structlog.get_logger(__name__)

_LIFE_S = 3600.0  # contract 03 §1.10; an app that runs longer has reconnection tokens


class InstanceTokens:
    """
    Tokens of app instances, for the apps service: ``hy.r.auth.<p>.issue_instance`` and ``end_instance``.

    Who may start an app is for the apps service to say. Ending an instance ends its connection, and it cannot come
    back: whatever descends from its token is refused from then on.

    """

    def __init__(self, codec: TokenCodec, refuse: Refuse, audit: Audit, *, reconnection_life_s: float) -> None:
        self._codec = codec
        self._refuse = refuse
        self._audit = audit
        self._reconnection_life_s = reconnection_life_s

    async def serve(self, bus: Bus) -> None:
        await bus.serve("auth", "issue_instance", self.issue)
        await bus.serve("auth", "end_instance", self.end)

    async def issue(self, message: dict[str, Any]) -> dict[str, Any]:
        """
        ``{user, workspace, client_id, app_id}`` -> ``{token, token_id, expires_at}``.

        The token may read and write in that workspace, as that client only; it is a child of the user's. It says of
        which app its bearer is an instance, and so do the reconnection tokens that come of it.

        """
        starter, workspace = Principal.load(message["user"]), message["workspace"]
        child = replace(
            starter,
            id=readable_name(),
            parent=starter.parent or starter.id,
            roles=tuple(role for role in starter.roles if role != "admin"),
            scope=Scope(
                workspaces={workspace: Permission.READ_WRITE},
                current_workspace=workspace,
                client_id=message["client_id"],
                extra_scopes=(app_scope(message["app_id"]),),
            ),
        )
        token = self._codec.sign(child, life_s=_LIFE_S)
        verified = self._codec.verify(token)
        self._audit.record("token_issued", user=starter.id, workspace=workspace, permission="read_write", app=True)
        return {"token": token, "token_id": verified.token_id, "expires_at": verified.expires_at}

    async def end(self, message: dict[str, Any]) -> None:
        """``{token_id}``: refuse the token and what descends from it, and end the connection that stands on it."""
        token_id = message.get("token_id")
        if not isinstance(token_id, str) or not token_id:
            raise BadRequest("token_id must be text")
        until = time.time() + _LIFE_S + self._reconnection_life_s
        await self._refuse(token_id, until, "root")
        log.info("instance_ended", token_id=token_id)
