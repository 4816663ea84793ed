from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

import structlog

from hypha_common import trace
from hypha_common.errors import BadRequest, HyphaError, PermissionDenied
from hypha_common.ids import Address
from hypha_common.principal import Principal
from hypha_common.wire import pack, pack_frame, split_frame, unpack_extra

from .builtin import built_in_service
from .caller import Caller
from .calls import OutgoingCall
from .executor import SERVICES, Executor, Incoming, args_of
from .functions import CALL_TIMEOUT_S, Identity
from .message_cache import MessageCache
from .outbox import Outbox, SendFrame
from .router import canonical, instance_of
from .running import HEARTBEAT_PREFIX
from .service import Packed, Service

__all__ = ["Forward", "RpcPeer", "SendFrame"]

log = structlog.get_logger()

SWEEP_INTERVAL_S = 15.0
_CACHE_METHODS = "services.built-in.message_cache."
_SETTLING = frozenset({"resolve", "reject", "heartbeat"})

Forward = Callable[[str, bytes, str, int], None]  # instance, frame, gateway, generation


class RpcPeer:
    """
    Speaks the RPC protocol of contract 01 §2 for one process: serves, calls, and hands out callbacks.

    No I/O: frames come through :meth:`receive` and leave through ``send``. It answers at every address its services
    were added for, and its built-in service at any address at all.

    ``session_prefix`` begins every session it makes: ``i-<instance>-`` for a replica of a role, ``g-<instance>-`` for
    a gateway. ``identity`` is the UserInfo map of what it sends in its own name, answers and callbacks. ``forward``
    takes frames that belong to a session of another replica.

    """

    def __init__(
        self,
        *,
        send: SendFrame,
        server_base_url: str,
        session_prefix: str = "",
        identity: Mapping[str, Any] | None = None,
        forward: Forward | None = None,
        calls_per_sender: int = 256,
        cache: MessageCache | None = None,
    ) -> None:
        self._server = server_base_url
        self._instance = instance_of(session_prefix)
        self._forward = forward
        # The cluster speaks as root, but shows none of root's rights: frames go to clients (contract 01 §9 point 10).
        self._user = pack(dict(identity) if identity is not None else Principal(id="root").dump())
        self.cache = cache or MessageCache(now=time.monotonic)
        self._outbox = Outbox(
            send=send, server_base_url=server_base_url, session_prefix=session_prefix, now=time.monotonic
        )
        self._built_in = built_in_service(self)
        self._executor = Executor(self._outbox, self._built_in, user=self._user, calls_per_sender=calls_per_sender)
        self._sweeper: asyncio.TimerHandle | None = None  # from the first frame on

    def add_service(self, service: Service, *, addresses: Iterable[Address | str]) -> None:
        """Serve ``service`` at ``addresses``; one of the same id there is replaced."""
        self._executor.add(service, addresses)

    def services_at(self, address: Address | str) -> list[dict[str, Any]]:
        """Return the service infos to register for ``address``: its built-in service and what was added there."""
        place = canonical(str(address))
        built_in = self._built_in.info(str(address))
        built_in["name"] = f"Builtin services for {address}"
        added = [service.info(str(address)) for (at, _), service in self._executor.services.items() if at == place]
        return [built_in, *added]

    def receive(self, frame: bytes | memoryview, *, gateway: str = "", generation: int = 0) -> None:
        """Take a frame that a gateway or a role has stamped. Never raises for what a client can cause."""
        if self._sweeper is None:
            self._sweep()
        try:
            head, offset = split_frame(frame)
            self._take(head, frame, offset, gateway, generation)
        except HyphaError as error:
            log.info("rpc_frame_refused", gateway=gateway, error=str(error))

    async def call(
        self,
        to: Address | str,
        method: str,
        *args: Any,
        kwargs: dict[str, Any] | None = None,
        sender: Address | str,
        workspace: str,
        user: Mapping[str, Any] | None = None,
        timeout: float = CALL_TIMEOUT_S,
        decode: bool = True,
        encode: bool = True,
        on_open: Callable[[OutgoingCall], None] | None = None,
        on_long: Callable[[OutgoingCall], None] | None = None,
    ) -> Any:
        """
        Call ``method`` (``services.<id>.<path>``) at ``to`` in the name of ``sender`` and return the answer.

        ``timeout`` counts from the last heartbeat. With ``encode`` and ``decode`` false, arguments and answer stay in
        wire form. ``on_open`` is given the call before it is sent, ``on_long`` one of which a heartbeat comes: they may
        prolong or reject it.

        Raises RemoteError, PeerNotFound, DeadlineExceeded, Unavailable.

        """
        return await self._outbox.request(
            str(to),
            method,
            list(args),
            kwargs,
            identity=self._identity(sender, workspace, user),
            timeout=timeout,
            encode=encode,
            decode=decode,
            on_open=on_open,
            on_long=on_long,
        )

    def iterate(
        self,
        generator: Mapping[str, Any],
        *,
        origin: Address | str,
        sender: Address | str,
        workspace: str,
        user: Mapping[str, Any] | None = None,
        timeout: float = CALL_TIMEOUT_S,
        decode: bool = True,
    ) -> AsyncGenerator[Any, None]:
        """
        Yield the items of a generator that ``origin`` answered (a map with ``_rtype`` ``generator``).

        Sender, workspace and user must be those of the call that it answered. Left early (``aclose``), it is closed
        over there.

        """
        identity = self._identity(sender, workspace, user)
        return self._outbox.iterate_as(generator, origin=str(origin), identity=identity, timeout=timeout, decode=decode)

    def undeliverable(self, to: Address | None, session: str | None) -> None:
        """Nobody is at ``to``: the call whose frame carried ``session`` fails at once."""
        if session is None:
            return
        if session.startswith(HEARTBEAT_PREFIX):
            self._executor.running.undeliverable(session)
        else:
            self._outbox.undeliverable(session)

    @property
    def load(self) -> dict[str, int]:
        """How much is going on, for metrics and tests."""
        return {
            "running": len(self._executor.running),
            "calling": len(self._outbox.calls),
            "sessions": len(self._outbox.sessions),
            "sending": self._outbox.sending,
            "cached_messages": len(self.cache),
            "cached_bytes": self.cache.size,
        }

    def awaits(self, session: str) -> bool:
        """Tell whether the call of ``session`` is ours and has not been answered."""
        return self._outbox.calls.get(session) is not None

    def waiting(self) -> list[tuple[str, str]]:
        """Return (session, address) of each call of ours that has not been answered."""
        return [(call.session, call.to) for call in self._outbox.calls]

    def owing(self, wanted: Callable[[Address], bool]) -> dict[tuple[str, str], dict[str, float]]:
        """Return who owes us answers, of those who are ``wanted``: session -> time.monotonic() of its sending."""
        found: dict[tuple[str, str], dict[str, float]] = {}
        for call in self._outbox.calls:
            to = Address.parse(call.to)
            if wanted(to):
                found.setdefault((to.workspace, to.client), {})[call.session] = call.sent
        return found

    def lost(self, session: str) -> None:
        """Whoever had the call of ``session`` is gone, and will not answer it: it fails at once."""
        self._outbox.lost(session)

    def unsent(self, session: str, error: HyphaError) -> None:
        """The call of ``session`` could not be sent after all: it fails at once, with the reason why."""
        self._outbox.unsent(session, error)

    async def drain(self, timeout_s: float) -> None:
        """Wait until the calls that run have ended and their answers are sent, at most ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        await self._executor.running.drain(timeout_s)
        await self._outbox.drain(max(0.0, deadline - time.monotonic()))

    async def close(self) -> None:
        """End everything: whoever waits for a call that runs here is told, calls of our own fail."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._executor.running.close()
        await self._outbox.close()

    # What the built-in service needs.

    def find_service(self, address: Address, service_id: str) -> Service | None:
        return self._executor.find(address, service_id)

    def packed_service(self, service: Service, target: str) -> Packed:
        return service.packed(target, self._server)

    def prolong(self, session: str, caller: str) -> bool:
        return self._outbox.prolong(session, caller)

    def receive_joined(self, frame: bytes, caller: Caller) -> None:
        """Take a long message; only the identity of the call that completed it counts."""
        head, offset = split_frame(frame)
        head.update({key: caller.header.get(key) for key in ("from", "to", "ws", "user", trace.KEY)})
        if self._belongs_elsewhere(head.get("method")):
            packed = pack_frame(head)
            frame, offset = packed + frame[offset:], len(packed)
        self._take(head, frame, offset, caller.gateway, caller.generation)

    def _take(
        self, head: dict[str, Any], frame: bytes | memoryview, offset: int, gateway: str, generation: int
    ) -> None:
        if head.get("type") != "method":
            self._take_notice(head)
            return
        incoming = _incoming(head, gateway, generation)
        method = incoming.method
        if method.startswith(SERVICES):
            if self._forward is not None and method.startswith(_CACHE_METHODS):
                key = _first_arg(frame, offset)
                if self._pass_on(key, frame, incoming):
                    return
            self._executor.execute(incoming, frame, offset)
            return
        if self._pass_on(method, frame, incoming):
            return
        session, _, name = method.partition(".")
        if name not in _SETTLING:
            self._executor.execute(incoming, frame, offset)
            return
        call = self._outbox.calls.get(session)
        if call is None:
            return  # a late answer is no news to anybody
        if call.to != incoming.sender:
            raise PermissionDenied(f"{incoming.sender} answers a call that was made to {call.to}")
        self._outbox.calls.settle(call, name, args_of(unpack_extra(frame, offset)))

    def _take_notice(self, head: dict[str, Any]) -> None:
        session, sender = head.get("session"), head.get("from")
        if head.get("type") == "peer_not_found" and isinstance(session, str):
            call = self._outbox.calls.get(session)
            if call is not None and sender in (None, call.to):
                self._outbox.undeliverable(session)

    def _belongs_elsewhere(self, name: Any) -> bool:
        if self._forward is None or not isinstance(name, str):
            return False
        instance = instance_of(name)
        return instance is not None and instance != self._instance

    def _pass_on(self, name: Any, frame: bytes | memoryview, incoming: Incoming) -> bool:
        """Hand a frame to the replica whose session it names: its connection may be pinned to us meanwhile."""
        if self._forward is None or not self._belongs_elsewhere(name):
            return False
        self._forward(str(instance_of(name)), bytes(frame), incoming.gateway, incoming.generation)
        return True

    def _identity(self, sender: Address | str, workspace: str, user: Mapping[str, Any] | None) -> Identity:
        return Identity(str(sender), workspace, self._user if user is None else pack(dict(user)))

    def _sweep(self) -> None:
        self.cache.sweep()
        self._outbox.sessions.sweep()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_INTERVAL_S, self._sweep)


def _incoming(head: dict[str, Any], gateway: str, generation: int) -> Incoming:
    get = head.get
    method, sender, target, session, workspace = get("method"), get("from"), get("to"), get("session"), get("ws")
    if not (isinstance(method, str) and isinstance(sender, str) and isinstance(target, str)):
        raise BadRequest("A call needs from, to and method")
    if session is not None and not isinstance(session, str):
        raise BadRequest("Invalid session")
    if not isinstance(workspace, str):
        workspace = sender.partition("/")[0]
    return Incoming(head, method, sender, target, workspace, session, gateway, generation)


def _first_arg(frame: bytes | memoryview, offset: int) -> Any:
    args = args_of(unpack_extra(frame, offset))
    return args[0] if args else None
