"""
Where the central directory of a ZIP archive is, from the records at its end. Pure.

Source: PKWARE APPNOTE.TXT 6.3.10, §4.3.14 to §4.3.16.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from hypha_common.errors import InternalError

__all__ = ["END_64_BYTES", "TAIL_BYTES", "DirectoryPlace", "End", "find_end", "invalid_zip", "read_end_64"]

_END = Struct("<4s4H2IH")
_LOCATOR_64 = Struct("<4sIQI")
_END_64 = Struct("<4sQ2H2I4Q")

END_64_BYTES = _END_64.size
TAIL_BYTES = _END.size + 0xFFFF + _LOCATOR_64.size + _END_64.size  # with the longest comment


def invalid_zip(why: str) -> InternalError:
    """Return the error for an archive that cannot be read."""
    return InternalError(f"Invalid ZIP file: {why}", rpc_type="ValueError")


@dataclass(frozen=True, slots=True)
class DirectoryPlace:
    """A central directory in its file. Something may stand before the archive: ``shift`` is added to its offsets."""

    offset: int
    size: int
    shift: int


@dataclass(frozen=True, slots=True)
class End:
    """The last record of an archive. ``wide`` are the places where the record with fields of 8 bytes may be, if any."""

    place: DirectoryPlace | None
    wide: tuple[int, ...] = ()


def find_end(tail: bytes, start: int) -> End:
    """Read the last record. ``tail`` are the last bytes of the file, from offset ``start``. Raises InternalError."""
    at = _last_end(tail)
    _, _, _, _, _, size, offset, _ = _END.unpack_from(tail, at)
    locator = at - _LOCATOR_64.size
    if locator >= 0 and tail.startswith(b"PK\6\7", locator):
        stated = _LOCATOR_64.unpack_from(tail, locator)[2]
        beside = start + locator - _END_64.size  # where it is if something was put before the archive
        return End(None, tuple(place for place in (stated, beside) if 0 <= place <= start + locator - _END_64.size))
    return End(_place(start + at, size, offset))


def _last_end(tail: bytes) -> int:
    """Return where the last record is. A comment may look like one, and something may follow the archive."""
    fits, at = -1, len(tail)
    while (at := tail.rfind(b"PK\5\6", 0, at + 3)) >= 0:
        if at + _END.size <= len(tail):
            end = at + _END.size + _END.unpack_from(tail, at)[-1]
            if end == len(tail):
                return at
            if end < len(tail) and fits < 0:
                fits = at
    if fits < 0:
        raise invalid_zip("it has no end of central directory record")
    return fits


def read_end_64(record: bytes, at: int) -> DirectoryPlace | None:
    """Read the record with fields of 8 bytes, found at offset ``at``; None where it is none. Raises InternalError."""
    if len(record) < _END_64.size or not record.startswith(b"PK\6\6"):
        return None
    *_, size, offset = _END_64.unpack_from(record)
    return _place(at, size, offset)


def _place(end: int, size: int, offset: int) -> DirectoryPlace:
    shift = end - size - offset
    if shift < 0:
        raise invalid_zip("its central directory is not where it should be")
    return DirectoryPlace(end - size, size, shift)
