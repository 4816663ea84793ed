from __future__ import annotations

import os
import random

import pytest
from websockets.frames import Frame
from websockets.frames import Opcode as WsOpcode

from hypha_gateway.websocket.frames import FrameReader, Opcode, ProtocolError, close_payload, frame_head

LIMIT = 1024 * 1024


def masked(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    return bytes(Frame(WsOpcode(opcode), payload, fin=fin).serialize(mask=True))


def read_all(reader: FrameReader, data: bytes, piece: int) -> list[tuple[int, bytes]]:
    """Receive ``data`` in pieces of at most ``piece`` bytes, as an event loop would."""
    messages = []
    view = memoryview(data)
    while view:
        target = reader.buffer()
        size = min(len(target), len(view), piece)
        target[:size] = view[:size]
        view = view[size:]
        messages.extend((int(opcode), payload) for opcode, payload in reader.received(size))
    return messages


@pytest.mark.parametrize("piece", [1, 7, 4096, 10**9])
def test_messages_of_every_size_survive_any_cut(piece: int) -> None:
    """Whatever the pieces, the messages arrive whole and in order."""
    sizes = [0, 1, 125, 126, 127, 16383, 16384] if piece < 100 else [0, 125, 126, 65535, 65536, 300_000, 5]
    payloads = [os.urandom(size) for size in sizes]
    data = b"".join(masked(Opcode.BINARY, payload) for payload in payloads)
    assert read_all(FrameReader(max_bytes=LIMIT), data, piece) == [(2, payload) for payload in payloads]


def test_random_cuts() -> None:
    """Random pieces of a mix of messages, fragments and control frames."""
    rng = random.Random(7)
    expected: list[tuple[int, bytes]] = []
    data = b""
    for _ in range(200):
        payload = rng.randbytes(rng.choice([0, 3, 130, 20_000, 70_000]))
        if rng.random() < 0.3:
            cut = rng.randint(0, len(payload))
            data += masked(Opcode.BINARY, payload[:cut], fin=False) + masked(Opcode.PING, b"x")
            data += masked(Opcode.CONTINUATION, payload[cut:])
            expected += [(9, b"x"), (2, payload)]
        else:
            data += masked(Opcode.TEXT, payload)
            expected.append((1, payload))
    reader, messages, view = FrameReader(max_bytes=LIMIT), [], memoryview(data)
    while view:
        target = reader.buffer()
        size = min(len(target), len(view), rng.randint(1, 50_000))
        target[:size] = view[:size]
        view = view[size:]
        messages.extend((int(opcode), payload) for opcode, payload in reader.received(size))
    assert messages == expected


def test_two_readers_share_no_state() -> None:
    """The shared receive buffer never mixes two sockets."""
    first, second = FrameReader(max_bytes=LIMIT), FrameReader(max_bytes=LIMIT)
    one, two = masked(Opcode.BINARY, b"a" * 5000), masked(Opcode.BINARY, b"b" * 5000)
    assert read_all(first, one[:3000], 10**6) == []
    assert read_all(second, two[:3000], 10**6) == []
    assert read_all(first, one[3000:], 10**6) == [(2, b"a" * 5000)]
    assert read_all(second, two[3000:], 10**6) == [(2, b"b" * 5000)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(Opcode.BINARY, b"x" * (LIMIT + 1))[:20], 1009),
        (masked(Opcode.BINARY, b"x" * LIMIT, fin=False) + masked(Opcode.CONTINUATION, b"x"), 1009),
        (b"\x82\x01x" + b"\0" * 8, 1002),  # not masked
        (b"\xf2\x81\0\0\0\0x", 1002),  # reserved bits
        (b"\x83\x81\0\0\0\0x", 1002),  # unknown opcode
        (b"\x09\x81\0\0\0\0x", 1002),  # fragmented ping
        (b"\x89\xfe\x00\xff\0\0\0\0", 1002),  # ping of 255 bytes
        (masked(Opcode.CONTINUATION, b"x"), 1002),
        (masked(Opcode.TEXT, b"x", fin=False) + masked(Opcode.TEXT, b"x"), 1002),
    ],
    ids=range(9),  # masks are random
)
def test_violations_are_refused_before_anything_is_stored(data: bytes, code: int) -> None:
    reader = FrameReader(max_bytes=LIMIT)
    with pytest.raises(ProtocolError) as caught:
        read_all(reader, data, 10**9)
    assert caught.value.code == code


def test_limit_can_change() -> None:
    """A peer that is not authenticated yet gets a small limit, later a large one."""
    reader = FrameReader(max_bytes=10)
    with pytest.raises(ProtocolError):
        read_all(reader, masked(Opcode.TEXT, b"x" * 11), 100)
    reader = FrameReader(max_bytes=10)
    reader.max_bytes = 100
    assert read_all(reader, masked(Opcode.TEXT, b"x" * 11), 100) == [(1, b"x" * 11)]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 100_000])
def test_heads_are_what_other_implementations_write(size: int) -> None:
    payload = b"x" * size
    assert frame_head(Opcode.BINARY, size) + payload == Frame(WsOpcode.BINARY, payload).serialize(mask=False)


def test_close_reason_is_cut_to_what_fits() -> None:
    """RFC 6455 allows 123 bytes; a cut never splits a character."""
    payload = close_payload(1001, "é" * 100)
    assert len(payload) <= 125
    assert payload[2:].decode() == "é" * 61
