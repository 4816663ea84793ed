from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeAlias

from .errors import BadRequest, Blocked

__all__ = ["Block", "BlockKind", "BlockList", "blocked_id", "is_within"]

Network: TypeAlias = IPv4Network | IPv6Network

_MAX_ID_CHARACTERS = 512


class BlockKind(StrEnum):
    USER = "user"
    IP = "ip"


@dataclass(frozen=True, slots=True)
class Block:
    """One user, address or network that is kept out until a Unix time."""

    kind: BlockKind
    id: str
    reason: str
    until: float

    def dump(self) -> list[Any]:
        return [str(self.kind), self.id, self.reason, self.until]

    @classmethod
    def load(cls, data: list[Any]) -> Block:
        """Rebuild what :meth:`dump` wrote. Raises ValueError or TypeError."""
        kind, name, reason, until = data
        return cls(BlockKind(kind), str(name), str(reason), float(until))


class BlockList:
    """
    Who is kept out: users by id, and peers by address or network. Expiry is looked at on every use.

    Checking costs two look-ups in a dictionary while no network is blocked.

    """

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._users: dict[str, Block] = {}
        self._addresses: dict[Network, Block] = {}  # single addresses, as networks of one
        self._networks: dict[Network, Block] = {}

    def __len__(self) -> int:
        return len(self._users) + len(self._addresses) + len(self._networks)

    def check(self, user_ids: Iterable[str], address: str) -> None:
        """Raise Blocked if one of these users or the peer's address is blocked."""
        if self._users:
            for user_id in user_ids:
                self._refuse("User", self._users.get(user_id))
        if self._addresses or self._networks:
            peer = _network(address)
            if peer is not None:
                self._refuse("IP", self._addresses.get(peer))
                for network, block in self._networks.items():
                    if _holds(network, peer):
                        self._refuse("IP", block)

    def replace(self, blocks: Iterable[Block]) -> None:
        """Forget everything and take these."""
        for table in (self._users, self._addresses, self._networks):
            table.clear()
        self.add(blocks)

    def add(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            if block.kind is BlockKind.USER:
                self._users[block.id] = block
            elif (network := _network(block.id)) is not None:
                self._table(network)[network] = block

    def remove(self, kind: str, name: str) -> None:
        if kind == BlockKind.USER:
            self._users.pop(name, None)
        elif (network := _network(name)) is not None:
            self._table(network).pop(network, None)

    def _table(self, network: Network) -> dict[Network, Block]:
        return self._addresses if network.prefixlen == network.max_prefixlen else self._networks

    def _refuse(self, what: str, block: Block | None) -> None:
        if block is not None and block.until > self._now():
            raise Blocked(f"{what} is blocked: {block.reason}")


def blocked_id(kind: BlockKind, text: object) -> str:
    """Return the form in which a block is stored: of an address or network its shortest. Raises BadRequest."""
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_ID_CHARACTERS or not text.isprintable():
        raise BadRequest("id must be a user id or an address")
    if kind is BlockKind.USER:
        return text
    network = _network(text)
    if network is None:
        raise BadRequest(f"Invalid address: {text!r:.64}; it must be like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/48")
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


@lru_cache(maxsize=4096)
def _network(text: str) -> Network | None:
    """Parse an address or network; IPv4 written as IPv6 is IPv4. None: it is neither."""
    try:
        network = ip_network(text.partition("%")[0] if "%" in text else text, strict=False)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((int(mapped), network.prefixlen - 96))
    return network


def is_within(address: str, name: str) -> bool:
    """Tell whether an address is ``name``, or in the network of that name."""
    peer, network = _network(address), _network(name)
    return peer is not None and network is not None and _holds(network, peer)


def _holds(network: Network, peer: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(peer, IPv4Network) and peer.subnet_of(network)
    return isinstance(peer, IPv6Network) and peer.subnet_of(network)
