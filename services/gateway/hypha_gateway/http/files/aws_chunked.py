from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from hypha_common.errors import BadRequest

__all__ = ["AwsChunks"]

_MAX_LINE_BYTES = 4096  # a size with a signature, or a trailer
_MAX_TRAILERS = 32
_MAX_SIZE_DIGITS = 12


class _Next(Enum):
    SIZE = auto()  # a line: size in hexadecimal, perhaps ";chunk-signature=…"
    DATA = auto()
    END_OF_DATA = auto()  # an empty line
    TRAILER = auto()  # lines, the last one empty
    NOTHING = auto()


class AwsChunks:
    """
    Takes the framing ``aws-chunked`` off a body, in whatever pieces it comes. Pure.

    Clients of S3 sign or check a body this way while they send it. Signatures and trailers are passed over: how long
    the body is, and who may send it, is in the request's head.

    Source: AWS "Signature Calculations … Transferring Payload in Multiple Chunks".

    """

    def __init__(self) -> None:
        self._next = _Next.SIZE
        self._line = bytearray()
        self._left = 0  # bytes of the chunk still to come
        self._trailers = 0

    @property
    def is_complete(self) -> bool:
        """Whether the last chunk has come. What follows it may be missing: not every client sends it."""
        return self._next in (_Next.TRAILER, _Next.NOTHING)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what is in the next piece of a body. Raises BadRequest where the framing makes no sense."""
        at = 0
        while at < len(data):
            if self._next is _Next.DATA:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._next = _Next.END_OF_DATA
                yield piece
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._keep(data[at:])
                return
            self._keep(data[at:end])
            at = end + 1
            line = bytes(self._line).removesuffix(b"\r")
            self._line.clear()
            self._read(line)

    def _keep(self, part: bytes) -> None:
        self._line += part
        if len(self._line) > _MAX_LINE_BYTES:
            raise BadRequest("The body is not aws-chunked: a line is too long")

    def _read(self, line: bytes) -> None:
        if self._next is _Next.SIZE:
            digits = line.partition(b";")[0].strip()
            if not digits or len(digits) > _MAX_SIZE_DIGITS or digits.strip(b"0123456789abcdefABCDEF"):
                raise BadRequest("The body is not aws-chunked: a chunk has no size")
            self._left = int(digits, 16)
            self._next = _Next.DATA if self._left else _Next.TRAILER
        elif self._next is _Next.END_OF_DATA:
            if line:
                raise BadRequest("The body is not aws-chunked: a chunk is longer than its size")
            self._next = _Next.SIZE
        elif self._next is _Next.TRAILER:
            self._trailers += 1
            if self._trailers > _MAX_TRAILERS:
                raise BadRequest("The body is not aws-chunked: too many trailers")
            if not line:
                self._next = _Next.NOTHING
        else:
            raise BadRequest("The body is not aws-chunked: something follows its end")
