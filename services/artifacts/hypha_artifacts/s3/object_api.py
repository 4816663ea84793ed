from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hypha_artifacts.files.media_type import media_type
from hypha_common.plans import Reply, Store, Stored
from hypha_common.wire import pack

from .errors import S3Error
from .listing import written_time
from .replies import check_conditions, fetch_object, object_headers
from .request import check_key
from .xml import document, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypha_artifacts.core import Core
    from hypha_artifacts.http.routes import Receiver
    from hypha_artifacts.workspace_files.objects import WorkspaceObject, WorkspaceObjects
    from hypha_common.plans import Plan

    from .request import S3Request
    from .xml import Nodes

__all__ = ["ObjectApi", "copy_source"]

_XML = [("content-type", "application/xml")]
_EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_MAX_DELETED_AT_ONCE = 1000
_STORED = "s3:object"


class ObjectApi:
    """Single objects: get, head, put, copy, delete; and delete of several."""

    def __init__(self, core: Core, objects: WorkspaceObjects) -> None:
        self._core = core
        self._objects = objects

    def receivers(self) -> Mapping[str, Receiver]:
        return {_STORED: self._stored}

    async def answer(self, request: S3Request, prefix: str) -> Plan:
        """Return the plan for a request about a key below ``prefix``. Raises S3Error."""
        match request.method:
            case "GET" | "HEAD":
                return await self._get(request)
            case "PUT" if "x-amz-copy-source" in request.headers:
                return await self._copy(request, prefix)
            case "PUT":
                return await self._put(request)
            case "DELETE":
                if not request.key.endswith("/"):
                    await self._objects.delete([request.key])
                return Reply(204)
        raise S3Error("MethodNotAllowed", "There is no such method for objects")

    async def delete_several(self, request: S3Request, prefix: str) -> Reply:
        """Answer DeleteObjects: what is not this workspace's is told one by one."""
        try:
            wanted = parse(request.body, "Delete")
        except ValueError as error:
            raise S3Error("MalformedXML", str(error)) from None
        keys = [entry.findtext("Key") or "" for entry in wanted.iter("Object")]
        if not 1 <= len(keys) <= _MAX_DELETED_AT_ONCE:
            raise S3Error("MalformedXML", f"Between 1 and {_MAX_DELETED_AT_ONCE} keys are deleted at once")
        mine = [key for key in keys if key.startswith(prefix) and key != prefix]
        await self._objects.delete([check_key(key) for key in mine if not key.endswith("/")])
        told: list[tuple[str, str | Nodes]] = []
        if (wanted.findtext("Quiet") or "").lower() != "true":
            told += [("Deleted", [("Key", key)]) for key in mine]
        told += [
            ("Error", [("Key", key), ("Code", "AccessDenied"), ("Message", "Access Denied")])
            for key in keys
            if key not in set(mine)
        ]
        return Reply(200, _XML, document("DeleteResult", told))

    async def _get(self, request: S3Request) -> Plan:
        if request.key.endswith("/"):
            return await self._folder(request)
        found = await self._found(request.key)
        return fetch_object(self._core.store, request, found)

    async def _folder(self, request: S3Request) -> Reply:
        """Folders are there as far as there is something in them; some clients look for an object that marks one."""
        if not await self._objects.is_folder(request.key):
            raise S3Error("NoSuchKey", "There is nothing below this key")
        headers = [("content-type", "application/x-directory"), ("content-length", "0"), *object_headers(_EMPTY_MD5)]
        return Reply(200, headers)

    async def _put(self, request: S3Request) -> Plan:
        key = request.key
        if key.endswith("/"):
            length = request.headers.get("x-amz-decoded-content-length") or request.headers.get("content-length", "0")
            if length != "0":
                raise S3Error("InvalidArgument", "A key that ends with a slash is a folder: it has no content")
            return Reply(200, object_headers(_EMPTY_MD5))  # it will be there with the first file in it
        metadata = request.metadata()
        if "if-none-match" in request.headers or "if-match" in request.headers:
            await self._check_overwriting(request)
        await self._objects.check_free(key)
        content_type = media_type(request.headers.get("content-type"), key)
        return Store(
            self._core.store.address("PUT", key),
            pack([_STORED, key, content_type, metadata]),
            [("content-type", content_type)],
            self._core.settings.max_file_bytes,
            chunked=request.is_chunked,
        )

    async def _check_overwriting(self, request: S3Request) -> None:
        """Raise S3Error where the client does not want to overwrite what there is, or wants to and there is nothing."""
        found = await self._objects.find(request.key)
        if found is None:
            if "if-match" in request.headers:
                raise S3Error("NoSuchKey", "There is no such object to be overwritten")
        elif check_conditions(request, found) is not None:
            raise S3Error("PreconditionFailed", "There is such an object already (if-none-match)")

    async def _stored(self, receipt: list[Any], stored: Stored) -> Reply:
        key, content_type, metadata = receipt
        await self._objects.written(key, stored.etag, content_type, metadata, stays=True)
        return Reply(200, object_headers(stored.etag))

    async def _copy(self, request: S3Request, prefix: str) -> Reply:
        if any(name.startswith("x-amz-copy-source-if-") for name in request.headers):
            raise S3Error("NotImplemented", "Copies have no conditions here")
        source = await self._found(copy_source(request, self._core.store.bucket, prefix))
        if request.key.endswith("/"):
            raise S3Error("InvalidArgument", "A key that ends with a slash is a folder")
        content_type, metadata = source.content_type, dict(source.metadata)
        if request.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE":
            content_type = media_type(request.headers.get("content-type"), request.key)
            metadata = request.metadata()
        elif source.key == request.key:
            raise S3Error("InvalidRequest", "This copies an object onto itself without changing anything")
        copied = await self._objects.copy(source, request.key, content_type, metadata)
        if copied is None:
            raise S3Error("NoSuchKey", "The object has gone while it was copied")
        result = [("ETag", f'"{copied.etag}"'), ("LastModified", written_time(copied.modified_at))]
        return Reply(200, _XML, document("CopyObjectResult", result))

    async def _found(self, key: str) -> WorkspaceObject:
        found = await self._objects.find(key)
        if found is None:
            raise S3Error("NoSuchKey", "The specified key does not exist.")
        return found


def copy_source(request: S3Request, bucket: str, prefix: str) -> str:
    """Return the key that a copy is made of. Raises S3Error where it is not below ``prefix``."""
    text, _, version = request.headers["x-amz-copy-source"].partition("?")
    try:
        found, _, key = unquote(text, errors="strict").removeprefix("/").partition("/")
    except UnicodeDecodeError:
        raise S3Error("InvalidArgument", "x-amz-copy-source is not UTF-8") from None
    if version:
        raise S3Error("NotImplemented", "Objects have no versions here")
    if found != bucket or not key.startswith(prefix):
        raise S3Error("AccessDenied", f"These credentials are for keys that begin with {prefix}")
    return check_key(key)
