from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypha_common.errors import Conflict, HyphaError, InternalError, NotFound, Unavailable

from .checksums import is_md5, local_etag, part_size_for
from .hub import Cut, Hub, RemoteFile, etag_of
from .safe_folder import SafeFolder

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from .progress import Progress
    from .target import Target

__all__ = ["Download", "DownloadOptions"]

_FILES_AT_ONCE = 64
_PIECE_BYTES = 2**20
_RESUMED_BYTES = 4 * 2**20  # less is got anew sooner than it is asked for
_TAG = re.compile(r"[0-9A-Za-z-]{1,64}")


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    version: str | None = None
    stage: bool = False
    skip: bool = True  # files that are here already
    checksum: bool = True

    @property
    def of(self) -> dict[str, Any]:
        """Return what names the state of the artifact in requests."""
        return {"stage": True} if self.stage else {} if self.version is None else {"version": self.version}


class Download:
    """
    Gets files of an artifact into a folder: first as ``<name>.<etag>.part``, then under their name.

    ``done`` counts files and bytes that came, bytes among them that an earlier run had got (``resumed``), and files
    that were here; ``failures`` tells what did not come.

    """

    def __init__(
        self, hub: Hub, target: Target, folder: SafeFolder, options: DownloadOptions, progress: Progress
    ) -> None:
        self._hub = hub
        self._target = target
        self._folder = folder
        self._options = options
        self._progress = progress
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []

    async def get(self, files: Iterable[tuple[RemoteFile, str]]) -> None:
        """Get files, each with its path below the folder; one that fails keeps none of the others."""
        queue = iter(files)

        async def work() -> None:
            for remote, name in queue:
                await self._one(remote, name)

        async with asyncio.TaskGroup() as group:
            for _ in range(_FILES_AT_ONCE):
                group.create_task(work())

    async def _one(self, remote: RemoteFile, name: str) -> None:
        try:
            place = self._folder.place(name)
            if self._options.skip and await self._is_same(remote, place):
                self.done["here"] += 1
                self._progress.add(remote.size)
                return
            self.done["resumed"] += await _Transfer(self, remote, place).run()
            self.done["files"] += 1
            self.done["bytes"] += remote.size
        except Unavailable:  # so will be whatever comes next
            raise
        except (HyphaError, OSError) as error:
            self.failures.append(f"{remote.path}: {error}")

    async def _is_same(self, remote: RemoteFile, place: Path) -> bool:
        if not _has_size(place, remote.size):
            return False
        etag = await self._hub.etag(self._target, remote.path, **self._options.of)
        local = await asyncio.to_thread(local_etag, place, etag, part_bytes=part_size_for(remote.size))
        return local is None or local == etag


class _Transfer:
    """One file on its way."""

    def __init__(self, download: Download, remote: RemoteFile, place: Path) -> None:
        self._hub = download._hub
        self._progress = download._progress
        self._folder = download._folder
        self._options = download._options
        self._url = self._hub.file_url(download._target, remote.path, **_as_query(self._options.of))
        self._remote = remote
        self._place = place
        self._part, self._etag = self._begun()
        self._have = self._resumed = 0
        self._digest = hashlib.md5(usedforsecurity=False)

    async def run(self) -> int:
        """
        Get the whole file; returns how much of it was here already.

        Raises Unavailable, NotFound, or Conflict where what came is not what was kept.

        """
        if self._part is not None:
            await self._take_up(self._part)
        failed_at = -1
        while True:
            try:
                await self._hub.patiently(self._get)
                break
            except (Unavailable, InternalError):
                if self._have == failed_at:
                    raise
                failed_at = self._have  # it moved: that the connection breaks often is no reason to stop
        assert self._part is not None
        if self._options.checksum and is_md5(self._etag) and self._digest.hexdigest() != self._etag:
            self._part.unlink()
            raise Conflict("what came has another checksum than what was stored; try again, or with --no-checksum")
        self._part.replace(self._place)
        return self._resumed

    def _begun(self) -> tuple[Path | None, str | None]:
        """Return what an earlier run left, and the etag of the bytes it was getting."""
        if self._remote.size < _RESUMED_BYTES:
            return None, None
        before, after = f"{self._place.name}.", ".part"
        for entry in self._place.parent.iterdir():
            tag = entry.name.removeprefix(before).removesuffix(after)
            if entry.name == f"{before}{tag}{after}" and _TAG.fullmatch(tag) and not entry.is_symlink():
                return entry, tag
        return None, None

    async def _take_up(self, part: Path) -> None:
        self._have = await asyncio.to_thread(self._read, part)
        self._resumed = self._have
        self._progress.add(self._have)

    def _read(self, part: Path) -> int:
        size = 0
        with part.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                self._digest.update(piece)
                size += len(piece)
        return size

    async def _get(self) -> None:
        """Get what is missing; what was got of other bytes is dropped."""
        if self._have == self._remote.size and self._part is not None:
            return
        headers = {}
        if self._have and self._etag:
            headers = {"Range": f"bytes={self._have}-", "If-Range": f'"{self._etag}"'}
        async with self._hub.open("GET", self._url, headers=headers) as answer:
            self._expect(answer)
            assert self._part is not None
            with self._folder.open(self._part, append=self._have > 0) as file:
                async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                    file.write(piece)
                    self._digest.update(piece)
                    self._have += len(piece)
                    self._progress.add(len(piece))
        if self._have != self._remote.size:
            raise Cut(f"the connection ended after {self._have} of {self._remote.size} bytes")

    def _expect(self, answer: ClientResponse) -> None:
        """Take note of what an answer is going to bring. Raises NotFound where that is another file by now."""
        etag = etag_of(answer.headers)
        goes_on = answer.status == 206 and etag == self._etag
        if answer.status == 206 and not goes_on:
            self._drop()
            raise Cut("the file was changed meanwhile")
        if not goes_on:
            self._drop()
            self._etag = etag
            tag = etag if etag and _TAG.fullmatch(etag) else "new"
            self._part = self._place.with_name(f"{self._place.name}.{tag}.part")
        size = answer.content_length
        if size is not None and self._have + size != self._remote.size:
            raise NotFound(
                f"it has {self._have + size} bytes now, and not {self._remote.size}: it was changed meanwhile"
            )

    def _drop(self) -> None:
        """Begin anew."""
        if self._part is not None:
            self._part.unlink(missing_ok=True)
        self._progress.add(-self._have)
        self._part, self._etag, self._have, self._resumed = None, None, 0, 0
        self._digest = hashlib.md5(usedforsecurity=False)


def _has_size(place: Path, size: int) -> bool:
    return place.is_file() and place.stat().st_size == size


def _as_query(of: dict[str, Any]) -> dict[str, Any]:
    return {name: "true" if value is True else value for name, value in of.items()}
