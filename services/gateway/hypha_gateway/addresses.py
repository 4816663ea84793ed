from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

__all__ = ["is_proxy", "origin_of", "peer_address"]

_PRIVATE = "127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 ::1/128 fc00::/7"
_PROXY_NETWORKS = tuple(ip_network(network) for network in _PRIVATE.split())


def origin_of(scope: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return what an ASGI scope tells for :func:`peer_address`: the peer, and all that is said it forwarded for."""
    peer = scope.get("client")
    forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return peer[0] if peer else "", b",".join(forwarded)


@lru_cache(maxsize=4096)
def peer_address(peer: str, forwarded_for: bytes) -> str:
    """
    Return the address of a client, whatever its transport.

    ``X-Forwarded-For`` is believed only of a peer in a private network, that is a proxy of ours, and there the last
    public address counts: what stands before it, the sender may have made up.

    """
    if not forwarded_for or not is_proxy(peer):
        return _plain(peer)
    hops = [hop.strip() for hop in forwarded_for.decode("latin-1").split(",")]
    for hop in reversed(hops):
        if hop and not is_proxy(hop):
            return _plain(hop)
    return _plain(hops[0] or peer)


def is_proxy(text: str) -> bool:
    """Tell whether a peer is one of our proxies: it is, where it is in a private network."""
    try:
        address = ip_address(text)
    except ValueError:
        return text == ""  # a unix socket has no address
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _PROXY_NETWORKS)


def _plain(text: str) -> str:
    """IPv4 written as IPv6 is IPv4; what is no address at all is not kept whole."""
    try:
        address = ip_address(text)
    except ValueError:
        return text[:64]
    if address.version == 6 and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
