from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from hypha_common.errors import NotAcceptable
from hypha_gateway.http.arguments import Media
from hypha_gateway.http.responses import encode


def test_json_is_utf8_and_compact() -> None:
    """JSON is written as it is read by people, without blanks."""
    assert encode({"a": "ä", "b": [1, None]}, Media.JSON) == '{"a":"ä","b":[1,null]}'.encode()


def test_time_stamps_in_json() -> None:
    """A date of a JavaScript provider is written as JavaScript writes it."""
    assert json.loads(encode(msgpack.Timestamp(0, 500_000_000), Media.JSON)) == "1970-01-01T00:00:00.500000Z"


@pytest.mark.parametrize(
    "value", [b"bytes", [float("nan")], {"a": float("inf")}, {b"k": 1}, msgpack.ExtType(5, b""), "\ud800"]
)
def test_what_json_cannot_say(value: Any) -> None:
    """A result that JSON cannot express is refused with the way out, not with a crash."""
    with pytest.raises(NotAcceptable, match="application/msgpack"):
        encode(value, Media.JSON)


def test_deep_results() -> None:
    """Nesting that the encoder cannot follow is refused too."""
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotAcceptable):
        encode(value, Media.JSON)
    while isinstance(value, list):  # a recursive destructor is no part of this test
        value = value.pop()


def test_msgpack_says_everything() -> None:
    """Bytes and not-a-number travel in msgpack."""
    decoded = msgpack.unpackb(encode({"a": b"x", "b": float("inf")}, Media.MSGPACK))
    assert decoded == {"a": b"x", "b": float("inf")}
