from __future__ import annotations

import asyncio
from functools import partial
from time import perf_counter
from typing import Any

import structlog

from hypha_common import envelope, trace
from hypha_common.bus import Bus
from hypha_common.errors import BadRequest, HyphaError, PeerNotFound, PermissionDenied
from hypha_common.ids import MAX_ID_BYTES, role_of
from hypha_common.subjects import (
    client_frames,
    decode_token,
    gateway_verb,
    no_responders_prefix,
    parse_client_frames,
    session_token,
    workspace_events,
)
from hypha_common.wire import pack, split_frame, unpack

from . import metrics
from .connection import Connection
from .gate import Gate
from .pending import PendingCalls
from .roles import RoleCalls
from .streaming.posts import Posts
from .table import ConnectionTable
from .traffic import SAMPLED, Traffic
from .windows import RECEIPT_BYTES, SendWindows

__all__ = ["Router"]

log = structlog.get_logger(__name__)

# Clients believe these whoever sends them, and give up calls to the client that they name. Only we may say them to one
# client; what a member tells its whole workspace is its own affair.
_SAID_BY_US = frozenset(
    {
        "client_connected",
        "client_disconnected",
        "client_updated",
        "peer_not_found",
        "service_added",
        "service_removed",
        "service_updated",
    }
)
_WINDOW_TAIL = "w"  # where the bus reports that nobody takes what a window counts: hy.n.<gateway>.w
_SOURCE = slice(1, 1 + envelope.INSTANCE_BYTES)
_BODY = 1 + envelope.INSTANCE_BYTES


