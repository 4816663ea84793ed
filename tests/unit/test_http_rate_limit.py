from __future__ import annotations

import pytest

from hypha_gateway.http.rate_limit import RateLimiter, client_address


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_burst_then_rate() -> None:
    """A burst passes at once, then one request for each token that comes back."""
    clock = Clock()
    limiter = RateLimiter(rate=2, burst=3, now=clock)
    assert [limiter.take("a") for _ in range(3)] == [0, 0, 0]
    assert limiter.take("a") == pytest.approx(0.5)
    clock.now += 0.25
    assert limiter.take("a") == pytest.approx(0.25)
    clock.now += 0.25
    assert limiter.take("a") == 0
    assert limiter.take("a") > 0


def test_keys_do_not_share() -> None:
    """One caller's haste is not another's."""
    limiter = RateLimiter(rate=1, burst=1, now=Clock())
    assert limiter.take("a") == 0
    assert limiter.take("a") > 0
    assert limiter.take("b") == 0


def test_rest_fills_the_bucket_only_to_its_burst() -> None:
    """A long rest does not save up more than one burst."""
    clock = Clock()
    limiter = RateLimiter(rate=10, burst=2, now=clock)
    limiter.take("a")
    clock.now += 3600
    assert [limiter.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_number_of_buckets_is_bounded() -> None:
    """The key unseen for longest is forgotten."""
    limiter = RateLimiter(rate=1, burst=1, now=Clock(), max_buckets=2)
    limiter.take("a")
    limiter.take("b")
    assert limiter.take("a") > 0
    limiter.take("c")
    assert len(limiter) == 2
    assert limiter.take("a") > 0
    assert limiter.take("b") == 0


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", b"", "203.0.113.9"),
        ("127.0.0.1", b"", "127.0.0.1"),
        ("127.0.0.1", b"198.51.100.7", "198.51.100.7"),
        ("10.0.0.3", b"1.2.3.4, 198.51.100.7, 10.0.0.9", "198.51.100.7"),  # 1.2.3.4 is the sender's claim
        ("203.0.113.9", b"198.51.100.7", "203.0.113.9"),  # no proxy of ours: not believed
        ("10.0.0.3", b"10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("", b"198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", b"", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", b"", "203.0.113.9"),
        ("10.0.0.3", b"unknown", "unknown"),
        ("10.0.0.3", b"\xff" * 500, "\xff" * 64),
        ("10.0.0.3", b",,", "10.0.0.3"),
    ],
)
def test_client_address(peer: str, forwarded: bytes, address: str) -> None:
    """X-Forwarded-For counts only behind a proxy of ours, and only its last foreign entry."""
    assert client_address(peer, forwarded) == address
