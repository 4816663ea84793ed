from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, HyphaError, NotFound, PermissionDenied, Unavailable

from .checksums import local_etag, part_size_for
from .hub import Hub, RemoteFile, etag_of
from .local_files import LocalFile, read_pieces
from .progress import Progress
from .upload_state import UploadState

if TYPE_CHECKING:
    from .target import Target

__all__ = ["Upload", "UploadOptions"]

_LIFE_S = 2 * 86400  # of the addresses of parts: how long an upload may be interrupted
_FILES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class UploadOptions:
    create: bool = False
    type: str = "generic"
    parent: str | None = None
    version: str | None = None  # name of a new version
    comment: str | None = None
    commit: bool = False
    skip: bool = True  # files that are there already
    multipart_bytes: int = 64 * 2**20  # files of this size and more are sent in parts
    part_bytes: int = 32 * 2**20


class Upload:
    """
    Sends files to the draft of an artifact; what is there already is left alone.

    ``done`` counts files and bytes that were sent, bytes among them that an earlier run had sent (``resumed``), and
    files that were there; ``failures`` tells what was refused.

    """

    def __init__(self, hub: Hub, target: Target, options: UploadOptions, progress: Progress) -> None:
        self._hub = hub
        self._target = target
        self._options = options
        self._progress = progress
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []

    async def open_draft(self) -> None:
        """Stage the artifact, made where that is asked for. Raises NotFound."""
        identifier, options = self._target.artifact_id, self._options
        version = {"version": "new"} if options.version is not None else {}
        try:
            await self._hub.call("edit", artifact_id=identifier, stage=True, **version)
        except NotFound:
            if not options.create:
                raise NotFound(f"There is no artifact {identifier}; --create makes it") from None
            await self._create()

    async def _create(self) -> None:
        target, options = self._target, self._options
        await self._hub.enter(target.workspace)
        try:
            await self._hub.call(
                "create", alias=target.alias, workspace=target.workspace, parent_id=options.parent, type=options.type,
                manifest={"name": target.alias}, stage=True,
            )  # fmt: skip
        except BadRequest as error:
            if "FileExistsError" not in str(error):  # a first try that was cut off after it had worked
                raise

    async def send(self, files: Iterable[LocalFile], paths: dict[LocalFile, str]) -> None:
        """Send files, many at once; one that is refused keeps none of the others."""
        there = await self._there(list(paths.values())) if self._options.skip else {}
        queue = iter(files)

        async def work() -> None:
            for file in queue:
                await self._one(file, paths[file], there.get(paths[file]))

        async with asyncio.TaskGroup() as group:
            for _ in range(_FILES_AT_ONCE):
                group.create_task(work())

    async def commit(self) -> dict[str, Any]:
        options = self._options
        named = {} if options.version is None else {"version": options.version}
        artifact: dict[str, Any] = await self._hub.call(
            "commit", artifact_id=self._target.artifact_id, comment=options.comment, **named
        )
        return artifact

    async def _there(self, wanted: list[str]) -> dict[str, RemoteFile]:
        """Return the files of the draft that have a name of ours."""
        found: dict[str, RemoteFile] = {}
        wanted_set = set(wanted)
        single = wanted[0].rpartition("/")[0] if len(wanted) == 1 else None
        folder = self._target.path if single is None else single
        try:
            async for remote in self._hub.files(self._target, folder, recursive=single is None, stage=True):
                if remote.path in wanted_set:
                    found[remote.path] = remote
        except PermissionDenied:  # some may write and not read: everything is sent
            return {}
        return found

    async def _one(self, file: LocalFile, path: str, remote: RemoteFile | None) -> None:
        try:
            if remote is not None and await self._is_same(file, remote):
                self.done["there"] += 1
                self._progress.add(file.size)
                return
            if file.size >= self._options.multipart_bytes:
                await self._in_parts(file, path)
            else:
                await self._whole(file, path)
            self.done["files"] += 1
            self.done["bytes"] += file.size
        except Unavailable:  # so will be whatever comes next
            raise
        except (HyphaError, OSError) as error:
            self.failures.append(f"{path}: {error}")

    async def _is_same(self, file: LocalFile, remote: RemoteFile) -> bool:
        if remote.size != file.size:
            return False
        try:
            etag = await self._hub.etag(self._target, remote.path, stage="true")
        except NotFound:
            return False
        part_bytes = part_size_for(file.size, self._options.part_bytes)
        local = await asyncio.to_thread(local_etag, file.path, etag, part_bytes=part_bytes)
        return local is None or local == etag

    async def _whole(self, file: LocalFile, path: str) -> None:
        url = self._hub.file_url(self._target, path)
        await self._hub.patiently(lambda: self._put(url, file, 0, file.size))

    async def _put(self, url: str, file: LocalFile, first: int, size: int) -> str:
        """Send a range of a file; returns the etag."""
        sent = 0

        async def body() -> Any:
            nonlocal sent
            async for piece in read_pieces(file.path, first, size):
                yield piece
                sent += len(piece)
                self._progress.add(len(piece))

        headers = {"Content-Length": str(size)}
        try:
            async with self._hub.open("PUT", url, data=body() if size else b"", headers=headers) as answer:
                await answer.read()
                return etag_of(answer.headers) or ""
        except HyphaError:
            self._progress.add(-sent)
            raise

    async def _in_parts(self, file: LocalFile, path: str) -> None:
        """Send a large file, going on where an earlier run was interrupted."""
        state = UploadState.of(self._hub.server_url, self._target.artifact_id, path, file)
        if state.begun is not None:
            known = sum(self._part_size(state, file, number) for number in state.done)
            try:
                self._progress.add(known)
                await self._finish(state, file)
                self.done["resumed"] += known
                return
            except (BadRequest, NotFound, PermissionDenied):  # the server has forgotten it, or it was for another draft
                self._progress.add(-known)
        await self._begin(state, file, path)
        await self._finish(state, file)

    async def _begin(self, state: UploadState, file: LocalFile, path: str) -> None:
        part_bytes = part_size_for(file.size, self._options.part_bytes)
        url = self._hub.upload_url(
            self._target, "create", path=path, part_count=-(-file.size // part_bytes), expires_in=_LIFE_S
        )
        begun = await self._hub.post(url)
        urls = {part["part_number"]: part["url"] for part in begun["parts"]}
        state.begin(begun["upload_id"], urls, part_bytes=part_bytes, life_s=_LIFE_S)

    async def _finish(self, state: UploadState, file: LocalFile) -> None:
        """Send the parts that are missing and have all joined."""
        assert state.begun is not None
        begun = state.begun
        missing = iter([number for number in sorted(begun.urls) if number not in state.done])

        async def work() -> None:
            for number in missing:
                first = (number - 1) * begun.part_bytes
                size = self._part_size(state, file, number)
                url = begun.urls[number]
                etag = await self._hub.patiently(lambda: self._put(url, file, first, size))  # noqa: B023
                state.add(number, etag)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(8, len(begun.urls))):
                    group.create_task(work())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        parts = [{"part_number": number, "etag": etag} for number, etag in sorted(state.done.items())]
        url = self._hub.upload_url(self._target, "complete")
        await self._hub.post(url, {"upload_id": begun.upload_id, "parts": parts})
        state.forget()

    @staticmethod
    def _part_size(state: UploadState, file: LocalFile, number: int) -> int:
        assert state.begun is not None
        return min(state.begun.part_bytes, file.size - (number - 1) * state.begun.part_bytes)
