from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hypha_common.ids import Address
from hypha_common.principal import Permission, root_principal
from hypha_gateway.connection import Connection
from hypha_gateway.rates import TokenBucket


class Link:
    """A link that notes what it is given."""

    remote = "127.0.0.1"
    last_heard = 0.0
    queued_bytes = 0

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send_control(self, message: Any) -> None:
        self.sent.append(b"info")

    def send_binary(self, parts: Any) -> None:
        self.sent.append(b"".join(parts))


@pytest.fixture
def make() -> Any:
    def connection() -> Connection:
        return Connection(
            Link(),  # type: ignore[arg-type]
            address=Address("lab", "mover"),
            generation=1,
            principal=root_principal(),
            permission=Permission.READ,
            instance="12345678",
            rate=TokenBucket(rate=1, burst=1, now=0),
            max_queue_bytes=1024,
            router=SimpleNamespace(slow=set()),  # type: ignore[arg-type]
        )

    return connection


def test_frames_of_both_connections_are_delivered_once_and_in_order(make: Any) -> None:
    old, new = make(), make()
    old.open({})
    old.deliver((b"0",))
    old.hold()
    for frame in (b"1", b"2"):
        old.deliver((frame,))
    old.superseded()
    # From here on the bus may give frames to both.
    for frame in (b"3", b"4", b"4"):
        old.deliver((frame,))
    for frame in (b"4", b"4", b"5", b"1"):
        new.deliver((frame[:1], frame[1:]))
    alone, shared = old.take_held()
    assert (alone, shared) == ([b"1", b"2"], [b"3", b"4", b"4"])
    new.take_over(alone, shared, age_s=60)
    assert 60 <= new.age_s < 70
    new.open({})
    new.deliver((b"6",))
    assert old.link.sent == [b"info", b"0"]
    # The second 1 came after the first connection had ended: it is another frame with the same bytes.
    assert new.link.sent == [b"info", b"1", b"2", b"3", b"4", b"4", b"5", b"1", b"6"]


def test_what_is_held_is_counted(make: Any) -> None:
    connection = make()
    connection.open({})
    connection.deliver((b"sent",))
    connection.hold()
    connection.deliver((b"kept", b"!"))
    assert connection.held_bytes == 5


def test_nothing_was_kept(make: Any) -> None:
    connection = make()
    connection.deliver((b"early",))
    connection.take_over([], [], age_s=0)
    connection.open({})
    assert connection.link.sent == [b"info", b"early"]
