from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import structlog

from hypha_common import envelope
from hypha_common.bus import Bus, Subscription
from hypha_common.errors import HyphaError
from hypha_common.ids import HTTP_CLIENT_PREFIX, Address, role_of
from hypha_common.rpc.peer import RpcPeer
from hypha_common.rpc.probing import Owing, probe
from hypha_common.subjects import (
    client_frames,
    decode_token,
    encode_token,
    gateway_verb,
    no_responders_prefix,
    parse_client_frames,
    partition_of,
)
from hypha_common.wire import pack

from .gate import Gate
from .link import Buffers
from .roles import RoleCalls
from .table import ConnectionTable
from .windows import RECEIPT_BYTES, Receipts

__all__ = ["LocalClient"]

log = structlog.get_logger(__name__)

_MAX_WORKSPACES = 4096
_CALLBACKS_PER_CLIENT = 4096  # at once: a web service waits for each of its visitors, and answers them at the same time


class _Held:
    """Frames to a role that wait until the gateway has been given a replica."""

    def __init__(self, release: Callable[[], None]) -> None:
        self.frames: list[tuple[bytes, Address, str, str | None]] = []
        self.resume = release


class _Caller:
    """The gateway as it calls roles for workspaces of one partition: each has replicas of its own."""

    number = 0
    generation = 0
    closed = False

    def __init__(self, partition: int, reject: Callable[[str], None]) -> None:
        self.partition = partition
        self.pins: dict[str, str] = {}
        self._reject = reject

    def reject(self, session: str, to: str, text: str, *, context: str = "") -> None:
        """Fail a call to a role whose replica is gone."""
        self._reject(session)


