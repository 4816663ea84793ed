from __future__ import annotations

import random
from typing import Any

import pytest

from hypha_common.bus.parser import FrameParser
from hypha_common.bus.reassembly import Reassembly
from hypha_common.envelope import fragments, open_envelope


class Client:
    """What nats-py's parser needs of its client."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes, bytes, bytes, bytes | None]] = []
        self.others: list[Any] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.messages.append((sid, subject, reply, bytes(data), headers))

    async def _process_ping(self) -> None:
        self.others.append("ping")

    async def _process_pong(self) -> None:
        self.others.append("pong")

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.others.append(info)

    async def _process_err(self, error: str) -> None:
        self.others.append(error)


def stream(rng: random.Random) -> tuple[bytes, list[Any], list[Any]]:
    """Return what a server may send, with the messages and other lines in it."""
    data, messages, others = b"", [], []
    for number in range(150):
        payload = rng.randbytes(rng.choice([0, 1, 60, 5000, 90_000]))
        kind = rng.random()
        if kind < 0.5:
            data += b"MSG s.%d %d %d\r\n%s\r\n" % (number, number, len(payload), payload)
            messages.append((number, b"s.%d" % number, b"", payload, None))
        elif kind < 0.7:
            data += b"MSG s %d reply.to %d\r\n%s\r\n" % (number, len(payload), payload)
            messages.append((number, b"s", b"reply.to", payload, None))
        elif kind < 0.8:
            head = b"NATS/1.0 503\r\nNats-Subject: x\r\n\r\n"
            data += b"HMSG s %d %d %d\r\n%s\r\n" % (number, len(head), len(head) + len(payload), head + payload)
            messages.append((number, b"s", b"", payload, head))
        else:
            line, seen = rng.choice([(b"PING\r\n", "ping"), (b"PONG\r\n", "pong"), (b'INFO {"a": 1}\r\n', {"a": 1})])
            data += line
            others.append(seen)
    return data, messages, others


@pytest.mark.parametrize("largest", [1, 13, 700, 40_000, 10**9])
async def test_any_cut_of_the_stream_gives_the_same_messages(largest: int) -> None:
    rng = random.Random(largest)
    data, messages, others = stream(rng)
    if largest < 100:
        data = data[:100_000]
    client = Client()
    parser = FrameParser(client)
    while data:
        size = rng.randint(1, largest)
        await parser.parse(data[:size])
        data = data[size:]
    if largest >= 100:
        assert (client.messages, client.others) == (messages, others)
    else:
        assert client.messages == messages[: len(client.messages)]
        assert client.messages


def test_fragments_are_joined_only_in_order_and_within_bounds() -> None:
    reassembly = Reassembly(max_bytes=1000)
    pieces = [open_envelope(piece) for piece in fragments(b"abcdefgh", 1, bytes(range(100)), 30)]
    replies = ["answer.here", "", "", ""]  # the first fragment tells where an answer goes
    joined = [reassembly.add("s", piece, reply) for piece, reply in zip(pieces, replies, strict=True)]
    assert joined == [None, None, None, (bytes(range(100)), "answer.here")]
    assert reassembly.add("s", pieces[0]) is None
    assert reassembly.add("s", pieces[2]) is None  # one is missing: given up
    assert reassembly.add("s", pieces[3]) is None
    assert reassembly.dropped == 2
    for message in range(20):
        first = open_envelope(fragments(b"abcdefgh", message, bytes(200), 100)[0])
        reassembly.add("s", first)
    assert reassembly._bytes <= 1000
