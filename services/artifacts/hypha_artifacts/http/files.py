from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_artifacts.addresses import as_switch
from hypha_artifacts.blobs import StoredBlob, check_path
from hypha_artifacts.files.arguments import as_count, as_weight
from hypha_artifacts.files.draft_rows import NotStaged, StagedFile
from hypha_artifacts.files.media_type import media_type
from hypha_artifacts.files.reader import weight_of
from hypha_artifacts.files.view import view_of
from hypha_artifacts.manager.files import MAX_LISTED
from hypha_common.errors import BadRequest, NotFound, PayloadTooLarge
from hypha_common.plans import HttpCall, Plan, Reply, Store, Stored
from hypha_common.wire import pack

from .file_answers import begins_with_first_byte, json_reply, send_file
from .file_visitor import artifact_for

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.files.file_rows import FileRow
    from hypha_artifacts.files.reader import FileReader
    from hypha_artifacts.files.writer import FileWriter
    from hypha_artifacts.record import Artifact

    from .routes import Handler, Receiver

__all__ = ["FileRoutes"]

_RECEIPT = "artifact_file"
_UPLOADED = {"success": True, "message": "File uploaded successfully"}


class FileRoutes:
    """Files of artifacts by their paths: GET, HEAD and PUT (contract 02 §3.2)."""

    def __init__(self, core: Core, reader: FileReader, writer: FileWriter) -> None:
        self._core = core
        self._reader = reader
        self._writer = writer

    def handlers(self) -> dict[str, Handler]:
        return {"artifact_files": self.serve}

    def receivers(self) -> dict[str, Receiver]:
        return {_RECEIPT: self.stored}

    async def serve(self, call: HttpCall) -> Plan:
        path = call.params.get("path", "")
        if call.method == "PUT":
            return await self._put(call, check_path(path))
        if not path or path.endswith("/"):
            return await self._list(call, check_path(path, folder=True))
        return await self._get(call, check_path(path))

    async def _get(self, call: HttpCall, path: str) -> Plan:
        artifact = await artifact_for(call, self._core.access, "get_file", path)
        view = view_of(artifact, call.first("version") or None, as_switch("stage", call.first("stage")))
        (file,) = await self._reader.find(artifact, view, [path], exact=True)
        use_proxy = call.first("use_proxy") or None
        if call.method == "GET" and self._core.addresses.is_direct(use_proxy):
            plan: Plan = self._redirect(call, file)
        else:
            download = bool(as_switch("download", call.first("download")))
            plan = send_file(self._core.store, file, call, download=download)
        silent = as_switch("silent", call.first("silent"))
        if call.method == "GET" and not silent and begins_with_first_byte(plan):
            self._core.counters.downloaded(artifact.id, weight_of(artifact, [path]))
        return plan

    def _redirect(self, call: HttpCall, file: FileRow) -> Reply:
        address = self._core.addresses.sign(
            "GET",
            file.key,
            use_proxy=False,
            expires_in=call.first("expires_in", "3600"),
            use_local_url=call.first("use_local_url"),
            query=[("response-content-type", file.content_type)] if file.content_type else [],
        )
        return Reply(307, [("location", address), ("cache-control", "no-store")])

    async def _list(self, call: HttpCall, folder: str) -> Plan:
        artifact = await artifact_for(call, self._core.access, "list_files", None)
        view = view_of(artifact, call.first("version") or None, as_switch("stage", call.first("stage")))
        limit = as_count("limit", call.first("limit", "1000"), most=MAX_LISTED)
        offset = as_count("offset", call.first("offset", "0"), most=2**31)
        items = await self._reader.list(artifact, view, folder, limit=limit, offset=offset)
        if not items and not offset and limit:
            raise NotFound("File or directory not found")
        return json_reply(items, headers=[("cache-control", "private, no-cache")])

    async def _put(self, call: HttpCall, path: str) -> Plan:
        artifact = await artifact_for(call, self._core.access, "put_file", path)
        weight = as_weight(call.first("download_weight", "0"))
        limit = self._core.settings.max_file_bytes
        length = call.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise PayloadTooLarge(f"A file may have {limit} bytes at most, not {length}")
        blob = await self._begin(artifact, path)
        kind = media_type(call.headers.get("content-type"), path)
        receipt = [_RECEIPT, artifact.id.bytes, blob.id.bytes, blob.key, path, weight, kind]
        return Store(
            self._core.store.address("PUT", blob.key), pack(receipt), send=[("content-type", kind)], max_bytes=limit
        )

    async def stored(self, receipt: list[Any], stored: Stored) -> Reply:
        """Stage a file whose body is in the store."""
        artifact, blob, key, path, weight, kind = receipt
        written = StoredBlob(key, stored.size, stored.etag, time.time(), kind)
        try:
            await self._writer.finish(UUID(bytes=artifact), StagedFile(path, UUID(bytes=blob), weight), written)
        except NotStaged:
            raise _not_staged() from None
        return json_reply(_UPLOADED, headers=[("etag", f'"{stored.etag}"')])

    async def _begin(self, artifact: Artifact, path: str) -> Any:
        try:
            return await self._writer.begin(artifact, path)
        except NotStaged:
            raise _not_staged() from None


def _not_staged() -> BadRequest:
    return BadRequest("Artifact must be in staging mode to upload files")
