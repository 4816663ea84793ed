from __future__ import annotations

import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct, error
from typing import Any

from .zip_end import invalid_zip

__all__ = ["ZipIndex", "ZipMember"]

_RECORD = Struct("<4s6H3I5H2I")
_LENGTHS = Struct("<3H")  # of name, extra fields and comment, at 28
_NAME_AT = _RECORD.size
_MAX_32 = 0xFFFFFFFF
_UTF8 = 0x800
_ENCRYPTED = 1
_ZIP64, _TIMES = 1, 0x5455
_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file in an archive, as its directory tells; ``offset`` is that of its local header in the archive's file."""

    name: str
    method: int
    crc: int
    compressed_size: int
    size: int
    offset: int
    modified_at: float  # Unix time, seconds
    is_encrypted: bool

    def check_readable(self) -> None:
        """Raise InternalError where it is packed in a way that is not read here."""
        if self.is_encrypted:
            raise invalid_zip(f"{self.name!r} is encrypted")
        if self.method not in (_STORED, _DEFLATED):
            raise invalid_zip(f"{self.name!r} has compression method {self.method}; only 0 and 8 are read")
        if self.method == _STORED and self.size != self.compressed_size:
            raise invalid_zip(f"{self.name!r} has two different sizes")


class ZipIndex:
    """
    The central directory of an archive: its bytes as they are, and the places of its records sorted by name.

    So a directory of a million members takes few objects. Names are for comparison only: one that leads out of the
    archive is not found, and is in no listing.

    """

    def __init__(self, directory: bytes, *, shift: int) -> None:
        """Read a directory. Raises InternalError where it is broken."""
        self._directory = directory
        self._shift = shift
        self._order = array("I", sorted(self._places(), key=self._name))

    def __len__(self) -> int:
        return len(self._order)

    @property
    def cost(self) -> int:
        """How many bytes it holds."""
        return len(self._directory) + self._order.itemsize * len(self._order)

    def find(self, path: str) -> ZipMember | None:
        """Return a file, or None. Of several with one name the last counts."""
        if any(part in ("", ".", "..") for part in path.split("/")):
            return None
        for name in _encodings(path):
            at = bisect_right(self._order, name, key=self._name) - 1
            if at >= 0 and self._name(self._order[at]) == name:
                return self._member(self._order[at])
        return None

    def children(self, folder: str) -> Iterator[dict[str, Any]]:
        """Yield what is directly in a folder, ``""`` or with a slash at its end, by name (contract 02 §3.4)."""
        for prefix in _encodings(folder):
            at = bisect_left(self._order, prefix, key=self._name)
            if at < len(self._order) and self._name(self._order[at]).startswith(prefix):
                yield from self._below(prefix, at)
                return

    def _below(self, prefix: bytes, at: int) -> Iterator[dict[str, Any]]:
        while at < len(self._order):
            name = self._name(self._order[at])
            if not name.startswith(prefix):
                return
            part, slash, _ = name[len(prefix) :].partition(b"/")
            if slash:  # on behind all that is in the folder: "0" follows "/"
                at = bisect_left(self._order, prefix + part + b"0", lo=at, key=self._name)
            else:  # of several records the last counts
                at += 1
                while at < len(self._order) and self._name(self._order[at]) == name:
                    at += 1
            if part in (b"", b".", b".."):
                continue
            if slash:
                yield {"type": "directory", "name": _decoded(part)}
            else:
                member = self._member(self._order[at - 1])
                yield {
                    "type": "file",
                    "name": _decoded(part),
                    "size": member.size,
                    "last_modified": member.modified_at,
                }

    def _places(self) -> Iterator[int]:
        directory, place = self._directory, 0
        while place < len(directory):
            if not directory.startswith(b"PK\1\2", place) or place + _RECORD.size > len(directory):
                raise invalid_zip("its central directory is broken")
            name, extra, comment = _LENGTHS.unpack_from(directory, place + 28)
            yield place
            place += _RECORD.size + name + extra + comment
        if place > len(directory):
            raise invalid_zip("its central directory is broken")

    def _name(self, place: int) -> bytes:
        length = self._directory[place + 28] | self._directory[place + 29] << 8
        return self._directory[place + _NAME_AT : place + _NAME_AT + length]

    def _member(self, place: int) -> ZipMember:
        (
            _, _, _, flags, method, clock, day, crc, compressed, size, name_length, extra_length, _, _, _, _, offset,
        ) = _RECORD.unpack_from(self._directory, place)  # fmt: skip
        start = place + _NAME_AT + name_length
        fields = _extra_fields(self._directory[start : start + extra_length])
        try:
            wide = iter(Struct(f"<{len(fields.get(_ZIP64, b'')) // 8}Q").unpack_from(fields.get(_ZIP64, b"")))
            size, compressed, offset = (next(wide) if n == _MAX_32 else n for n in (size, compressed, offset))
        except (error, RuntimeError):  # RuntimeError: a field is missing
            raise invalid_zip("the sizes of a large member are missing") from None
        name = _decoded(self._name(place)) if not flags & _UTF8 else self._name(place).decode(errors="replace")
        return ZipMember(
            name, method, crc, compressed, size, offset + self._shift, _modified_at(fields, clock, day),
            bool(flags & _ENCRYPTED),
        )  # fmt: skip


def _extra_fields(data: bytes) -> dict[int, bytes]:
    fields, at = {}, 0
    while at + 4 <= len(data):
        kind, length = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 2 : at + 4], "little")
        fields[kind] = data[at + 4 : at + 4 + length]
        at += 4 + length
    return fields


def _modified_at(fields: dict[int, bytes], clock: int, day: int) -> float:
    times = fields.get(_TIMES, b"")
    if len(times) >= 5 and times[0] & 1:
        return float(int.from_bytes(times[1:5], "little", signed=True))
    date = (1980 + (day >> 9), day >> 5 & 15, day & 31, clock >> 11, clock >> 5 & 63, (clock & 31) * 2)
    try:
        return time.mktime((*date, 0, 0, -1))  # whoever packed it meant the time of some place
    except (ValueError, OverflowError):
        return 0.0


def _encodings(name: str) -> list[bytes]:
    """Return the bytes that may stand for a name: today's, and those of programs that know no UTF-8."""
    found = [name.encode("utf-8", "surrogatepass")]
    if not name.isascii():
        with suppress(UnicodeEncodeError):
            found.append(name.encode("cp437"))
    return found


def _decoded(name: bytes) -> str:
    """Read a name whose encoding is not told: many programs write UTF-8 without saying so."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")
