"""Directories of archives: as other programs write them, broken ones, and such as want to lead somewhere else."""

from __future__ import annotations

import io
import time
import zipfile
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypha_artifacts.archives.unpacker import Unpacker, data_offset
from hypha_artifacts.archives.zip_end import TAIL_BYTES, DirectoryPlace, find_end, read_end_64
from hypha_artifacts.archives.zip_index import ZipIndex
from hypha_common.errors import InternalError
from tests.unit.test_zip_writer import archive

_PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\x00", categories=("L", "N", "Zs")), min_size=1)
_PATHS = st.lists(_PARTS, min_size=1, max_size=4).map("/".join)


def packed(
    files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"", before: bytes = b""
) -> bytes:
    out = io.BytesIO(before)
    with zipfile.ZipFile(out, "a", method) as zipped:
        zipped.comment = comment
        for name, data in files.items():
            zipped.writestr(zipfile.ZipInfo(name, (2024, 2, 29, 12, 30, 14)), data, method)
    return out.getvalue()


def place_of(data: bytes, tail_bytes: int = TAIL_BYTES) -> DirectoryPlace:
    start = max(0, len(data) - tail_bytes)
    end = find_end(data[start:], start)
    if end.place is not None:
        return end.place
    places = [read_end_64(data[at : at + 56], at) for at in end.wide]
    return next(place for place in places if place is not None)


def index_of(data: bytes) -> ZipIndex:
    place = place_of(data)
    return ZipIndex(data[place.offset : place.offset + place.size], shift=place.shift)


def unpack(data: bytes, path: str, *, step: int = 1000) -> bytes:
    member = index_of(data).find(path)
    assert member is not None, path
    member.check_readable()
    first = data_offset(data[member.offset : member.offset + 30], member.offset)
    body = data[first : first + member.compressed_size]
    unpacker, out = Unpacker(method=member.method, size=member.size, crc=member.crc), bytearray()
    for start in range(0, len(body), step):
        for piece in unpacker.feed(body[start : start + step]):
            out += piece
    unpacker.finish()
    return bytes(out)


def names(listing: Any) -> list[tuple[str, str]]:
    return [(entry["type"], entry["name"]) for entry in listing]


@settings(max_examples=40)
@given(files=st.dictionaries(_PATHS, st.binary(max_size=2000), max_size=20), method=st.sampled_from([0, 8]))
def test_what_the_standard_library_packs_is_found_and_unpacked(files: dict[str, bytes], method: int) -> None:
    data = packed(files, method)
    assert len(index_of(data)) == len(files)
    for path, content in files.items():
        assert unpack(data, path) == content
    assert index_of(data).find("not there") is None or "not there" in files


@settings(max_examples=40)
@given(paths=st.sets(_PATHS, max_size=30), folder=st.lists(_PARTS, max_size=2))
def test_listings_are_of_one_level(paths: set[str], folder: list[str]) -> None:
    """As going through all names tells; a file and a folder may have one name."""
    for prefix in ("", *(f"{path.rpartition('/')[0]}/" for path in paths if "/" in path), "/".join([*folder, ""])):
        expected = set()
        for path in paths:
            if path.startswith(prefix):
                part, slash, _ = path[len(prefix) :].partition("/")
                expected.add(("directory" if slash else "file", part))
        found = names(index_of(packed(dict.fromkeys(paths, b""))).children(prefix))
        assert set(found) == expected
        assert len(found) == len(expected)


def test_a_listing_tells_size_and_time() -> None:
    data = packed({"a/b.txt": b"hello", "a/": b"", "c": b""})
    local = time.mktime((2024, 2, 29, 12, 30, 14, 0, 0, -1))
    assert list(index_of(data).children("a/")) == [{"type": "file", "name": "b.txt", "size": 5, "last_modified": local}]
    assert names(index_of(data).children("")) == [("directory", "a"), ("file", "c")]
    assert list(index_of(data).children("nowhere/")) == []
    assert index_of(data).find("a/") is None
    assert index_of(data).find("a") is None


def test_something_before_and_behind_the_archive() -> None:
    """A program that unpacks itself, and a comment that looks like an end."""
    comment = b"PK\5\6" + bytes(40) + b"PK\5\6 and so on"
    data = packed({"a": b"first", "b": b"second"}, comment=comment, before=b"#!/bin/sh\n" * 100)
    assert unpack(data, "b") == b"second"
    assert len(index_of(packed({}, comment=b"x" * 65_535))) == 0
    assert unpack(packed({"a": b"first"}) + b"something behind it", "a") == b"first"


def test_of_two_files_with_one_name_the_later_counts() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        zipped.writestr("a", b"old")
        zipped.writestr("b", b"")
        with pytest.warns(UserWarning, match="Duplicate name"):
            zipped.writestr("a", b"new")
    assert unpack(out.getvalue(), "a") == b"new"
    assert [entry["name"] for entry in index_of(out.getvalue()).children("")] == ["a", "b"]


def test_70000_members_and_fields_of_8_bytes() -> None:
    """The directory begins before the last bytes that are read first."""
    data = archive([(f"folder{n % 7}/{n}", str(n).encode(), 0) for n in range(70_000)])
    index = index_of(data)
    assert len(index) == 70_000
    member = index.find("folder3/66643")
    assert member is not None and data[member.offset :].startswith(b"PK\3\4")
    assert names(index.children("")) == [("directory", f"folder{n}") for n in range(7)]
    assert len(list(index.children("folder0/"))) == 10_000
    assert index.cost < 6_000_000
    assert unpack(b"before" + data, "folder3/66643") == b"66643"


def test_names_in_other_encodings() -> None:
    data = bytearray(packed({"umlaut-XX.txt": b"1"}))
    as_cp437 = bytes(data).replace(b"XX", b"\x81\x84")  # ü and ä, as MS-DOS wrote them
    assert unpack(as_cp437, "umlaut-üä.txt") == b"1"
    assert names(index_of(as_cp437).children("")) == [("file", "umlaut-üä.txt")]
    unmarked = bytes(data).replace(b"XX", "ü".encode())
    assert unpack(unmarked, "umlaut-ü.txt") == b"1"
    assert names(index_of(unmarked).children("")) == [("file", "umlaut-ü.txt")]


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../evil", "a//b", "./a", ".."])
def test_names_that_lead_elsewhere_are_not_there(name: str) -> None:
    data = packed({name: b"evil", "good": b"good"})
    assert index_of(data).find(name) is None
    assert unpack(data, "good") == b"good"
    shown = {entry["name"] for entry in index_of(data).children("")}
    assert not shown & {"", ".", ".."}


def test_a_symbolic_link_is_the_text_of_its_target() -> None:
    """Nothing is followed: there is nothing here that it could lead to."""
    out = io.BytesIO()
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(out, "w") as zipped:
        zipped.writestr(link, "../../etc/passwd")
    assert unpack(out.getvalue(), "link") == b"../../etc/passwd"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        b"PK\5\6",
        packed({"a": b"x" * 100})[:-30],
        packed({"a": b"x" * 100}).replace(b"PK\1\2", b"PK\1\3"),
        packed({"a": b"x" * 100})[:-10] + b"\xff" * 8 + b"\0\0",  # a directory of 4 GiB
        packed({"aaaa": b""}).replace(b"\x04\0\0\0\0\0\0\0", b"\xff\xff\0\0\0\0\0\0"),  # a name beyond the end
    ],
)
def test_what_is_no_archive_is_told(data: bytes) -> None:
    with pytest.raises(InternalError, match=r"^Invalid ZIP file: "):
        index_of(data)


@given(cut=st.integers(0, 400), noise=st.binary(min_size=1, max_size=8), at=st.integers(0, 400))
def test_broken_archives_end_in_clean_errors(cut: int, noise: bytes, at: int) -> None:
    """Whatever bytes are changed or missing, nothing but an error of ours comes out."""
    whole = packed({"a/b": b"hello" * 50, "c": bytes(1000)})
    data = bytearray(whole[: max(len(whole) - cut, 0)])
    data[at : at + len(noise)] = noise
    try:
        index = index_of(bytes(data))
        for path in ("a/b", "c"):
            list(index.children(""))
            if index.find(path) is not None:
                unpack(bytes(data), path)
    except (InternalError, StopIteration):
        pass


def test_what_cannot_be_unpacked_is_told() -> None:
    def changed(data: bytes, **fields: int) -> InternalError:
        member = index_of(data).find("a")
        assert member is not None
        with pytest.raises(InternalError) as error:
            member.check_readable()
        return error.value

    plain = packed({"a": b"x" * 100})
    at = plain.index(b"PK\1\2")
    encrypted = plain[: at + 8] + b"\1\0" + plain[at + 10 :]
    assert "'a' is encrypted" in str(changed(encrypted))
    lzma = plain[: at + 10] + b"\x0e\0" + plain[at + 12 :]
    assert "compression method 14" in str(changed(lzma))
    stored = plain[: at + 10] + b"\0\0" + plain[at + 12 :]
    assert "two different sizes" in str(changed(stored))


@pytest.mark.parametrize(
    ("packed_bytes", "size", "crc", "why"),
    [
        (zlib.compress(bytes(1000), wbits=-15), 1001, zlib.crc32(bytes(1000)), "ends too early"),
        (zlib.compress(bytes(10**8), wbits=-15), 1000, 0, "larger than the directory says"),
        (zlib.compress(bytes(1000), wbits=-15), 1000, 1, "another check sum"),
        (zlib.compress(bytes(1000), wbits=-15)[:-3], 1000, zlib.crc32(bytes(1000)), "ends too early"),
        (b"\xff" * 100, 1000, 0, "a member is broken"),
    ],
)
def test_members_that_are_not_what_the_directory_says(packed_bytes: bytes, size: int, crc: int, why: str) -> None:
    """A bomb stops at the size that was announced."""
    unpacker, given_out = Unpacker(method=8, size=size, crc=crc), 0
    with pytest.raises(InternalError, match=why):  # noqa: PT012  # it may be noticed at either place
        for piece in unpacker.feed(packed_bytes):
            given_out += len(piece)
        unpacker.finish()
    assert given_out <= size


def test_pieces_are_small_whatever_is_packed() -> None:
    data = zlib.compress(bytes(10**7), wbits=-15)
    pieces = [len(piece) for piece in Unpacker(method=8, size=10**7, crc=0).feed(data)]
    assert max(pieces) <= 128 * 1024
