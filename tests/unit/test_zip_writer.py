"""The writer of archives: what it writes, other programs read, and it is as long as was said before."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_artifacts.archives.zip_format import Member, central_record, local_header
from hypha_artifacts.archives.zip_writer import ZipLength, ZipWriter
from hypha_common.errors import Unavailable

_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\x00", categories=("L", "N", "S", "Zs")), min_size=1)
_FILES = st.lists(
    st.tuples(_NAMES, st.binary(max_size=300), st.floats(-1e9, 2**33)), max_size=12, unique_by=lambda f: f[0]
)


def archive(files: Iterable[tuple[str, bytes, float]]) -> bytes:
    members = [Member(name, len(data), modified_at) for name, data, modified_at in files]
    writer, out = ZipWriter(), bytearray()
    for member, (_, data, _) in zip(members, files, strict=True):
        out += writer.begin(member)
        for start in range(0, len(data), 100):
            writer.data(data[start : start + 100])
            out += data[start : start + 100]
        out += writer.end()
    return bytes(out) + b"".join(writer.directory(members))


def length_of(files: Iterable[tuple[str, int]]) -> int:
    length = ZipLength()
    for name, size in files:
        length.add(name, size)
    return length.total


@given(files=_FILES)
def test_archives_are_read_by_others_and_their_length_is_known(files: list[tuple[str, bytes, float]]) -> None:
    written = archive(files)
    assert len(written) == length_of((name, len(data)) for name, data, _ in files)
    with zipfile.ZipFile(io.BytesIO(written)) as read:
        assert read.testzip() is None
        assert [(info.filename, read.read(info)) for info in read.infolist()] == [(n, data) for n, data, _ in files]


@pytest.mark.parametrize("count", [65534, 65535, 65536])
def test_counts_around_the_limit_of_two_bytes(count: int) -> None:
    files = [(f"{n:05}", b"", 1.7e9) for n in range(count)]
    written = archive(files)
    assert len(written) == length_of((name, 0) for name, _, _ in files)
    with zipfile.ZipFile(io.BytesIO(written)) as read:
        assert len(read.infolist()) == count
    assert (b"PK\6\7" in written[-100:]) == (count >= 65535)


class Sparse:
    """A file in which only what was written takes room."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def skip(self, size: int) -> None:
        self._file.seek(size, io.SEEK_CUR)

    def size(self) -> int:
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def write_sparsely(out: Sparse, members: list[Member]) -> None:
    """Write members of zeros. Only how many there are is told to the writer: nobody checks sums here."""
    writer = ZipWriter()
    for member in members:
        out.write(writer.begin(member))
        writer._size = member.size
        out.skip(member.size)
        out.write(writer.end())
    for piece in writer.directory(members):
        out.write(piece)


@pytest.mark.parametrize(
    "sizes",
    [
        [5 * 2**30],  # a large member
        [3 * 2**30, 3 * 2**30, 10_000],  # a far one
        [2**32 - 2],  # the largest that 4 bytes hold, its directory beyond them
        [2**32 - 1],
        [10_000, 2**33, 10_000],
    ],
)
def test_what_does_not_fit_into_four_bytes(sizes: list[int], tmp_path: Path) -> None:
    """Sizes, places and the directory's own place, as the standard library reads them."""
    members = [Member(f"member-{n}-ü", size) for n, size in enumerate(sizes)]
    out = Sparse(tmp_path / "large.zip")
    with closing(out):
        write_sparsely(out, members)
        assert out.size() == length_of((member.name, member.size) for member in members)
    with zipfile.ZipFile(tmp_path / "large.zip") as read:
        assert [(info.filename, info.file_size) for info in read.infolist()] == [(m.name, m.size) for m in members]
        for info in read.infolist():
            with read.open(info) as body:  # reads the local header
                assert body.read(4) == bytes(4)


def test_a_member_that_is_not_as_long_as_announced_is_noticed() -> None:
    writer = ZipWriter()
    writer.begin(Member("a", 3))
    writer.data(b"ab")
    with pytest.raises(Unavailable, match="2 bytes, not 3"):
        writer.end()


def test_times_are_kept_to_the_second_and_bounded() -> None:
    with zipfile.ZipFile(io.BytesIO(archive([("a", b"", 1.7e9), ("b", b"", 0), ("c", b"", 1e12)]))) as read:
        assert [info.date_time for info in read.infolist()] == [
            (2023, 11, 14, 22, 13, 20),
            (1980, 1, 1, 0, 0, 0),
            (2038, 1, 19, 3, 14, 6),
        ]


def test_records_stay_small_where_they_can() -> None:
    assert len(local_header(Member("a", 2**32 - 2))) == 30 + 1 + 9
    assert len(central_record(Member("a", 2**32 - 2), 0, 2**32 - 2)) == 46 + 1 + 9


@pytest.mark.skipif(shutil.which("unzip") is None, reason="no unzip on this machine")
def test_unzip_accepts_it(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive([("a/ü.txt", b"hello" * 1000, 1.7e9), ("empty", b"", 1.7e9)]))
    done = subprocess.run(["unzip", "-t", str(tmp_path / "a.zip")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def zeros(size: int) -> Iterator[bytes]:
    chunk = bytes(2**22)
    while size:
        yield chunk[: min(size, len(chunk))]
        size -= min(size, len(chunk))


@pytest.mark.slow
def test_the_bytes_of_a_large_member(tmp_path: Path) -> None:
    """Real bytes, more than 4 GiB of them, written, and read to the end with the check sum."""
    member, crc = Member("large", 2**32 + 2**20), 0
    writer = ZipWriter()
    with (tmp_path / "large.zip").open("wb") as out:
        out.write(writer.begin(member))
        for chunk in zeros(member.size):
            writer.data(chunk)
            crc = zlib.crc32(chunk, crc)
            out.write(chunk)
        out.write(writer.end())
        out.writelines(writer.directory([member]))
    with zipfile.ZipFile(tmp_path / "large.zip") as read:
        assert read.testzip() is None
        assert crc == read.infolist()[0].CRC
