"""
RPC frames (contract 01 §1.7): ``msgpack(header map)`` followed by an optional ``msgpack(extra map)``.

A router decodes only the header, stamps it, and appends the untouched rest. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack

from .errors import BadRequest

__all__ = ["Stamp", "pack", "pack_frame", "split_frame", "unpack", "unpack_extra"]

MAX_HEADER_BYTES = 64 * 1024
_FIRST_LOOK_BYTES = 2048

_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack
_STAMPED = ("from", "to", "ws", "user")


def pack(value: Any) -> bytes:
    """Return ``msgpack(value)``."""
    packed: bytes = _pack(value)
    return packed


def unpack(data: bytes | memoryview) -> Any:
    """Decode one msgpack value. Raises BadRequest where it is malformed."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, TypeError, RecursionError) as error:  # TypeError: a list as the key of a map
        raise BadRequest(f"Invalid msgpack: {error or type(error).__name__}") from None


def split_frame(frame: bytes | memoryview) -> tuple[dict[str, Any], int]:
    """
    Return the header and the offset at which the extra map begins (``len(frame)`` where there is none).

    Raises BadRequest for malformed msgpack, a header that is no map with string keys, or one beyond 64 KiB.

    """
    size = len(frame)
    # Only the first bytes are given to the decoder: its buffer is a copy, and an extra map may hold megabytes.
    look = min(size, _FIRST_LOOK_BYTES)
    while True:
        unpacker = msgpack.Unpacker(raw=False, strict_map_key=True, max_buffer_size=MAX_HEADER_BYTES)
        try:
            unpacker.feed(memoryview(frame)[:look])
            header = unpacker.unpack()
        except msgpack.OutOfData:
            if look >= min(size, MAX_HEADER_BYTES):
                raise BadRequest("Incomplete frame header") from None
            look = min(size, MAX_HEADER_BYTES)
            continue
        except (ValueError, TypeError, RecursionError) as error:
            raise BadRequest(f"Invalid frame header: {error or type(error).__name__}") from None
        if not isinstance(header, dict) or not all(isinstance(key, str) for key in header):
            raise BadRequest("A frame header must be a map with string keys")
        return header, unpacker.tell()


def unpack_extra(frame: bytes | memoryview, offset: int) -> dict[str, Any]:
    """Decode the extra map; an absent one is empty. Raises BadRequest."""
    if offset >= len(frame):
        return {}
    extra = unpack(memoryview(frame)[offset:])
    if not isinstance(extra, dict):
        raise BadRequest("The second part of a frame must be a map")
    return extra


def pack_frame(header: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> bytes:
    """Return a whole frame."""
    return pack(header) if extra is None else pack(header) + pack(extra)


class Stamp:
    """
    The identity of one connection, packed once: ``from``, ``ws`` and ``user`` of every frame it sends.

    """

    __slots__ = ("_packed", "sender")

    def __init__(self, *, sender: str, workspace: str, user: Mapping[str, Any]) -> None:
        self.sender = sender
        self._packed = b"".join(
            (pack("from"), pack(sender), pack("ws"), pack(workspace), pack("user"), pack(user), pack("to"))
        )

    def header(self, header: Mapping[str, Any], to: str) -> bytes:
        """Pack ``header`` with the stamped values in place of whatever the sender claimed."""
        others = [(key, value) for key, value in header.items() if key not in _STAMPED]
        parts = [_map_head(len(others) + 4), self._packed, _pack(to)]
        for key, value in others:
            parts.append(_pack(key))
            parts.append(_pack(value))
        return b"".join(parts)

    def frame(self, header: Mapping[str, Any], to: str, rest: bytes | memoryview) -> bytes:
        """Pack the stamped header and append ``rest`` (the extra map's bytes) untouched."""
        return b"".join((self.header(header, to), rest))


def _map_head(size: int) -> bytes:
    if size < 16:
        return bytes((0x80 | size,))
    return b"\xde" + size.to_bytes(2, "big") if size < 65536 else b"\xdf" + size.to_bytes(4, "big")
