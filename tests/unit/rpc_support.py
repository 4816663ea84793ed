"""In place of gateways and bus: a switch that stamps and routes frames between peers and real hypha-rpc clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from hypha_rpc.rpc import RPC

from hypha_common.ids import Address
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.rpc.peer import RpcPeer
from hypha_common.rpc.router import canonical
from hypha_common.wire import Stamp, pack_frame, split_frame, unpack_extra

SERVER = "http://hub.test"
MAX_CLIENT_FRAME = 262_144 + 1024


def principal(workspace: str) -> Principal:
    return Principal(id=f"user-of-{workspace}", scope=Scope(workspaces={workspace: Permission.READ_WRITE}))


class Switch:
    """Delivers in order, later in the same loop, as a bus would."""

    def __init__(self) -> None:
        self.places: dict[str, Callable[[bytes], None]] = {}
        self.frames: list[tuple[dict[str, Any], dict[str, Any]]] = []  # all that went through, decoded
        self.ended: list[str] = []
        self._closers: list[Callable[[], Any]] = []

    def peer(self, addresses: Iterable[str], *, prefix: str = "i-aaaaaaaa-", **options: Any) -> RpcPeer:
        def send(
            frame: bytes, /, *, to: Address, method: str, workspace: str, session: str | None, ends: str | None
        ) -> None:
            if ends is not None:
                self.ended.append(ends)
            if self._deliver(str(to), frame) or session is None:
                return
            asyncio.get_running_loop().call_soon(peer.undeliverable, to, session)

        peer = RpcPeer(send=send, server_base_url=SERVER, session_prefix=prefix, **options)
        for address in addresses:
            self.places[canonical(address)] = peer.receive
        self._closers.append(peer.close)
        return peer

    def client(self, workspace: str, client_id: str, **options: Any) -> RPC:
        connection = Connection(self, workspace, client_id)
        options = {"silent": True, "server_base_url": SERVER, **options}
        client = RPC(connection, client_id=client_id, workspace=workspace, **options)
        self._closers.append(client.disconnect)
        return client

    def disconnect(self, address: str) -> None:
        del self.places[address]

    async def close(self) -> None:
        for close in self._closers:
            await close()

    def methods(self) -> list[str]:
        """The method of each frame, without the ids in front of it."""
        return [head["method"].rpartition(".")[2] for head, _ in self.frames]

    def from_client(self, stamp: Stamp, workspace: str, frame: bytes) -> None:
        head, offset = split_frame(frame)
        to = str(Address.parse(head["to"], default_workspace=workspace))
        if not self._deliver(to, stamp.frame(head, to, frame[offset:])) and "session" in head:
            text = f"Target peer {to} is not connected"
            error = {"_rtype": "error", "_rvalue": text, "_rtrace": ""}
            answer = {"type": "method", "from": to, "to": stamp.sender, "method": f"{head['session']}.reject"}
            self._deliver(stamp.sender, pack_frame(answer, {"args": [error]}))

    def _deliver(self, to: str, frame: bytes) -> bool:
        head, offset = split_frame(frame)
        self.frames.append((head, unpack_extra(frame, offset)))
        place = self.places.get(canonical(to))
        if place is not None:
            asyncio.get_running_loop().call_soon(place, frame)
        return place is not None


class Connection:
    """What the RPC class of hypha-rpc needs of a connection (contract 01 §2.12)."""

    manager_id = None

    def __init__(self, switch: Switch, workspace: str, client_id: str) -> None:
        self._switch = switch
        self._workspace = workspace
        self._address = f"{workspace}/{client_id}"
        user = principal(workspace).dump()
        self._stamp = Stamp(sender=self._address, workspace=workspace, user=user)

    async def emit_message(self, frame: bytes) -> None:
        self._switch.from_client(self._stamp, self._workspace, bytes(frame))

    def on_message(self, handler: Callable[[bytes], None]) -> None:
        def receive(frame: bytes) -> None:
            assert len(frame) <= MAX_CLIENT_FRAME, "clients read no larger frame"
            handler(frame)

        self._switch.places[self._address] = receive

    def on_connected(self, handler: Any) -> None:
        pass

    async def disconnect(self, reason: str | None = None) -> None:
        self._switch.places.pop(self._address, None)
