from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network

from hypha_gateway.addresses import origin_of, peer_address

from .responses import Scope

__all__ = ["RateLimiter", "client_address", "request_address"]

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


@lru_cache(maxsize=4096)
def client_address(peer: str, forwarded_for: bytes) -> str:
    """Return whom a request is counted for: its client's address, of IPv6 the /64 that a subscriber owns."""
    text = peer_address(peer, forwarded_for)
    try:
        address = ip_address(text)
    except ValueError:
        return text
    return text if address.version == 4 else str(ip_network((address, 64), strict=False))


def request_address(scope: Scope) -> str:
    """Return whom an HTTP request is counted for."""
    return client_address(*origin_of(scope))