class Router:
    """
    Moves frames between the connections of this gateway, the bus and the roles (contract 01 §1.7, §1.8).

    Everything here runs in the event loop's callbacks and never waits: frames of one sender keep their order.

    """

    def __init__(
        self,
        *,
        bus: Bus,
        table: ConnectionTable,
        windows: SendWindows,
        roles: RoleCalls,
        pending: PendingCalls,
        posts: Posts,
    ) -> None:
        self._bus = bus
        self._table = table
        self._windows = windows
        self._roles = roles
        self._pending = pending
        self._posts = posts
        self._congestion: Gate | None = None
        self._waiting: asyncio.Task[None] | None = None
        self.slow: set[Connection] = set()
        self.traffic = Traffic()

    async def start(self) -> None:
        await self._bus.subscribe(gateway_verb(self._bus.instance, "receipt"), self._on_receipt)
        await self._bus.subscribe(gateway_verb(self._bus.instance, "returned"), self._on_returned)

    def route(self, connection: Connection, data: bytes) -> Gate | None:
        """Send one frame of a client on its way; return a gate to wait at before its next one."""
        self.traffic.frames += 1
        if self.traffic.frames % SAMPLED:
            return self._take(connection, data)
        began = perf_counter()
        gate = self._take(connection, data)
        metrics.ROUTE_SECONDS.observe(perf_counter() - began)
        return gate

    def _take(self, connection: Connection, data: bytes) -> Gate | None:
        try:
            header, offset = split_frame(data)
        except BadRequest as error:
            metrics.INVALID_FRAMES.inc()
            log.debug("invalid_frame", client=str(connection.address), error=str(error))
            return None
        self.traffic.sizes.add(len(data))
        session = header.get("session")
        if not isinstance(session, str):
            session = None
        try:
            return self._route(connection, header, session, data, offset)
        except HyphaError as error:
            self._reject(connection, session, header.get("to"), str(error))
            return None

    def _route(
        self, connection: Connection, header: dict[str, Any], session: str | None, data: bytes, offset: int
    ) -> Gate | None:
        workspace, client = _target(header.get("to"), connection.address.workspace)
        rest = memoryview(data)[offset:]
        if client == "*":
            return self._broadcast(connection, header, workspace, rest)
        kind = header.get("type")
        if kind != "method" and isinstance(kind, str) and kind in _SAID_BY_US:
            raise PermissionDenied(f"A client must not send a message of type '{kind}' to another")
        to = f"{workspace}/{client}"
        role = role_of(workspace, client)
        if role is not None:
            gate = self._roles.gate(connection, role)
            if gate is not None:
                connection.block(gate, retry=data)
                return None
            self.traffic.role += 1
            self._call_role(connection, role, header, to, session, rest)
            return None
        peer = self._table.peer(workspace, client)
        if session is not None:
            callee = peer.number if peer is not None else (workspace, client)
            self.traffic.calls += 1
            self._pending.called(connection, session, callee, to)
        if peer is not None:
            self.traffic.local += 1
            self._settle(peer.number, header)
            return peer.deliver((connection.stamp.header(header, to), rest))
        self.traffic.bus += 1
        return self._publish(connection, workspace, client, session, connection.stamp.header(header, to), rest)

    def _call_role(
        self,
        connection: Connection,
        role: str,
        header: dict[str, Any],
        to: str,
        session: str | None,
        rest: memoryview,
    ) -> None:
        """Send a frame to a role, in a trace of its own, or in that which the client names."""
        told, method = header.get(trace.KEY), header.get("method")
        context = trace.incoming(told)
        shown = method if isinstance(method, str) else ""
        span = trace.start_call(shown, trace.CLIENT, trace.RPC, context=context, root=told is None)
        header[trace.KEY] = context if span is None else span.context
        frame = connection.stamp.frame(header, to, rest)
        self._roles.send(
            connection, role, to=to, method=method, session=session, frame=frame, context=context, span=span
        )

    def _settle(self, caller: int, header: dict[str, Any]) -> None:
        """Note that a frame on its way to ``caller`` ends one of its calls, if it does."""
        method = header.get("method")
        if isinstance(method, str) and self._pending.waits(caller):
            session, _, name = method.rpartition(".")
            if name in ("resolve", "reject"):
                self._pending.answered(caller, session)

    def _publish(
        self, connection: Connection, workspace: str, client: str, session: str | None, head: bytes, rest: memoryview
    ) -> Gate | None:
        reply = ""
        if session is not None and (token := session_token(session)):
            # Nobody listens there -> the bus answers on this subject, and the caller is told at once.
            reply = f"{no_responders_prefix(self._bus.instance)}.c.{connection.number}.{token}"
        subject = client_frames(workspace, client)
        self._bus.publish(subject, envelope.frame(self._bus.instance_bytes, head), rest, reply=reply)
        gate = self._windows.charge(subject, _BODY + len(head) + len(rest))
        if gate is None:
            return self._congested()
        if not reply:
            # Nothing else would tell that nobody is there to open the window again.
            self._bus.publish(subject, b"", reply=f"{no_responders_prefix(self._bus.instance)}.{_WINDOW_TAIL}")
        return gate

    def _broadcast(
        self, connection: Connection, header: dict[str, Any], workspace: str, rest: memoryview
    ) -> Gate | None:
        if not connection.may_broadcast:
            raise PermissionDenied(
                f"Read-only client {connection.address} cannot broadcast messages. "
                "Only point-to-point messages are allowed for read-only clients."
            )
        if workspace != connection.address.workspace:
            raise PermissionDenied(f"Broadcasting into another workspace is not allowed: {workspace}")
        self.traffic.broadcast += 1
        event_type = header.get("type")
        if event_type == "peer_not_found":
            raise PermissionDenied("A client must not send a message of type 'peer_not_found' to others")
        body = connection.stamp.frame(header, f"{workspace}/*", rest)
        label = event_type if isinstance(event_type, str) else ""
        self._bus.publish(workspace_events(workspace), envelope.event(self._bus.instance_bytes, label, body))
        return self._congested()

    def from_bus(self, connection: Connection, subject: str, reply: str, payload: bytes) -> None:
        """Deliver what another process sent to a connection of this gateway."""
        if not payload:
            return  # that somebody listens here is the answer
        kind = payload[0]
        if kind == envelope.Kind.FRAME:
            self.traffic.from_bus += 1
            body = memoryview(payload)[_BODY:]
            if self._pending.waits(connection.number):
                self._settle(connection.number, split_frame(body)[0])
            connection.deliver((body,))
            # A receipt means "written"; while the client reads slowly it is held back, and the sender waits.
            taken = connection.receipts.add(payload[_SOURCE].decode(), len(payload))
            if taken >= RECEIPT_BYTES and connection.full_since is None and not connection.moving:
                self.acknowledge(connection)
        elif kind == envelope.Kind.PROBE:
            if not connection.arriving:  # where it comes from, it is still known for how long
                self._bus.answer(reply, connection.age_s)
        else:
            opened = envelope.open_envelope(payload)
            if opened.kind is envelope.Kind.POST:
                self._posts.from_bus(connection, reply, opened)
                return
            self.traffic.from_role += 1
            if opened.kind is envelope.Kind.ANSWER:
                self._roles.answered(connection.number, opened.label)
            connection.deliver((opened.body,))

    def acknowledge(self, connection: Connection) -> None:
        """Tell other gateways what a connection has taken from them."""
        if not self._bus.is_connected:
            return
        subject = client_frames(connection.address.workspace, connection.address.client)
        for source, size in connection.receipts.due():
            self._bus.publish(gateway_verb(source, "receipt"), pack([subject, size]))

    def undeliverable(self, tail: str, subject: str) -> None:
        """The bus found nobody at ``subject`` for a frame of ours."""
        kind, _, rest = tail.partition(".")
        if kind == "r":
            self._roles.undeliverable(rest)
            return
        self._windows.forget(subject)
        if kind != "c":
            return
        workspace, client = parse_client_frames(subject)
        number, _, token = rest.partition(".")
        connection = self._table.by_number(int(number))
        if connection is not None:
            self._pending.refused(connection, decode_token(token), f"{workspace}/{client}")

    def _reject(self, connection: Connection, session: str | None, to: object, text: str) -> None:
        """Answer a call that could not be routed; without a session nobody waits and the frame is dropped."""
        if session is None:
            return
        target = to if isinstance(to, str) and to else "*"
        if "/" not in target:
            target = f"{connection.address.workspace}/{target}"
        connection.reject(session, target, text)

    def _on_receipt(self, subject: str, reply: str, payload: bytes) -> None:
        target, size = unpack(payload)
        self._windows.receipt(target, size)

    def _on_returned(self, subject: str, reply: str, payload: bytes) -> None:
        tail, instance = unpack(payload)
        kind, _, rest = tail.partition(".")
        if kind == "r":
            self._roles.undeliverable(rest, instance=instance)

    def _congested(self) -> Gate | None:
        """Return the gate of the bus connection while it takes less than it is given."""
        if self._congestion is None and self._bus.is_congested:
            self._congestion = Gate()
            self._waiting = asyncio.create_task(self._wait_for_bus(self._congestion))
        return self._congestion

    async def _wait_for_bus(self, gate: Gate) -> None:
        try:
            await self._bus.written()
        finally:
            self._congestion = None
            gate.open()

    def interest_handler(self, connection: Connection) -> partial[None]:
        return partial(self.from_bus, connection)


def _target(to: object, own_workspace: str) -> tuple[str, str]:
    """Return (workspace, client) of a header's ``to``; client ``*`` means the members of the workspace."""
    if not isinstance(to, str) or not to:
        raise PeerNotFound("Target is missing")
    workspace, slash, client = to.partition("/")
    # Ids become parts of bus subjects, which are short; nobody has a longer one.
    if len(to) > MAX_ID_BYTES // 4 and max(len(workspace.encode()), len(client.encode())) > MAX_ID_BYTES:
        raise _nobody(to)
    if not slash:
        return own_workspace, to
    if not workspace or not client or "/" in client:
        raise _nobody(to)
    return workspace, client


def _nobody(to: str) -> PeerNotFound:
    return PeerNotFound(f"Target peer {to if len(to) <= 128 else to[:128] + '…'} is not connected")
