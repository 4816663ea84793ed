from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest
from hypha_common.ids import MANAGER_ID, Address

if TYPE_CHECKING:
    from hypha_common.rpc.peer import RpcPeer

__all__ = ["Providers", "absolute_targets"]

_MANAGER = Address("*", MANAGER_ID)


class Providers:
    """Calls from the manager to the clients that provide services, in the name of the cluster."""

    def __init__(self, peer: RpcPeer) -> None:
        self._peer = peer

    async def call(self, to: Address, method: str, *args: Any, timeout: float, decode: bool = True) -> Any:
        """
        Call ``method`` at ``to``. Raises PeerNotFound, DeadlineExceeded, or RemoteError with what it raised.

        The context workspace is the provider's own: whoever calls this has decided already what the caller may see.

        """
        return await self._peer.call(
            to,
            method,
            *args,
            sender=_MANAGER,
            workspace=to.workspace,
            timeout=timeout,
            decode=decode,
        )

    async def fetch_service(self, provider: Address, service: str, *, timeout: float) -> dict[str, Any]:
        """Return a service as its provider encodes it; methods stay addressed to whoever they belong to."""
        encoded = await self.call(provider, "services.built-in.get_service", service, timeout=timeout, decode=False)
        if not isinstance(encoded, dict):
            raise BadRequest(
                f"{provider} did not answer with a service: {type(encoded).__name__}", rpc_type="TypeError"
            )
        try:
            absolute: dict[str, Any] = absolute_targets(encoded, provider.workspace)
        except RecursionError:
            raise BadRequest(f"{provider} answered with a service that is nested too deeply") from None
        return absolute

    async def ping(self, client: Address, *, timeout: float) -> str:
        """Return what a client answers to a ping: ``pong``."""
        return str(await self.call(client, "services.built-in.ping", "ping", timeout=timeout))


def absolute_targets(value: Any, workspace: str) -> Any:
    """
    Complete the addresses in an encoded value that comes from ``workspace`` and goes on to another one.

    Only addresses without a workspace change; what holds none is returned as it is, not copied.

    """
    if isinstance(value, Mapping):
        if "_rtarget" in value:
            target = value["_rtarget"]
            relative = isinstance(target, str) and "/" not in target
            return {**value, "_rtarget": f"{workspace}/{target}"} if relative else value
        return {key: absolute_targets(item, workspace) for key, item in value.items()}
    if isinstance(value, list):
        return [absolute_targets(item, workspace) for item in value]
    return value
