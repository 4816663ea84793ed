from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgpack
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_common.errors import BadRequest
from hypha_common.rpc.remote import RemoteError
from hypha_common.rpc.values import decode, encode
from hypha_common.wire import pack, unpack


class Names:
    """Both sides of a conversation: what goes out gets a number, what comes in is found by it."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def export_function(self, function: Callable[..., Any]) -> dict[str, Any]:
        self.kept.append(function)
        return {"_rtype": "method", "number": len(self.kept) - 1}

    def export_generator(self, generator: Any) -> dict[str, Any]:
        self.kept.append(generator)
        return {"_rtype": "generator", "number": len(self.kept) - 1}

    def method(self, encoded: dict[str, Any]) -> Any:
        return self.kept[encoded["number"]]

    def generator(self, encoded: dict[str, Any]) -> Any:
        return self.kept[encoded["number"]]


def over_the_wire(value: Any) -> Any:
    names = Names()
    return decode(unpack(pack(encode(value, names))), names)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "_rtype"), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values(value: Any) -> None:
    """Plain values pass as themselves."""
    names = Names()
    assert encode(value, names) == value
    assert over_the_wire(value) == value
    assert names.kept == []


def test_special_values() -> None:
    """Each kind of contract 01 §2.5 comes back as what it was."""
    assert over_the_wire((1, (2,))) == [1, [2]]
    assert over_the_wire({1, 2}) == {1, 2}
    assert over_the_wire({"a": [{"b": frozenset({3})}]}) == {"a": [{"b": {3}}]}
    assert over_the_wire(memoryview(b"ab")) == memoryview(b"ab")
    assert over_the_wire(bytearray(b"ab")) == b"ab"
    assert over_the_wire(OrderedDict(a=1)) == {"a": 1}
    assert isinstance(over_the_wire([ValueError("bad")])[0], RemoteError)
    assert over_the_wire(print) is print
    generator = (number for number in range(3))
    assert over_the_wire({"g": generator})["g"] is generator
    stamp = msgpack.Timestamp(1, 2)
    assert over_the_wire(stamp) == stamp


def test_enumerations() -> None:
    """Subclasses of plain types are sent as their value."""

    class Colour(enum.StrEnum):
        RED = "red"

    assert over_the_wire([Colour.RED]) == ["red"]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "complex128", "bool", "<U3", ">i4"])
def test_arrays(dtype: str) -> None:
    """Arrays keep shape and type, in whatever memory order they were."""
    array = numpy.zeros((2, 3, 4), dtype=dtype)
    for variant in (array, array.T, array[:, ::2], numpy.array(5).astype(dtype)):
        back = over_the_wire({"a": variant})["a"]
        assert (back.shape, back.dtype) == (variant.shape, variant.dtype)
        assert (back == variant).all()


def test_foreign_forms() -> None:
    """JavaScript's typed arrays, maps and unknown kinds are understood."""
    names = Names()
    typed = {"_rtype": "typedarray", "_rvalue": b"\x01\x00", "_rdtype": "uint16"}
    assert decode(typed, names).tolist() == [1]
    pieces = {"_rtype": "ndarray", "_rvalue": [b"\x01", b"\x02"], "_rdtype": "uint8", "_rshape": [2]}
    assert decode(pieces, names).tolist() == [1, 2]
    ordered = decode({"_rtype": "orderedmap", "_rvalue": [["k", {"_rtype": "set", "_rvalue": [1]}]]}, names)
    assert ordered == OrderedDict(k={1})
    unknown = {"_rtype": "mine", "data": {"_rtype": "set", "_rvalue": [1]}}
    assert decode(unknown, names) == {"_rtype": "mine", "data": {1}}
    assert decode({"_rtype": ["odd"], "a": 1}, names) == {"_rtype": ["odd"], "a": 1}


def test_unsupported() -> None:
    """What has no wire form is refused by name."""
    for value in (object(), [object()], {"a": 1 + 2j}):
        with pytest.raises(BadRequest, match="Unsupported data type"):
            encode(value, Names())


@pytest.mark.parametrize(
    "value",
    [
        {"_rtype": "ndarray", "_rvalue": b"1", "_rdtype": "float64", "_rshape": [1]},
        {"_rtype": "ndarray", "_rvalue": b"", "_rdtype": "nonsense", "_rshape": [0]},
        {"_rtype": "ndarray", "_rvalue": b"12345678", "_rdtype": "O", "_rshape": [1]},
        {"_rtype": "ndarray", "_rvalue": 3, "_rdtype": "u1", "_rshape": [1]},
        {"_rtype": "set"},
        {"_rtype": "set", "_rvalue": [[]]},
        {"_rtype": "orderedmap", "_rvalue": [1]},
        {"_rtype": "memoryview", "_rvalue": "text"},
    ],
)
def test_malformed(value: dict[str, Any]) -> None:
    """A map that lies about itself is the sender's fault."""
    with pytest.raises(BadRequest):
        decode([value], Names())


def test_depth() -> None:
    """Nesting is bounded by the codec, never a crash."""
    value: Any = 1
    for _ in range(5000):
        value = [value]
    with pytest.raises(BadRequest):
        decode(value, Names())
