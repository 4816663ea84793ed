"""
What travels on the bus around an RPC frame.

Byte 0 is the kind, bytes 1..8 the instance (gateway or replica) that published it, then:

======== =======================================================================================================
FRAME    the frame
CALL     generation of the sending connection (8 bytes, big endian), the frame; from a client to a role
ANSWER   length (2 bytes) and text of the session that this frame ends, the frame; from a role to a client
EVENT    length (2 bytes) and text of the event type, the frame; to the members of a workspace
POST     length (2 bytes) and text of what the sender showed, the frame; to the gateway that holds a client's stream
FRAGMENT message id (4 bytes), index (2), count (2), a piece of an envelope that was larger than the bus allows
PROBE    nothing; asks the gateway that holds a client how many seconds it has been there
======== =======================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .errors import BadRequest

__all__ = [
    "INSTANCE_BYTES",
    "Envelope",
    "Kind",
    "answer",
    "call",
    "event",
    "fragments",
    "frame",
    "open_envelope",
    "post",
    "probe",
]

INSTANCE_BYTES = 8  # instance ids are 8 ASCII characters
_HEAD = 1 + INSTANCE_BYTES


class Kind(IntEnum):
    FRAME = 0
    CALL = 1
    ANSWER = 2
    EVENT = 3
    FRAGMENT = 4
    POST = 5
    PROBE = 6


@dataclass(slots=True)
class Envelope:
    """An opened envelope; ``label`` is the session (ANSWER), event type (EVENT) or proof (POST), ``body`` the frame."""

    kind: Kind
    source: str
    body: memoryview
    label: str = ""
    generation: int = 0
    message: int = 0
    index: int = 0
    count: int = 0


def frame(source: bytes, body: bytes) -> bytes:
    return b"".join((b"\x00", source, body))


def call(source: bytes, generation: int, body: bytes) -> bytes:
    return b"".join((b"\x01", source, generation.to_bytes(8, "big"), body))


def answer(source: bytes, session: str, body: bytes) -> bytes:
    return b"".join((b"\x02", source, _label(session), body))


def event(source: bytes, event_type: str, body: bytes) -> bytes:
    return b"".join((b"\x03", source, _label(event_type), body))


def post(source: bytes, proof: str) -> bytes:
    """Return what goes before the frame of a POST."""
    return b"".join((b"\x05", source, _label(proof)))


def probe(source: bytes) -> bytes:
    return b"\x06" + source


def fragments(source: bytes, message: int, payload: bytes, piece_bytes: int) -> list[bytes]:
    """Cut an envelope into FRAGMENT envelopes whose pieces hold at most ``piece_bytes``."""
    view = memoryview(payload)
    pieces = [view[start : start + piece_bytes] for start in range(0, len(payload), piece_bytes)]
    count = len(pieces).to_bytes(2, "big")
    head = b"\x04" + source + message.to_bytes(4, "big")
    return [b"".join((head, index.to_bytes(2, "big"), count, piece)) for index, piece in enumerate(pieces)]


def open_envelope(payload: bytes | memoryview) -> Envelope:
    """Parse what one of the functions above built. Raises BadRequest."""
    view = memoryview(payload)
    try:
        kind = Kind(view[0])
        source = str(view[1:_HEAD], "ascii")
        if kind in (Kind.FRAME, Kind.PROBE):
            return Envelope(kind, source, view[_HEAD:])
        if kind is Kind.CALL:
            return Envelope(kind, source, view[_HEAD + 8 :], generation=int.from_bytes(view[_HEAD : _HEAD + 8], "big"))
        if kind is Kind.FRAGMENT:
            numbers = (view[_HEAD : _HEAD + 4], view[_HEAD + 4 : _HEAD + 6], view[_HEAD + 6 : _HEAD + 8])
            message, index, count = (int.from_bytes(part, "big") for part in numbers)
            return Envelope(kind, source, view[_HEAD + 8 :], message=message, index=index, count=count)
        end = _HEAD + 2 + int.from_bytes(view[_HEAD : _HEAD + 2], "big")
        if end > len(view):
            raise ValueError("truncated label")
        return Envelope(kind, source, view[end:], label=str(view[_HEAD + 2 : end], "utf-8"))
    except (IndexError, ValueError) as error:
        raise BadRequest(f"Invalid envelope: {error}") from None


def _label(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw
