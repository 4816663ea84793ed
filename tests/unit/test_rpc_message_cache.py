from __future__ import annotations

import pytest

from hypha_common.errors import BadRequest, Conflict, NotFound, PayloadTooLarge, QuotaExceeded
from hypha_common.rpc.message_cache import MessageCache


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> MessageCache:
    return MessageCache(now=clock, sender_bytes=100, total_bytes=150, sender_messages=3, max_age_s=10)


def test_pieces_in_any_order(cache: MessageCache) -> None:
    """Pieces are joined by index, whatever order they came in."""
    cache.create("a", "k")
    cache.set("a", "k", 1, b"world")
    cache.set("a", "k", 0, b"hello ")
    assert cache.size == 11
    assert cache.take("a", "k") == b"hello world"
    assert (len(cache), cache.size) == (0, 0)


def test_append(cache: MessageCache) -> None:
    """Old clients append."""
    cache.create("a", "k")
    cache.append("a", "k", b"1")
    cache.append("a", "k", b"2")
    assert cache.take("a", "k") == b"12"


def test_missing_piece(cache: MessageCache) -> None:
    """An incomplete message is refused and forgotten."""
    cache.create("a", "k")
    cache.set("a", "k", 1, b"x")
    with pytest.raises(BadRequest):
        cache.take("a", "k")
    assert (len(cache), cache.size) == (0, 0)


def test_replaced_piece(cache: MessageCache) -> None:
    """A piece that comes again counts once."""
    cache.create("a", "k")
    for _ in range(50):
        cache.set("a", "k", 0, b"x" * 90)
    assert cache.size == 90


def test_same_key(cache: MessageCache) -> None:
    """A key is taken until its message is gone, for its sender only."""
    cache.create("a", "k")
    cache.set("a", "k", 0, b"x")
    with pytest.raises(Conflict):
        cache.create("a", "k")
    cache.create("b", "k")
    cache.create("a", "k", overwrite=True)
    assert cache.size == 0
    assert cache.take("b", "k") == b""


def test_unknown(cache: MessageCache) -> None:
    """Nothing can be done with a message that is not there, or that belongs to somebody else."""
    cache.create("a", "k")
    for attempt in (cache.take, cache.remove):
        with pytest.raises(NotFound):
            attempt("b", "k")
    with pytest.raises(NotFound):
        cache.set("b", "k", 0, b"")


def test_limits(cache: MessageCache) -> None:
    """Bytes per sender, bytes of all, messages per sender, index and key are bounded."""
    cache.create("a", "k")
    cache.set("a", "k", 0, b"x" * 100)
    with pytest.raises(PayloadTooLarge):
        cache.set("a", "k", 1, b"x")
    assert cache.size == 0  # what cannot be completed is not kept
    cache.create("a", "1")
    cache.set("a", "1", 0, b"x" * 80)
    cache.create("b", "1")
    with pytest.raises(PayloadTooLarge):
        cache.set("b", "1", 0, b"x" * 80)
    cache.create("a", "2")
    cache.create("a", "3")
    with pytest.raises(QuotaExceeded):
        cache.create("a", "4")
    for index in (-1, 10**9):
        with pytest.raises(BadRequest):
            cache.set("a", "2", index, b"")
    with pytest.raises(BadRequest):
        cache.create("c", "k" * 1000)


def test_age(cache: MessageCache, clock: Clock) -> None:
    """What does not move is forgotten, what moves stays."""
    cache.create("a", "old")
    cache.set("a", "old", 0, b"x")
    cache.create("a", "new")
    clock.now += 8
    cache.set("a", "new", 0, b"y")
    clock.now += 8
    cache.sweep()
    assert (len(cache), cache.size) == (1, 1)
    assert cache.take("a", "new") == b"y"
