from __future__ import annotations

import itertools
import re
import time
from typing import TYPE_CHECKING, Any

from hypha_artifacts.files.media_type import media_type
from hypha_common.errors import BadRequest, NotFound
from hypha_common.plans import Reply, Store, Stored
from hypha_common.wire import pack

from .errors import S3Error
from .listing import max_keys, written_time
from .object_api import copy_source
from .replies import object_headers
from .xml import document, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypha_artifacts.core import Core
    from hypha_artifacts.http.routes import Receiver
    from hypha_artifacts.workspace_files.objects import WorkspaceObjects
    from hypha_artifacts.workspace_files.uploads import Upload, Uploads
    from hypha_common.plans import Plan

    from .request import S3Request
    from .xml import Nodes

__all__ = ["MultipartApi"]

_XML = [("content-type", "application/xml")]
_LIFE_S = 7 * 86400
_MAX_PARTS = 10_000
_STORED = "s3:workspace-part"
_RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{1,15})")
_MAX_COPIED_BYTES = 256 * 2**20  # while the client waits for an answer


class MultipartApi:
    """Multipart uploads: create, part, complete, abort, list parts, list uploads."""

    def __init__(self, core: Core, objects: WorkspaceObjects, uploads: Uploads) -> None:
        self._core = core
        self._objects = objects
        self._uploads = uploads

    def receivers(self) -> Mapping[str, Receiver]:
        return {_STORED: self._part_stored}

    async def answer(self, request: S3Request, prefix: str) -> Plan:
        """Return the plan for a request about a key below ``prefix``. Raises S3Error."""
        if request.method == "POST" and "uploads" in request.query:
            return await self._create(request)
        upload = await self._find(request, prefix.removesuffix("/"))
        match request.method:
            case "PUT":
                return await self._part(request, upload, prefix)
            case "POST":
                return await self._complete(request, upload)
            case "GET":
                return await self._list_parts(request, upload)
            case "DELETE":
                await self._uploads.abort(upload)
                return Reply(204)
        raise S3Error("MethodNotAllowed", "There is no such method for multipart uploads")

    async def list_uploads(self, request: S3Request) -> Reply:
        """Answer ListMultipartUploads: the first thousand."""
        found = await self._uploads.below(request.query.get("prefix", ""))
        listed: list[tuple[str, str | Nodes]] = [
            (
                "Upload",
                [("Key", upload.key), ("UploadId", upload.id), ("Initiated", written_time(upload.created_at))],
            )
            for upload in found
        ]
        head = [("Bucket", self._core.store.bucket), ("Prefix", request.query.get("prefix", ""))]
        return Reply(200, _XML, document("ListMultipartUploadsResult", [*head, ("IsTruncated", "false"), *listed]))

    async def _create(self, request: S3Request) -> Reply:
        if request.key.endswith("/"):
            raise S3Error("InvalidArgument", "A key that ends with a slash is a folder")
        content_type = media_type(request.headers.get("content-type"), request.key)
        upload = await self._uploads.begin(
            request.key, content_type=content_type, life_s=_LIFE_S, metadata=request.metadata()
        )
        result = [("Bucket", self._core.store.bucket), ("Key", upload.key), ("UploadId", upload.id)]
        return Reply(200, _XML, document("InitiateMultipartUploadResult", result))

    async def _part(self, request: S3Request, upload: Upload, prefix: str) -> Plan:
        number = request.query.get("partNumber", "")
        if not (number.isascii() and number.isdigit() and len(number) < 6 and 1 <= int(number) <= _MAX_PARTS):
            raise S3Error("InvalidArgument", f"partNumber must be between 1 and {_MAX_PARTS}")
        if "x-amz-copy-source" in request.headers:
            return await self._copy_part(request, upload, int(number), prefix)
        query = [("partNumber", number), ("uploadId", upload.store_id)]
        return Store(
            self._core.store.address("PUT", upload.key, query=query),
            pack([_STORED]),
            max_bytes=self._core.settings.max_file_bytes,
            chunked=request.is_chunked,
        )

    async def _copy_part(self, request: S3Request, upload: Upload, number: int, prefix: str) -> Reply:
        source = await self._objects.find(copy_source(request, self._core.store.bucket, prefix))
        if source is None:
            raise S3Error("NoSuchKey", "The specified key does not exist.")
        first, last = 0, source.size - 1
        if text := request.headers.get("x-amz-copy-source-range", ""):
            wanted = _RANGE.fullmatch(text)
            if wanted is None or not int(wanted[1]) <= int(wanted[2]) < source.size:
                raise S3Error("InvalidArgument", "x-amz-copy-source-range must be bytes=first-last, within the object")
            first, last = int(wanted[1]), int(wanted[2])
        if last - first >= _MAX_COPIED_BYTES:
            raise S3Error("EntityTooLarge", f"A part that is copied has {_MAX_COPIED_BYTES} bytes at most")
        etag = await self._core.store.copy_part(
            source.key, upload.key, upload.store_id, number, first=first, size=last - first + 1
        )
        result = [("ETag", f'"{etag}"'), ("LastModified", written_time(time.time()))]
        return Reply(200, _XML, document("CopyPartResult", result))

    async def _part_stored(self, receipt: list[Any], stored: Stored) -> Reply:
        return Reply(200, object_headers(stored.etag))

    async def _complete(self, request: S3Request, upload: Upload) -> Reply:
        parts = _parts_in(request.body)
        try:
            found = await self._uploads.complete(upload, parts)
        except NotFound:
            raise S3Error("NoSuchUpload", "The store does not know this upload any more") from None
        except BadRequest as error:
            raise S3Error("InvalidPart", f"The parts cannot be joined: {error}") from None
        location = f"{self._core.settings.public_base_url}/s3/{self._core.store.bucket}/{upload.key}"
        result = [("Location", location), ("Bucket", self._core.store.bucket), ("Key", upload.key)]
        result += [("ETag", f'"{found.etag}"')] if found is not None else []
        return Reply(200, _XML, document("CompleteMultipartUploadResult", result))

    async def _list_parts(self, request: S3Request, upload: Upload) -> Reply:
        limit = max(max_keys(request.query.get("max-parts", "")), 1)
        after = request.query.get("part-number-marker", "") or "0"
        if not (after.isascii() and after.isdigit() and len(after) < 6):
            raise S3Error("InvalidArgument", "part-number-marker must be a number")
        try:
            parts = await self._core.store.parts(upload.key, upload.store_id, after=int(after), limit=limit)
        except NotFound:
            raise S3Error("NoSuchUpload", "The store does not know this upload any more") from None
        listed: list[tuple[str, str | Nodes]] = [
            (
                "Part",
                [
                    ("PartNumber", str(part.number)),
                    ("LastModified", written_time(part.modified_at)),
                    ("ETag", f'"{part.etag}"'),
                    ("Size", str(part.size)),
                ],
            )
            for part in parts
        ]
        head = [("Bucket", self._core.store.bucket), ("Key", upload.key), ("UploadId", upload.id)]
        head += [("MaxParts", str(limit)), ("PartNumberMarker", after)]
        head += [("NextPartNumberMarker", str(parts[-1].number))] if parts else []
        head += [("IsTruncated", "true" if len(parts) == limit else "false")]
        return Reply(200, _XML, document("ListPartsResult", [*head, *listed]))

    async def _find(self, request: S3Request, workspace: str) -> Upload:
        try:
            return await self._uploads.find(workspace, request.query.get("uploadId"), request.key)
        except NotFound as error:
            raise S3Error("NoSuchUpload", str(error)) from None


def _parts_in(body: bytes) -> list[tuple[int, str]]:
    """Read the parts that CompleteMultipartUpload names. Raises S3Error."""
    try:
        wanted = parse(body, "CompleteMultipartUpload")
        parts = [
            (int(part.findtext("PartNumber") or ""), (part.findtext("ETag") or "").strip('"'))
            for part in wanted.iter("Part")
        ]
    except ValueError as error:
        raise S3Error("MalformedXML", f"The parts cannot be read: {error}") from None
    if not 1 <= len(parts) <= _MAX_PARTS:
        raise S3Error("MalformedXML", f"An upload has between 1 and {_MAX_PARTS} parts")
    if any(former[0] >= latter[0] for former, latter in itertools.pairwise(parts)):
        raise S3Error("InvalidPartOrder", "The parts are not in order of their numbers")
    return parts
