from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import structlog

from hypha_common.envelope import Kind, answer, call, frame, open_envelope
from hypha_common.errors import HyphaError, PermissionDenied, Unavailable
from hypha_common.ids import PUBLIC_WORKSPACE, ROLE_CLIENTS, ROOT_WORKSPACE, Address
from hypha_common.roll_call import answer_roll_call
from hypha_common.subjects import (
    client_frames,
    colleague,
    decode_token,
    encode_token,
    gateway_verb,
    no_responders_prefix,
    partition_of,
    pinned,
    role_verb,
    sender_role,
)
from hypha_common.wire import pack, split_frame

from .peer import RpcPeer
from .probing import Owing, probe
from .router import Router, is_of_a_role, is_said_by, role_sender
from .service import Service

__all__ = ["RoleHost"]

log = structlog.get_logger()

ANNOUNCE_INTERVAL_S = 5.0
MAX_SENDERS = 4096
RETRY_S = 0.1  # while the workspace role is away, as it is when a cluster starts


Verb = Callable[[dict[str, Any]], Awaitable[Any]]


class Bus(Protocol):
    """What a host needs of :class:`hypha_common.bus.Bus`."""

    role: str
    instance: str
    instance_bytes: bytes

    @property
    def is_connected(self) -> bool: ...

    @property
    def is_late(self) -> bool: ...

    def publish(self, subject: str, payload: bytes, *, reply: str = "") -> None: ...
    async def request(self, subject: str, message: Mapping[str, Any], *, timeout: float = 5.0) -> Any: ...
    async def ask(self, subject: str, *payload: bytes | memoryview, timeout: float) -> Any: ...
    async def subscribe(self, subject: str, handler: Callable[[str, str, bytes], None], *, queue: str = "") -> Any: ...
    def unsubscribe(self, subscription: Any) -> None: ...
    async def withdraw(self, subscriptions: Iterable[Any]) -> None: ...
    async def serve(self, role: str, verb: str, handler: Verb, *, partitions: Iterable[int] | None = None) -> None: ...
    async def serve_subject(self, subject: str, handler: Verb) -> None: ...
    async def undeliverable(self, handler: Callable[[str, str], None]) -> None: ...
    async def flush(self) -> None: ...


