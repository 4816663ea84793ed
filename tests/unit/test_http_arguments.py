from __future__ import annotations

from typing import Any

import msgpack
import pytest

from hypha_common.errors import BadRequest, UnsupportedMediaType
from hypha_gateway.http.arguments import (
    Arguments,
    Media,
    body_arguments,
    query_arguments,
    query_parameters,
    request_media,
    response_media,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("007", 7),
        ("-3", -3.0),
        ("+3", 3.0),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("2.", 2.0),
        ("true", "true"),
        ("[1]", "[1]"),
        ("", ""),
        ("nan", "nan"),
        ("inf", "inf"),
        ("-", "-"),
        ("1_000", "1_000"),
        ("1e400", "1e400"),
        ("1.2.3", "1.2.3"),
        ("1e999", "1e999"),
        ("³", "³"),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", "18446744073709551616"),
        ("9" * 5000, "9" * 5000),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("a b", "a b"),
    ],
)
def test_query_values(text: str, value: Any) -> None:
    """A query value is a number where it reads as one, a map where it begins like one, else text."""
    result = query_arguments({"x": text}).kwargs["x"]
    assert result == value
    assert type(result) is type(value)


def test_query_drops_reserved_names() -> None:
    """Names of the route are not arguments."""
    query = query_parameters(b"workspace=w&service_id=s&function_key=f&_mode=random&x=1&x=2&y=&z=a+b%20c")
    assert query_arguments(query) == Arguments(kwargs={"x": 2, "y": "", "z": "a b c"})
    assert query["_mode"] == "random"


def test_query_survives_bad_escapes() -> None:
    """Broken percent-encoding is replaced, not refused."""
    assert query_parameters(b"x=%ff&y=%zz&=1&&") == {"x": "�", "y": "%zz", "": "1"}


@pytest.mark.parametrize(
    "text", ["{", "{a}", '{"a": 1e}', '{"a":' * 5000, '{"a": 99999999999999999999999}', '{"a":"\\ud800"}']
)
def test_bad_map_in_query(text: str) -> None:
    """A map that cannot be read, or not be sent on, is the caller's fault."""
    with pytest.raises(BadRequest, match="Invalid value of x"):
        query_arguments({"x": text})


def test_too_many_query_fields() -> None:
    """The number of fields is bounded."""
    with pytest.raises(BadRequest, match="Invalid query"):
        query_parameters(b"&".join(b"a%d=1" % i for i in range(1001)))


@pytest.mark.parametrize(
    ("header", "media"),
    [
        (b"application/json", Media.JSON),
        (b"application/json; charset=utf-8", Media.JSON),
        (b"Application/JSON;charset=UTF-8", Media.JSON),
        (b"application/problem+json", Media.JSON),
        (b"application/msgpack", Media.MSGPACK),
        (b"application/x-msgpack ; v=1", Media.MSGPACK),
        (b"application/vnd.msgpack", Media.MSGPACK),
        (b"text/plain", None),
        (b"application/x-www-form-urlencoded", None),
        (b"\xff\xfe", None),
        (b"", None),
        (None, None),
    ],
)
def test_request_media(header: bytes | None, media: Media | None) -> None:
    """The media type counts, not its parameters."""
    assert request_media(header) is media


def test_response_media() -> None:
    """The answer has the format of the request; without one Accept is asked, else it is JSON."""
    assert response_media(b"application/msgpack", b"application/json") is Media.MSGPACK
    assert response_media(None, b"application/msgpack, */*") is Media.MSGPACK
    assert response_media(None, b"*/*") is Media.JSON
    assert response_media(b"text/plain", None) is Media.JSON


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        (b"", Arguments()),
        (b"null", Arguments()),
        (b'{"workspace": "w", "x": 1}', Arguments(kwargs={"workspace": "w", "x": 1})),
        (b"[1, {}]", Arguments(args=[1, {}])),
        (b"5", Arguments(args=[5])),
        (b'"text"', Arguments(args=["text"])),
    ],
)
def test_json_bodies(body: bytes, arguments: Arguments) -> None:
    """A map is keyword arguments (with all its names), a list positional ones, a scalar the only one."""
    assert body_arguments(body, Media.JSON) == arguments


def test_msgpack_body_keeps_the_wire_form() -> None:
    """Typed maps go to the provider as they came."""
    array = {"_rtype": "ndarray", "_rvalue": b"\x00" * 8, "_rshape": [2], "_rdtype": "float32"}
    assert body_arguments(msgpack.packb({"x": array}), Media.MSGPACK) == Arguments(kwargs={"x": array})


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"{", Media.JSON),
        (b"\xff\xff", Media.JSON),
        (b'{"x": 1e', Media.JSON),
        (b"[" * 100_000, Media.JSON),
        (b"[99999999999999999999999]", Media.JSON),
        (b'["\\ud800"]', Media.JSON),
        (b"9" * 5000, Media.JSON),
        (b"\xc1", Media.MSGPACK),
        (b"\x81", Media.MSGPACK),
        (b"\x81\x90\x01", Media.MSGPACK),
        (b"\x81\x01\x01", Media.MSGPACK),
        (b"\x91" * 3000 + b"\x01", Media.MSGPACK),
        (b"\x01\x01", Media.MSGPACK),
        (b"\xa1\xff", Media.MSGPACK),
    ],
)
def test_bad_bodies(body: bytes, media: Media) -> None:
    """Whatever cannot be read is a bad request, never anything else."""
    with pytest.raises(BadRequest, match="Invalid request body"):
        body_arguments(body, media)


def test_body_of_unknown_type() -> None:
    """A body needs a type; no body needs none."""
    assert body_arguments(b"", None) == Arguments()
    with pytest.raises(UnsupportedMediaType):
        body_arguments(b"x=1", None)
