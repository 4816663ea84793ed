from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_artifacts.blobs.layout import ARTIFACTS_PREFIX
from hypha_artifacts.files.media_type import media_type
from hypha_artifacts.reference import partition_in
from hypha_artifacts.workspace_files.repository import workspace_of
from hypha_common.errors import NotFound
from hypha_common.plans import Fetch, Reply, Store, Stored
from hypha_common.wire import pack

from .errors import S3Error
from .replies import fetch_headers, fetch_object, object_headers, overrides
from .request import check_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypha_artifacts.core import Core
    from hypha_artifacts.files import BlobRows
    from hypha_artifacts.http.routes import Receiver
    from hypha_artifacts.workspace_files.objects import WorkspaceObjects
    from hypha_common.plans import Plan

    from .request import S3Request

__all__ = ["OwnAddresses"]

_PART = ("partNumber", "uploadId")
_CONTENT_TYPE = "SELECT content_type FROM blobs WHERE key = $1"


class OwnAddresses:
    """
    What addresses do that this cluster signed for its own ``/s3``: one thing to one key.

    That it may be done was decided when the address was given out; whether it still can be is decided here.

    """

    def __init__(self, core: Core, objects: WorkspaceObjects, blobs: BlobRows) -> None:
        self._core = core
        self._store = core.store
        self._objects = objects
        self._blobs = blobs

    def receivers(self) -> Mapping[str, Receiver]:
        return {
            "s3:blob": self._blob_stored,
            "s3:own": self._object_stored,
            "s3:part": self._part_stored,
        }

    async def answer(self, request: S3Request) -> Plan:
        """Return the plan for a request whose signature was found to be ours. Raises S3Error."""
        if request.bucket != self._store.bucket:
            raise S3Error("NoSuchBucket", "There is no such bucket here")
        key = check_key(request.key)
        if key.endswith("/"):
            raise S3Error("InvalidArgument", "The key of a file does not end with a slash")
        if request.method in ("GET", "HEAD"):
            return await self._read(request, key)
        if request.method != "PUT":
            raise S3Error("MethodNotAllowed", "Addresses of files are for GET and PUT")
        if all(name in request.query for name in _PART):
            query = [(name, request.query[name]) for name in _PART]
            return self._write(request, key, ["s3:part"], query=query)
        content_type = request.headers.get("content-type", "")
        if key.startswith(ARTIFACTS_PREFIX):
            await self._blobs.writable(key)
            return self._write(request, key, ["s3:blob", key, content_type], content_type or None)
        await self._check_workspace(workspace_of(key))
        await self._objects.check_free(key)
        content_type = media_type(content_type, key)
        return self._write(request, key, ["s3:own", key, content_type], content_type)

    async def _read(self, request: S3Request, key: str) -> Plan:
        if not key.startswith(ARTIFACTS_PREFIX):
            found = await self._objects.find(key)
            if found is None:
                raise S3Error("NoSuchKey", "There is no such file")
            return fetch_object(self._store, request, found)
        content_type = await self._content_type(key)
        headers = [("content-type", content_type)] if content_type else []
        return Fetch(
            self._store.address(request.method, key), fetch_headers(request), overrides(request, headers),
            "There is no such file",
        )  # fmt: skip

    async def _check_workspace(self, workspace: str) -> None:
        """Raise S3Error where a workspace is gone: nothing should wait for the next of that name."""
        try:
            await self._core.workspaces.find(workspace)
        except NotFound:
            raise S3Error("AccessDenied", f"There is no workspace {workspace} any more") from None

    async def _content_type(self, key: str) -> str:
        """Return what was said when a file of an artifact was written, else what its name says."""
        try:
            shard = self._core.database.for_partition(partition_in(UUID(key.split("/", 4)[3])))
        except (IndexError, ValueError):
            raise S3Error("NoSuchKey", "There is no such file") from None
        return await shard.fetchval(_CONTENT_TYPE, key) or media_type("", key)

    def _write(
        self,
        request: S3Request,
        key: str,
        receipt: list[Any],
        content_type: str | None = None,
        query: list[tuple[str, str]] | None = None,
    ) -> Store:
        return Store(
            self._store.address("PUT", key, query=query or ()),
            pack(receipt),
            [("content-type", content_type)] if content_type else [],
            self._core.settings.max_file_bytes,
            chunked=request.is_chunked,
        )

    async def _blob_stored(self, receipt: list[Any], stored: Stored) -> Reply:
        key, content_type = receipt
        await self._blobs.stored(key, stored.size, stored.etag, content_type or None)
        return _received(stored)

    async def _object_stored(self, receipt: list[Any], stored: Stored) -> Reply:
        key, content_type = receipt
        await self._objects.written(key, stored.etag, content_type, {})
        return _received(stored)

    async def _part_stored(self, receipt: list[Any], stored: Stored) -> Reply:
        return _received(stored)


def _received(stored: Stored) -> Reply:
    return Reply(200, object_headers(stored.etag))