class LocalClient:
    """
    The gateway as an RPC client: calls services for HTTP requests.

    It sends as ``<workspace of the caller>/client-http-<instance>`` and has interest in the answers to each such
    address that is in use; the least recently used ones are given up, but for those that somebody holds.

    """

    number = 0

    def __init__(self, *, bus: Bus, table: ConnectionTable, roles: RoleCalls, server_base_url: str) -> None:
        self.peer = RpcPeer(
            send=self._send,
            server_base_url=server_base_url,
            session_prefix=f"g-{bus.instance}-",
            calls_per_sender=_CALLBACKS_PER_CLIENT,
        )
        self._client_id = f"{HTTP_CLIENT_PREFIX}{bus.instance}"
        self._bus = bus
        self._table = table
        self._roles = roles
        self._callers: dict[int, _Caller] = {}  # by partition
        self._held: dict[tuple[int, str], _Held] = {}
        self._interest: OrderedDict[str, Subscription] = OrderedDict()
        self._held_workspaces: Counter[str] = Counter()
        self._receipts: dict[str, Receipts] = {}  # by subject

    async def sender_for(self, workspace: str) -> Address:
        address = Address(workspace, self._client_id)
        if workspace in self._interest:
            self._interest.move_to_end(workspace)
            return address
        # Interest reaches the server before any call that is published after it, on the same connection.
        subscription = await self._bus.subscribe(client_frames(workspace, self._client_id), self._from_bus)
        self._interest[workspace] = subscription
        self._table.add_peer(workspace, self._client_id, self)
        if len(self._interest) > _MAX_WORKSPACES:
            self._give_up()
        return address

    @asynccontextmanager
    async def holding(self, workspace: str) -> AsyncIterator[Address]:
        """Keep the address in ``workspace`` for a call that may last: its callbacks come there."""
        address = await self.sender_for(workspace)
        self._held_workspaces[workspace] += 1
        try:
            yield address
        finally:
            self._held_workspaces[workspace] -= 1
            if not self._held_workspaces[workspace]:
                del self._held_workspaces[workspace]

    def _give_up(self) -> None:
        """Give up the address that has not been used for longest; if all are held, none."""
        oldest = next((name for name in self._interest if name not in self._held_workspaces), None)
        if oldest is not None:
            self._bus.unsubscribe(self._interest.pop(oldest))
            self._table.remove_peer(oldest, self._client_id)
            self._receipts.pop(client_frames(oldest, self._client_id), None)

    def deliver(self, parts: Buffers) -> Gate | None:
        """Take a frame from a connection of this gateway."""
        self.peer.receive(b"".join(parts))
        return None

    def undeliverable(self, tail: str, subject: str) -> None:
        """The bus found nobody at ``subject`` for a call of ours."""
        workspace, client = parse_client_frames(subject)
        self.peer.undeliverable(Address(workspace, client), decode_token(tail))

    def left(self, address: Address) -> None:
        """A client of this gateway is gone: calls that it was to answer fail."""
        for session, to in self.peer.waiting():
            if to == str(address):
                self.peer.lost(session)

    def bus_lost(self) -> None:
        """Answers from elsewhere may have been lost: calls that wait for one fail."""
        for client, calls in self._elsewhere().items():
            self._lost(client, list(calls))

    async def watch(self) -> None:
        """Ask after those elsewhere who owe an answer for a while, as PendingCalls does; runs for ever."""
        await probe(self._bus, self._elsewhere, self._lost)

    async def close(self) -> None:
        await self.peer.close()

    def _elsewhere(self) -> Owing:
        """The sessions that clients of other gateways are to answer."""
        return self.peer.owing(
            lambda to: role_of(to.workspace, to.client) is None and self._table.peer(to.workspace, to.client) is None
        )

    def _lost(self, client: tuple[str, str], sessions: list[str]) -> None:
        for session in sessions:
            self.peer.lost(session)

    def _send(
        self, frame: bytes, *, to: Address, method: str, workspace: str, session: str | None, ends: str | None
    ) -> None:
        role = role_of(to.workspace, to.client)
        if role is not None:
            self._send_to_role(partition_of(workspace), role, frame, to, method, session)
            return
        local = self._table.peer(to.workspace, to.client)
        if local is not None:
            local.deliver((frame,))
            return
        reply = ""
        if session is not None:
            reply = f"{no_responders_prefix(self._bus.instance)}.h.{encode_token(session)}"
        payload = envelope.frame(self._bus.instance_bytes, frame)
        self._bus.publish(client_frames(to.workspace, to.client), payload, reply=reply)

    def _send_to_role(
        self, partition: int, role: str, frame: bytes, to: Address, method: str, session: str | None
    ) -> None:
        caller = self._caller(partition)
        gate = self._roles.gate(caller, role)
        if gate is None:
            self._roles.send(caller, role, to=str(to), method=method, session=session, frame=frame)
            return
        # Until a replica is known nobody could be held to account for an answer.
        held = self._held.get((partition, role))
        if held is None:
            held = self._held[partition, role] = _Held(partial(self._release, partition, role))
            gate.wait(held)
        held.frames.append((frame, to, method, session))

    def _release(self, partition: int, role: str) -> None:
        for frame, to, method, session in self._held.pop((partition, role)).frames:
            try:
                self._roles.send(self._caller(partition), role, to=str(to), method=method, session=session, frame=frame)
            except HyphaError as error:
                if session is not None:
                    self.peer.unsent(session, error)

    def _caller(self, partition: int) -> _Caller:
        if partition not in self._callers:
            self._callers[partition] = _Caller(partition, self.peer.lost)
        return self._callers[partition]

    def _from_bus(self, subject: str, reply: str, payload: bytes) -> None:
        if not payload:
            return  # a probe
        opened = envelope.open_envelope(payload)
        if opened.kind is envelope.Kind.PROBE:
            return  # that somebody listens here is the answer; gateways do not come back
        if opened.kind is envelope.Kind.ANSWER:
            self._roles.answered(self.number, opened.label)
        self.peer.receive(opened.body)
        if opened.kind is envelope.Kind.FRAME:
            self._acknowledge(subject, opened.source, len(payload))

    def _acknowledge(self, subject: str, source: str, size: int) -> None:
        """Open the window of the gateway that sent: what is large is taken at once, and held back by our answer."""
        receipts = self._receipts.setdefault(subject, Receipts())
        if receipts.add(source, size) >= RECEIPT_BYTES and self._bus.is_connected:
            for gateway, taken in receipts.due():
                self._bus.publish(gateway_verb(gateway, "receipt"), pack([subject, taken]))
