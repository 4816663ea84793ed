from __future__ import annotations

import pytest

from hypha_common.blocks import Block, BlockKind, BlockList, blocked_id
from hypha_common.errors import BadRequest, PermissionDenied


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def ip(name: str, until: float = 2000.0) -> Block:
    return Block(BlockKind.IP, name, "scans", until)


def refused(blocks: BlockList, address: str = "198.51.100.1", *users: str) -> str | None:
    try:
        blocks.check(users, address)
    except PermissionDenied as error:
        return error.message
    return None


def test_user() -> None:
    """A user is kept out by id, or by the id of the one who made the token; others are not."""
    blocks = BlockList(now=Clock())
    blocks.add([Block(BlockKind.USER, "eve", "spam", 2000.0)])
    assert refused(blocks, "", "eve") == "User is blocked: spam"
    assert refused(blocks, "", "teal-x-00000001", "eve") == "User is blocked: spam"
    assert refused(blocks, "", "alice") is None
    blocks.remove("user", "eve")
    assert refused(blocks, "", "eve") is None


@pytest.mark.parametrize(
    ("blocked", "address", "holds"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "::ffff:c000:2ff", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.0/24", "2001:db8::1", False),
        ("2001:db8::/48", "2001:db8:0:5::1", True),
        ("2001:db8::/48", "2001:db9::1", False),
        ("2001:db8::1", "2001:0DB8:0:0::1", True),
        ("fe80::1", "fe80::1%eth0", True),
        ("0.0.0.0/0", "203.0.113.9", True),
        ("0.0.0.0/0", "::1", False),
        ("192.0.2.7", "no address", False),
        ("192.0.2.7", "", False),
    ],
)
def test_addresses(blocked: str, address: str, holds: bool) -> None:
    """However it is written, an address is itself; a network holds its addresses."""
    blocks = BlockList(now=Clock())
    blocks.add([ip(blocked)])
    assert refused(blocks, address) == ("IP is blocked: scans" if holds else None)
    blocks.remove("ip", blocked_id(BlockKind.IP, blocked))
    assert len(blocks) == 0


def test_ends_by_itself() -> None:
    """Nobody needs to be told that a block is over."""
    clock = Clock()
    blocks = BlockList(now=clock)
    blocks.replace([ip("192.0.2.7", until=1010.0), ip("198.51.100.0/24", until=1020.0)])
    assert refused(blocks, "192.0.2.7")
    clock.now = 1010.0
    assert refused(blocks, "192.0.2.7") is None
    assert refused(blocks, "198.51.100.1")
    blocks.replace([])
    assert refused(blocks, "198.51.100.1") is None


@pytest.mark.parametrize(
    ("kind", "text", "stored"),
    [
        (BlockKind.USER, "github|1 2", "github|1 2"),
        (BlockKind.IP, "192.0.2.9/24", "192.0.2.0/24"),
        (BlockKind.IP, "2001:DB8:0::1", "2001:db8::1"),
        (BlockKind.IP, "::ffff:192.0.2.9", "192.0.2.9"),
    ],
)
def test_stored_form(kind: BlockKind, text: str, stored: str) -> None:
    assert blocked_id(kind, text) == stored


@pytest.mark.parametrize(
    ("kind", "text"), [("user", ""), ("user", None), ("user", "a\x00"), ("user", "x" * 600), ("ip", "example.org")]
)
def test_what_cannot_be_blocked(kind: str, text: object) -> None:
    with pytest.raises(BadRequest):
        blocked_id(BlockKind(kind), text)
