from __future__ import annotations

from typing import Any, Protocol

from hypha_common.errors import BadRequest, NotFound, PermissionDenied
from hypha_common.ids import Address

from .caller import Caller
from .message_cache import MessageCache
from .service import Packed, Service, rpc_method

__all__ = ["BUILT_IN", "built_in_service"]

BUILT_IN = "built-in"
API_VERSION = 3  # pieces of a long message may arrive in any order


class Owner(Protocol):
    """What the built-in service needs of its peer."""

    cache: MessageCache

    def find_service(self, address: Address, service_id: str) -> Service | None: ...
    def packed_service(self, service: Service, target: str) -> Packed: ...
    def prolong(self, session: str, caller: str) -> bool: ...
    def receive_joined(self, frame: bytes, caller: Caller) -> None: ...


class _BuiltIn:
    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    @rpc_method
    def ping(self, msg: Any = "ping") -> str:
        """Answer ``pong``."""
        if msg != "ping":
            raise BadRequest("Expected 'ping'", rpc_type="AssertionError")
        return "pong"

    @rpc_method
    def get_service(self, service_id: str, *, context: Caller) -> Packed:
        """
        Return a service of this client.

        Args:
            service_id: the id of the service, without client and workspace

        """
        service = self._owner.find_service(context.target, service_id)
        if service is None:
            raise NotFound(f"Service not found: {service_id}")
        home = context.target.workspace
        if not service.allows(context.workspace, home):
            raise PermissionDenied(
                f"Permission denied for getting protected service: {service_id}, "
                f"workspace mismatch: {home} != {context.workspace}"
            )
        return self._owner.packed_service(service, str(context.target))

    @rpc_method(name="message_cache.create")
    def create(self, key: str, heartbeat: bool = False, overwrite: bool = False, *, context: Caller) -> None:
        """Begin a long message."""
        caller = self._prolonged(key, heartbeat, context)
        self._owner.cache.create(caller, key, overwrite=overwrite)

    @rpc_method(name="message_cache.append")
    def append(self, key: str, data: bytes, heartbeat: bool = False, *, context: Caller) -> None:
        """Add the next piece of a long message."""
        caller = self._prolonged(key, heartbeat, context)
        self._owner.cache.append(caller, key, bytes(data))

    @rpc_method(name="message_cache.set")
    def set(self, key: str, index: int, data: bytes, heartbeat: bool = False, *, context: Caller) -> None:
        """Add a piece of a long message."""
        caller = self._prolonged(key, heartbeat, context)
        self._owner.cache.set(caller, key, index, bytes(data))

    @rpc_method(name="message_cache.process")
    def process(self, key: str, heartbeat: bool = False, *, context: Caller) -> None:
        """Take a long message as if it had arrived in one piece."""
        caller = self._prolonged(key, heartbeat, context)
        self._owner.receive_joined(self._owner.cache.take(caller, key), context)

    @rpc_method(name="message_cache.remove")
    def remove(self, key: str, *, context: Caller) -> None:
        """Forget a long message."""
        self._owner.cache.remove(str(context.sender), key)

    def _prolonged(self, key: str, heartbeat: bool, context: Caller) -> str:
        caller = str(context.sender)
        if heartbeat and not self._owner.prolong(key, caller):
            raise NotFound(f"session does not exist anymore: {key}", rpc_type="Exception")
        return caller


def built_in_service(owner: Owner) -> Service:
    """Return the service that every client has (contract 01 §2.9)."""
    return Service.of(
        BUILT_IN,
        _BuiltIn(owner),
        type="built-in",
        visibility="public",
        config={"require_context": True, "api_version": API_VERSION},
    )
