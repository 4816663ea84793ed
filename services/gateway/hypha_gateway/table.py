from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from .connection import Connection
from .gate import Gate
from .link import Buffers

__all__ = ["ConnectionTable", "LocalPeer"]


class LocalPeer(Protocol):
    """Something on this gateway that takes frames: a connection, or the gateway's own RPC client."""

    number: int

    def deliver(self, parts: Buffers) -> Gate | None:
        """Take one frame, whole; return a gate where the sender should wait before the next."""


class ConnectionTable:
    """
    Who is on this gateway, by address.

    An entry exists exactly while its connection is open. Nothing else may hold a connection.

    """

    def __init__(self) -> None:
        self._peers: dict[tuple[str, str], LocalPeer] = {}
        self._connections: dict[int, Connection] = {}
        self.added = 0  # so far

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._connections.values()))

    @property
    def addresses(self) -> int:
        """How many addresses somebody answers at: connections, and the gateway's own."""
        return len(self._peers)

    def peer(self, workspace: str, client: str) -> LocalPeer | None:
        return self._peers.get((workspace, client))

    def by_number(self, number: int) -> Connection | None:
        return self._connections.get(number)

    def connection(self, workspace: str, client: str) -> Connection | None:
        peer = self._peers.get((workspace, client))
        return peer if isinstance(peer, Connection) else None

    def add(self, connection: Connection) -> None:
        """Install a connection in the place of whoever had its address."""
        address = connection.address
        self.added += 1
        self._peers[address.workspace, address.client] = connection
        self._connections[connection.number] = connection

    def remove(self, connection: Connection) -> None:
        self._connections.pop(connection.number, None)
        key = (connection.address.workspace, connection.address.client)
        # A late close of generation g must not remove g+1.
        if self._peers.get(key) is connection:
            del self._peers[key]

    def add_peer(self, workspace: str, client: str, peer: LocalPeer) -> None:
        self._peers[workspace, client] = peer

    def remove_peer(self, workspace: str, client: str) -> None:
        self._peers.pop((workspace, client), None)
