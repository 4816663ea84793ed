from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.ids import PUBLIC_WORKSPACE, Address
from hypha_common.subjects import partition_of, role_verb

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.principal import Principal
    from hypha_common.rpc.host import RoleHost

__all__ = ["ArtifactStore"]

_MANAGER = Address(PUBLIC_WORKSPACE, "hypha-artifacts")


class ArtifactStore:
    """The artifact manager, called in the name of whoever asked: what they may not do fails there."""

    def __init__(self, bus: Bus, host: RoleHost) -> None:
        self._bus = bus
        self._host = host

    async def call(self, method: str, /, *, user: Principal, workspace: str, **arguments: Any) -> Any:
        """Call a method of ``public/artifact-manager``. Raises RemoteError (with its status) or Unavailable."""
        return await self._host.peer.call(
            _MANAGER,
            f"services.artifact-manager.{method}",
            kwargs=arguments,
            sender=await self._host.sender_in(workspace),
            workspace=workspace,
            user=user.dump(),
        )

    async def ask(self, verb: str, workspace: str, **message: Any) -> Any:
        """Ask the artifacts role something that no client can ask. Raises what it answers, or Unavailable."""
        subject = role_verb("artifacts", partition_of(workspace), verb)
        return await self._bus.request(subject, {"workspace": workspace, **message})
