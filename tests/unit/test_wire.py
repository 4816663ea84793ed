from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_common import envelope
from hypha_common.errors import BadRequest
from hypha_common.wire import Stamp, pack_frame, split_frame, unpack_extra

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
STAMP = Stamp(sender="ws/me", workspace="ws", user={"id": "me"})


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=20), st.binary(max_size=200))
def test_stamping_replaces_identity_and_touches_nothing_else(header: dict[str, object], rest: bytes) -> None:
    """Whatever a client claims, ``from``, ``to``, ``ws`` and ``user`` are the gateway's; the rest passes through."""
    frame = pack_frame(header) + rest
    parsed, offset = split_frame(frame)
    assert parsed == header
    stamped = STAMP.frame(parsed, "ws/you", memoryview(frame)[offset:])
    again, offset = split_frame(stamped)
    assert again == {**header, "from": "ws/me", "to": "ws/you", "ws": "ws", "user": {"id": "me"}}
    assert stamped[offset:] == rest


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        msgpack.packb([1, 2]),
        msgpack.packb("text"),
        msgpack.packb({1: 2}),
        msgpack.packb({b"type": 2}),
        b"\x82\xa4type",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 5000,
        msgpack.packb({"type": "x" * 70_000}),
        b"\x81\xa1\xff\x01",
    ],
)
def test_malformed_headers_are_refused(frame: bytes) -> None:
    with pytest.raises(BadRequest):
        split_frame(frame)


def test_a_long_header_and_a_large_extra() -> None:
    header = {"type": "method", "note": "x" * 10_000}
    frame = pack_frame(header, {"args": [b"y" * 500_000]})
    parsed, offset = split_frame(frame)
    assert parsed == header
    assert len(unpack_extra(frame, offset)["args"][0]) == 500_000
    assert unpack_extra(pack_frame(header), split_frame(pack_frame(header))[1]) == {}


@given(st.text(max_size=100), st.binary(max_size=100), st.integers(0, 2**63))
def test_envelopes_open_as_they_were_closed(label: str, body: bytes, generation: int) -> None:
    source = b"abcdefgh"
    opened = envelope.open_envelope(envelope.answer(source, label, body))
    assert (opened.kind, opened.source, opened.label, bytes(opened.body)) == (2, "abcdefgh", label, body)
    opened = envelope.open_envelope(envelope.call(source, generation, body))
    assert (opened.kind, opened.generation, bytes(opened.body)) == (1, generation, body)
    assert bytes(envelope.open_envelope(envelope.frame(source, body)).body) == body


@pytest.mark.parametrize("payload", [b"", b"\x09", b"\x02abcdefgh\xff\xff", b"\x00\xff\xff\xff\xff\xff\xff\xff\xff"])
def test_malformed_envelopes_are_refused(payload: bytes) -> None:
    with pytest.raises(BadRequest):
        envelope.open_envelope(payload)
