from __future__ import annotations

import zlib
from collections.abc import Iterator

from .zip_end import invalid_zip

__all__ = ["LOCAL_HEADER_BYTES", "Unpacker", "data_offset"]

LOCAL_HEADER_BYTES = 30
_PIECE_BYTES = 128 * 1024
_DEFLATED = 8


def data_offset(header: bytes, at: int) -> int:
    """Return where the bytes of a member begin whose local header is ``header``, at ``at``. Raises InternalError."""
    if len(header) < LOCAL_HEADER_BYTES or not header.startswith(b"PK\3\4"):
        raise invalid_zip("a member is not where the directory says")
    name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    return at + LOCAL_HEADER_BYTES + name + extra


class Unpacker:
    """
    Unpacks one member, stored or deflated, in pieces of at most 128 KiB, and checks what comes out. Pure.

    More than the directory promised is never given out, however much is packed.

    """

    def __init__(self, *, method: int, size: int, crc: int) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if method == _DEFLATED else None
        self._left = size
        self._expected_crc = crc
        self._crc = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what comes out of the next packed bytes. Raises InternalError where they are broken."""
        if self._inflate is None:
            yield self._checked(data)
            return
        while data:
            try:
                piece = self._inflate.decompress(data, _PIECE_BYTES)
            except zlib.error:
                raise invalid_zip("a member is broken") from None
            data = self._inflate.unconsumed_tail
            if piece:
                yield self._checked(piece)

    def finish(self) -> None:
        """Raise InternalError unless all has come out, and it is what was put in."""
        if self._left or (self._inflate is not None and not self._inflate.eof):
            raise invalid_zip("a member ends too early")
        if self._crc != self._expected_crc:
            raise invalid_zip("a member has another check sum")

    def _checked(self, piece: bytes) -> bytes:
        self._left -= len(piece)
        if self._left < 0:
            raise invalid_zip("a member is larger than the directory says")
        self._crc = zlib.crc32(piece, self._crc)
        return piece