class RoleHost:
    """
    One replica of a role, as RPC clients see it: an :class:`RpcPeer` whose frames travel on the bus.

    Services at ``public/<role client>`` and at that client of root's workspace are announced to the workspace role, so
    that clients find them.

    """

    def __init__(
        self,
        bus: Bus,
        role: str,
        *,
        server_base_url: str,
        partitions: Iterable[int] | None = None,
        drain_window_s: float = 5.0,
        announce_interval_s: float = ANNOUNCE_INTERVAL_S,
        missing: Callable[[], list[str]] = list,
        about: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._bus = bus
        self._role = role
        self._wanted = None if partitions is None else list(partitions)
        self._partitions: list[int | str] = ["*"] if self._wanted is None else [*self._wanted]
        self._drain_window_s = drain_window_s
        self._announce_interval_s = announce_interval_s
        self._missing = missing  # what this replica lacks to serve, in words
        self._about = about  # what else it tells of itself: which partitions it serves, and where they are
        self._router = Router(role)
        self._undeliverable_prefix = no_responders_prefix(bus.instance)
        self._shared: list[Any] = []
        self._pinned: list[Any] = []
        self._senders: OrderedDict[str, Any] = OrderedDict()  # subscriptions by workspace
        self._announcing: list[asyncio.Task[None]] = []
        self._unannounced: set[Address] = set()
        self._probing: asyncio.Task[None] | None = None
        client = next((client for client, named in ROLE_CLIENTS.items() if named == role), None)
        self.address = None if client is None else Address(PUBLIC_WORKSPACE, client)
        self.root_address = None if client is None else Address(ROOT_WORKSPACE, client)  # for administrators
        self.peer = RpcPeer(
            send=self._send,
            server_base_url=server_base_url,
            session_prefix=f"i-{bus.instance}-",
            forward=self._forward,
        )

    def add_service(self, service: Service, *, addresses: Iterable[Address | str] = ()) -> None:
        """Serve ``service`` at ``addresses``, by default at the role's own ``public/<role client>``."""
        at = list(addresses)
        if not at and self.address is not None:
            at = [self.address]
        self.peer.add_service(service, addresses=at)

    async def sender_in(self, workspace: str) -> Address:
        """
        Return an address of this replica in ``workspace``, to call from: protected services serve their own workspace.

        Answers to it, and calls of what was an argument, reach this replica alone. The least recently used addresses
        are given up.

        """
        address = Address(workspace, role_sender(self._role, self._bus.instance))
        if workspace in self._senders:
            self._senders.move_to_end(workspace)
            return address
        # Interest reaches the bus before any call that is published after it, on the same connection.
        subscription = await self._bus.subscribe(client_frames(workspace, address.client), self._receive)
        self._senders[workspace] = subscription
        if len(self._senders) > MAX_SENDERS:
            self._bus.unsubscribe(self._senders.popitem(last=False)[1])
        return address

    async def start(self) -> None:
        """Begin to take calls; returns when the bus knows it."""
        await self._bus.undeliverable(self._nobody_there)
        # Frames of clients, as gateways stamp them; NATS lets only gateways, and our own role, publish here.
        ours = pinned(self._role, self._bus.instance)
        self._pinned = [
            await self._bus.subscribe(ours, self._receive),
            await self._bus.subscribe(colleague(ours, "*"), self._receive_from_role),
        ]
        for partition in self._partitions:
            subject = colleague(role_verb(self._role, partition, "call"), "*")
            self._shared.append(await self._bus.subscribe(subject, self._receive_from_role, queue=self._role))
        await self._bus.serve(self._role, "pin", self._pin, partitions=self._wanted)
        await self._bus.serve(self._role, "ready", self._ready, partitions=self._wanted)
        await self._bus.serve_subject(f"{ours}.ping", self._ping)
        await answer_roll_call(self._bus, self._role, lambda: {"missing": self._missing(), **self._about()})
        await self._bus.flush()
        self._probing = asyncio.get_running_loop().create_task(probe(self._bus, self._owing, self._lost))
        for address in (self.address, self.root_address):
            if address is not None and len(self.peer.services_at(address)) > 1:
                self._unannounced.add(address)
                self._announcing.append(asyncio.get_running_loop().create_task(self._announce(address)))

    def missing(self) -> list[str]:
        """Return what keeps clients from finding these services, in words; nothing: they find them."""
        return [f"{address} is not announced" for address in self._unannounced]

    async def close(self) -> None:
        """Take no new calls, finish those that run within the drain window, then take nothing at all."""
        for task in self._announcing:
            task.cancel()
        if self._announcing:
            await asyncio.wait(self._announcing)
        shared, self._shared = self._shared, []
        await self._bus.withdraw(shared)
        await self.peer.drain(self._drain_window_s)
        await self.peer.close()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        while self._senders:
            self._bus.unsubscribe(self._senders.popitem()[1])
        while self._pinned:
            self._bus.unsubscribe(self._pinned.pop())

    async def _pin(self, message: dict[str, Any]) -> dict[str, str]:
        """Offer this replica to a gateway, for all that one of its connections calls."""
        return {"instance": self._bus.instance}

    async def _ready(self, message: dict[str, Any]) -> dict[str, Any]:
        """Tell a gateway that is asked for its readiness whether the role behind it can serve."""
        if missing := self._missing():
            raise Unavailable(", ".join(missing))
        return dict(self._about())

    async def _ping(self, message: dict[str, Any]) -> dict[str, str]:
        """Show a gateway that waits for answers that this replica is alive."""
        return {}

    def _receive(self, subject: str, reply: str, payload: bytes) -> None:
        if not payload:
            return  # somebody asks whether this address exists
        try:
            envelope = open_envelope(payload)
            if envelope.kind is Kind.PROBE:
                return  # that somebody listens here is the answer; replicas do not come back
            gateway = envelope.source if envelope.kind is Kind.CALL else ""
            if gateway and reply and self._bus.is_late:
                # Its caller may have been told that we are gone: its gateway knows, and gives it to another replica.
                tail = reply.removeprefix(f"{no_responders_prefix(gateway)}.")
                self._bus.publish(gateway_verb(gateway, "returned"), pack([tail, self._bus.instance]))
                return
            self.peer.receive(envelope.body, gateway=gateway, generation=envelope.generation)
        except HyphaError as error:
            log.warning("rpc_envelope_refused", subject=subject, error=str(error))
        except Exception:  # the edge of the bus: one bad frame must not end its read loop
            log.exception("rpc_receive_failed", subject=subject)

    def _receive_from_role(self, subject: str, reply: str, payload: bytes) -> None:
        """Take a frame of another role, which speaks for itself alone: NATS vouches for the last part of subjects."""
        if not payload:
            return
        try:
            envelope = open_envelope(payload)
            role, head = sender_role(subject), split_frame(envelope.body)[0]
            if envelope.kind is Kind.CALL or not is_said_by(role, head.get("from")):
                raise PermissionDenied(f"Role '{role}' speaks for {head.get('from')}")
            self.peer.receive(envelope.body)
        except HyphaError as error:
            log.warning("rpc_envelope_refused", subject=subject, error=str(error))
        except Exception:  # the edge of the bus: one bad frame must not end its read loop
            log.exception("rpc_receive_failed", subject=subject)

    def _send(
        self, body: bytes, *, to: Address, method: str, workspace: str, session: str | None, ends: str | None
    ) -> None:
        source = self._bus.instance_bytes
        payload = frame(source, body) if ends is None else answer(source, ends, body)
        reply = "" if session is None else f"{self._undeliverable_prefix}.{encode_token(session)}"
        self._bus.publish(self._router.subject_for(to, method, workspace=workspace), payload, reply=reply)

    def _forward(self, instance: str, body: bytes, gateway: str, generation: int) -> None:
        source = gateway.encode() if gateway else self._bus.instance_bytes
        payload = call(source, generation, body) if gateway else frame(source, body)
        self._bus.publish(pinned(self._role, instance), payload)

    def _owing(self) -> Owing:
        """The sessions that clients, not roles, are to answer."""
        return self.peer.owing(lambda to: not is_of_a_role(to))

    def _lost(self, client: tuple[str, str], sessions: list[str]) -> None:
        for session in sessions:
            self.peer.lost(session)

    def _nobody_there(self, tail: str, subject: str) -> None:
        self.peer.undeliverable(None, decode_token(tail))

    async def _announce(self, address: Address) -> None:
        subject = role_verb("workspace", partition_of(address.workspace), "announce")
        reachable = True
        while True:
            message = {
                "role": self._role,
                "workspace": address.workspace,
                "client_id": address.client,
                "instance": self._bus.instance,
                "services": self.peer.services_at(address),
            }
            try:
                await self._bus.request(subject, message)
                reachable = True
                self._unannounced.discard(address)
            except HyphaError as error:
                if reachable:  # once, not every few seconds while the workspace role is away
                    # Services start in any order, and readiness says what is waited for.
                    tell = log.info if address in self._unannounced else log.warning
                    tell("rpc_announce_failed", role=self._role, error=str(error))
                reachable = False
            await asyncio.sleep(self._announce_interval_s if reachable else min(self._announce_interval_s, RETRY_S))
