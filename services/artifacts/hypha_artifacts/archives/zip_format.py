"""
The records of a ZIP archive that is written in one go, its members as they are. Pure.

Source: PKWARE APPNOTE.TXT 6.3.10; Info-ZIP's extra field 0x5455 for times. A member's check sum is known only after its
bytes, so it follows them in a data descriptor. Fields of 8 bytes (zip64) stand where 4 do not do, and nowhere else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from struct import Struct

__all__ = [
    "Member",
    "central_length",
    "central_record",
    "descriptor",
    "end_length",
    "end_records",
    "local_header",
    "member_length",
]

_LOCAL = Struct("<4s5H3I2H")
_DESCRIPTOR = Struct("<4s3I")
_DESCRIPTOR_64 = Struct("<4sI2Q")
_CENTRAL = Struct("<4s6H3I5H2I")
_END_64 = Struct("<4sQ2H2I4Q")
_LOCATOR_64 = Struct("<4sIQI")
_END = Struct("<4s4H2IH")
_TIME = Struct("<2HBi")  # the same in local header and central directory

_MAX_16 = 0xFFFF  # these two say "see zip64", and are no values themselves
_MAX_32 = 0xFFFFFFFF
_VERSION, _VERSION_64 = 20, 45
_UNIX = 3 << 8  # made on
_FLAGS = 0x808  # a data descriptor follows; names are UTF-8
_STORED = 0
_MODE = 0o100644 << 16
_FIRST_TIME = 315532800  # 1980-01-01: MS-DOS has no earlier time
_LAST_TIME = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive; ``size`` is exact."""

    name: str
    size: int
    modified_at: float = _FIRST_TIME  # Unix time, seconds


def member_length(name_bytes: int, size: int) -> int:
    """Return how long a member is with what surrounds it, but its record in the central directory."""
    if size >= _MAX_32:
        return _LOCAL.size + name_bytes + _TIME.size + 20 + size + _DESCRIPTOR_64.size
    return _LOCAL.size + name_bytes + _TIME.size + size + _DESCRIPTOR.size


def central_length(name_bytes: int, size: int, offset: int) -> int:
    """Return the length of a member's record in the central directory."""
    wide = 16 * (size >= _MAX_32) + 8 * (offset >= _MAX_32)
    return _CENTRAL.size + name_bytes + _TIME.size + (wide and wide + 4)


def end_length(count: int, directory_offset: int, directory_size: int) -> int:
    """Return the length of what follows the central directory."""
    wide = _is_wide(count, directory_offset, directory_size)
    return _END.size + (_END_64.size + _LOCATOR_64.size if wide else 0)


def local_header(member: Member) -> bytes:
    """Return what stands before a member's bytes."""
    name, (clock, day), extra = member.name.encode(), _dos_time(member.modified_at), _time_field(member.modified_at)
    version, size = _VERSION, 0
    if member.size >= _MAX_32:  # tells readers that the sizes of the descriptor have 8 bytes
        version, size = _VERSION_64, _MAX_32
        extra += _zip64_field(0, 0)
    head = _LOCAL.pack(b"PK\3\4", version, _FLAGS, _STORED, clock, day, 0, size, size, len(name), len(extra))
    return head + name + extra


def descriptor(size: int, crc: int) -> bytes:
    """Return what follows a member's bytes."""
    record = _DESCRIPTOR_64 if size >= _MAX_32 else _DESCRIPTOR
    return record.pack(b"PK\7\x08", crc, size, size)


def central_record(member: Member, crc: int, offset: int) -> bytes:
    """Return a member's record in the central directory; ``offset`` is where its local header begins."""
    name, (clock, day), extra = member.name.encode(), _dos_time(member.modified_at), _time_field(member.modified_at)
    wide: list[int] = []
    size, where = member.size, offset
    if size >= _MAX_32:
        wide += [size, size]
        size = _MAX_32
    if where >= _MAX_32:
        wide.append(where)
        where = _MAX_32
    if wide:
        extra += _zip64_field(*wide)
    version = _VERSION_64 if wide else _VERSION
    head = _CENTRAL.pack(
        b"PK\1\2", _UNIX | version, version, _FLAGS, _STORED, clock, day, crc, size, size, len(name), len(extra),
        0, 0, 0, _MODE, where,
    )  # fmt: skip
    return head + name + extra


def end_records(count: int, directory_offset: int, directory_size: int) -> bytes:
    """Return what follows the central directory."""
    records = b""
    if _is_wide(count, directory_offset, directory_size):
        at = directory_offset + directory_size
        records = _END_64.pack(
            b"PK\6\6", _END_64.size - 12, _UNIX | _VERSION_64, _VERSION_64, 0, 0, count, count, directory_size,
            directory_offset,
        ) + _LOCATOR_64.pack(b"PK\6\7", 0, at, 1)  # fmt: skip
    count = min(count, _MAX_16)
    size, offset = min(directory_size, _MAX_32), min(directory_offset, _MAX_32)
    return records + _END.pack(b"PK\5\6", 0, 0, count, count, size, offset, 0)


def _is_wide(count: int, directory_offset: int, directory_size: int) -> bool:
    return count >= _MAX_16 or directory_offset >= _MAX_32 or directory_size >= _MAX_32


def _zip64_field(*values: int) -> bytes:
    return Struct(f"<2H{len(values)}Q").pack(1, 8 * len(values), *values)


def _time_field(modified_at: float) -> bytes:
    return _TIME.pack(0x5455, 5, 1, int(min(max(modified_at, 0), _LAST_TIME)))


def _dos_time(modified_at: float) -> tuple[int, int]:
    """Return time and date as MS-DOS has them; it knows no time zones, so they are those of UTC."""
    at = time.gmtime(min(max(modified_at, _FIRST_TIME), _LAST_TIME))
    return at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2, (at.tm_year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday
