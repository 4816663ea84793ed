from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hypha_common.ids import MANAGER_ADDRESS
from hypha_common.subjects import partition_of, role_verb

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.principal import Principal
    from hypha_common.rpc.host import RoleHost

__all__ = ["Registry"]


class Registry:
    """The workspace service: who is connected, and what they serve."""

    def __init__(self, bus: Bus, host: RoleHost) -> None:
        self._bus = bus
        self._host = host

    async def instances(self, workspace: str, client_ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """Return the services of those of the clients that are connected, by client id."""
        subject = role_verb("workspace", partition_of(workspace), "instances")
        message = {"workspace": workspace, "clients": list(client_ids)}
        answer: dict[str, list[dict[str, Any]]] = await self._bus.request(subject, message, timeout=2.0, attempts=2)
        return answer

    async def manager(self, method: str, /, *args: Any, user: Principal, workspace: str) -> Any:
        """Call a method of the workspace manager in somebody's name."""
        return await self._host.peer.call(
            MANAGER_ADDRESS,
            f"services.default.{method}",
            *args,
            sender=await self._host.sender_in(workspace),
            workspace=workspace,
            user=user.dump(),
        )
