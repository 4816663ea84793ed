from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network

__all__ = ["RateLimiter", "client_address"]

MAX_BUCKETS = 50_000


class RateLimiter:
    """
    A token bucket for each key: ``rate`` requests a second, ``burst`` at once.

    Holds at most ``max_buckets``: the key unseen for longest is forgotten, which only ever favours that key.

    """

    def __init__(
        self,
        *,
        rate: float,
        burst: float,
        now: Callable[[], float] = time.monotonic,
        max_buckets: int = MAX_BUCKETS,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (tokens, when counted)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str) -> float:
        """Take one token. Return 0, or the seconds after which there is one again."""
        now = self._now()
        tokens, counted = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - counted) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[key] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > self._max_buckets:
            self._buckets.popitem(last=False)
        return wait


_PRIVATE = "127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 ::1/128 fc00::/7"
_PROXY_NETWORKS = tuple(ip_network(network) for network in _PRIVATE.split())


@lru_cache(maxsize=4096)
def client_address(peer: str, forwarded_for: bytes) -> str:
    """
    Return the address that a request is counted for.

    ``X-Forwarded-For`` is believed only of a peer in a private network, that is a proxy of ours, and there the last
    public address counts: what stands before it, the sender may have made up. An IPv6 subscriber owns a /64.

    """
    if not forwarded_for or not _is_proxy(peer):
        return _subscriber(peer)
    hops = [hop.strip() for hop in forwarded_for.decode("latin-1").split(",")]
    for hop in reversed(hops):
        if hop and not _is_proxy(hop):
            return _subscriber(hop)
    return _subscriber(hops[0] or peer)


def _is_proxy(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return text == ""  # a unix socket has no address
    return any(address in network for network in _PROXY_NETWORKS)


def _subscriber(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return text[:64]
    if address.version == 4:
        return text
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, 64), strict=False))
