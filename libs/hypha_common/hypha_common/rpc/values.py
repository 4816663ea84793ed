"""
Values on the wire (contract 01 §2.5): what msgpack cannot express travels as a map with ``_rtype``.

Nothing here does I/O; what becomes of functions and generators is up to the two protocols.
"""

from __future__ import annotations

import inspect
import io
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import msgpack

from hypha_common.errors import BadRequest

from .remote import RemoteError, error_of

__all__ = ["STOP_ITERATION", "Local", "Remote", "decode", "encode"]

STOP_ITERATION = {"_rtype": "stop_iteration"}

_PLAIN = frozenset({type(None), bool, int, float, str, bytes, msgpack.Timestamp, msgpack.ExtType})


class Local(Protocol):
    """Keeps what stays here and is called from afar."""

    def export_function(self, function: Callable[..., Any]) -> dict[str, Any]: ...
    def export_generator(self, generator: Any) -> dict[str, Any]: ...


class Remote(Protocol):
    """Makes what stands here for something afar."""

    def method(self, encoded: dict[str, Any]) -> Any: ...
    def generator(self, encoded: dict[str, Any]) -> Any: ...


def encode(value: Any, local: Local) -> Any:
    """Return ``value`` in wire form. Raises BadRequest (TypeError) for what has none."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        if _PLAIN.issuperset(map(type, value.values())):
            return value
        return {key: encode(item, local) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if _PLAIN.issuperset(map(type, value)):
            return value
        return [encode(item, local) for item in value]
    return _encode_special(value, local)


def _encode_special(value: Any, local: Local) -> Any:
    numpy = sys.modules.get("numpy")  # an array can only exist where numpy was imported
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return {
            "_rtype": "ndarray",
            "_rvalue": value.tobytes(),
            "_rshape": list(value.shape),
            "_rdtype": str(value.dtype),
        }
    if isinstance(value, (bool, int, float, str, bytes)):  # subclasses: enumerations and the like
        return value
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, memoryview):
        return {"_rtype": "memoryview", "_rvalue": value.tobytes()}
    if isinstance(value, (set, frozenset)):
        return {"_rtype": "set", "_rvalue": [encode(item, local) for item in value]}
    if isinstance(value, BaseException):
        return {"_rtype": "error", "_rvalue": getattr(value, "text", None) or str(value), "_rtrace": ""}
    if callable(value):
        return local.export_function(value)
    if _is_generator(value):
        return local.export_generator(value)
    raise BadRequest(f"Unsupported data type: {type(value).__name__}", rpc_type="TypeError")


def _is_generator(value: Any) -> bool:
    if isinstance(value, io.IOBase):
        return False
    return inspect.isgenerator(value) or hasattr(value, "__anext__") or hasattr(value, "__next__")


def decode(value: Any, remote: Remote) -> Any:
    """Return what a wire value stands for. Raises BadRequest where an ``_rtype`` map is malformed."""
    try:
        return _decode(value, remote)
    except RecursionError:
        raise BadRequest("A value is nested too deeply") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRequest(f"Invalid value: {type(error).__name__}: {error}") from None


def _decode(value: Any, remote: Remote) -> Any:
    kind = type(value)
    if kind is dict:
        if "_rtype" in value:
            return _decode_typed(value, remote)
        if _PLAIN.issuperset(map(type, value.values())):
            return value
        return {key: _decode(item, remote) for key, item in value.items()}
    if kind is list:
        if _PLAIN.issuperset(map(type, value)):
            return value
        return [_decode(item, remote) for item in value]
    return value


def _decode_typed(value: dict[str, Any], remote: Remote) -> Any:
    kind = value["_rtype"]
    decoder = _DECODERS.get(kind) if isinstance(kind, str) else None
    if decoder is not None:
        return decoder(value, remote)
    return {key: _decode(item, remote) for key, item in value.items()}


def _decode_array(value: dict[str, Any], remote: Remote) -> Any:
    numpy = _numpy()
    if numpy is None:
        return value
    raw = value["_rvalue"]
    if isinstance(raw, list):  # large arrays of old clients come in pieces
        raw = b"".join(raw)
    array = numpy.frombuffer(raw, dtype=numpy.dtype(str(value["_rdtype"])))
    return array.reshape(tuple(value["_rshape"])) if "_rshape" in value else array


def _decode_error(value: dict[str, Any], remote: Remote) -> RemoteError:
    return RemoteError(error_of(value))


def _numpy() -> Any:
    # Imported at the first array, not before: it costs 30 MB that most processes never need.
    try:
        import numpy
    except ImportError:
        return None
    return numpy


_DECODERS: dict[str, Callable[[dict[str, Any], Remote], Any]] = {
    "method": lambda value, remote: remote.method(value),
    "generator": lambda value, remote: remote.generator(value),
    "ndarray": _decode_array,
    "typedarray": _decode_array,
    "memoryview": lambda value, remote: memoryview(value["_rvalue"]),
    "set": lambda value, remote: set(_decode(value["_rvalue"], remote)),
    "orderedmap": lambda value, remote: OrderedDict(_decode(value["_rvalue"], remote)),
    "error": _decode_error,
}
