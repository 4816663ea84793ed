from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, HyphaError, NotFound, Unavailable

from .client import s3_client, translated
from .cors import allow_browsers
from .sigv4 import Credentials, presign
from .stored import Page, Part, StoredBlob

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from hypha_common.settings import Settings

__all__ = ["BlobStore"]

_MAX_DELETED_AT_ONCE = 1000  # of DeleteObjects
_MAX_STREAMS = 100
_READ_BUFFER_BYTES = 128 * 1024
_PATIENCE_S = 300  # without a word, while the store copies: 5 GiB at 17 MB/s
_INTERNAL_EXPIRES_S = 3600  # of addresses that only our processes see


class BlobStore:
    """
    The S3 store of the cluster: one client for the life of the process (contract 02 §9.2).

    Raises Unavailable where the store is away or answers with a failure of its own.

    """

    def __init__(self, settings: Settings) -> None:
        self.bucket = settings.workspace_bucket
        self.endpoint = settings.endpoint_url.rstrip("/")
        self.public_endpoint = (settings.endpoint_url_public or settings.endpoint_url).rstrip("/")
        self.credentials = Credentials(settings.access_key_id, settings.secret_access_key, settings.region_name)
        self._client: Any = None
        self._patient: Any = None  # for what takes the store as long as the object is large; made when it is needed
        self._making_patient = asyncio.Lock()
        self._session: ClientSession | None = None
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Make the client, and the bucket where it is missing. Raises Unavailable."""
        if self._client is None:
            self._client = await self._stack.enter_async_context(s3_client(self.endpoint, self.credentials))
        await self._ensure_bucket()

    async def allow_browsers(self) -> None:
        """Let pages of any origin use addresses that lead to the store itself, where that can be had."""
        await allow_browsers(self._client, self.bucket)

    async def close(self) -> None:
        await self._stack.aclose()
        self._client = self._patient = self._session = None

    async def ping(self) -> None:
        """Raise Unavailable unless the store answers."""
        with translated():
            await self._client.head_bucket(Bucket=self.bucket)

    async def head(self, key: str) -> StoredBlob | None:
        """Return what there is at a key, or None."""
        try:
            with translated():
                found = await self._client.head_object(Bucket=self.bucket, Key=key)
        except NotFound:
            return None
        return StoredBlob(
            key,
            found["ContentLength"],
            found.get("ETag", "").strip('"'),
            found["LastModified"].timestamp(),
            found.get("ContentType"),
        )

    async def read(self, key: str, *, first: int = 0, size: int | None = None) -> bytes:
        """Return a piece of an object, the whole by default. Raises NotFound."""
        if size == 0:
            return b""
        last = "" if size is None else str(first + size - 1)
        ranged = {"Range": f"bytes={first}-{last}"} if first or size is not None else {}
        with translated():
            answer = await self._client.get_object(Bucket=self.bucket, Key=key, **ranged)
            async with answer["Body"] as body:
                data: bytes = await body.read()
        return data

    async def stream(self, key: str, *, first: int = 0, size: int) -> AsyncGenerator[bytes, None]:
        """
        Yield a piece of an object as it arrives; a reader that is slow slows the store down.

        Raises NotFound, and Unavailable where the piece is not there to its end.

        """
        from yarl import URL

        if size == 0:
            return
        left = size
        # Not by the S3 client: it takes several times as long to make a request, and archives are of many small files.
        with translated(streams=True):
            async with self._plain_http().get(
                URL(self.address("GET", key), encoded=True), headers={"Range": f"bytes={first}-{first + size - 1}"}
            ) as answer:
                _check_piece(answer.status, is_piece=not first or "Content-Range" in answer.headers)
                async for chunk in answer.content.iter_any():
                    left -= len(chunk)
                    if left < 0:
                        break
                    yield chunk
        if left:
            raise Unavailable(f"The store sent {size - left} bytes in place of {size}")

    async def write(self, key: str, data: bytes, *, content_type: str) -> StoredBlob:
        """Store a small object."""
        with translated():
            answer = await self._client.put_object(
                Bucket=self.bucket, Key=key, Body=data, ContentType=content_type, ContentLength=len(data)
            )
        return StoredBlob(key, len(data), answer["ETag"].strip('"'), time.time(), content_type)

    async def copy(self, source: str, target: str) -> None:
        """Copy an object inside the store. Raises NotFound."""
        client = await self._patiently()
        try:
            with translated():
                await client.copy_object(
                    Bucket=self.bucket, Key=target, CopySource={"Bucket": self.bucket, "Key": source}
                )
        except BadRequest as error:
            # The source is named in a header, which some stores want short; encoded, a name may be three times as long.
            if "TooLarge" not in str(error):
                raise
            await self._copy_bytes(source, target)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; what is not there is no error. Raises Unavailable where one could not be deleted."""
        for start in range(0, len(keys), _MAX_DELETED_AT_ONCE):
            objects = [{"Key": key} for key in keys[start : start + _MAX_DELETED_AT_ONCE]]
            with translated():
                answer = await self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True}
                )
            if failed := [error for error in answer.get("Errors", ()) if error.get("Code") != "NoSuchKey"]:
                raise Unavailable(f"The store did not delete {len(failed)} objects: {failed[0].get('Message')}")

    async def list(self, prefix: str, *, after: str = "", page: int = 1000) -> AsyncIterator[StoredBlob]:
        """Yield the objects below a prefix, sorted by key."""
        while True:
            with translated():
                answer = await self._client.list_objects_v2(
                    Bucket=self.bucket, Prefix=prefix, StartAfter=after, MaxKeys=page
                )
            found = answer.get("Contents", ())
            for entry in found:
                yield _listed(entry)
            if not answer.get("IsTruncated") or not found:
                return
            after = found[-1]["Key"]

    async def page(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        after: str = "",
        token: str = "",
        marker: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """
        List some of the objects below a prefix, and what their keys have in common up to the next delimiter.

        A listing goes on at the ``token`` that the page before gave, or at its ``marker`` where one is given, if only
        an empty one: as version 1 of the S3 API does.

        """
        wanted: dict[str, Any] = {"Bucket": self.bucket, "Prefix": prefix, "MaxKeys": limit}
        wanted |= {"Delimiter": delimiter} if delimiter else {}
        with translated():
            if marker is None:
                wanted |= {"StartAfter": after} if after else {}
                wanted |= {"ContinuationToken": token} if token else {}
                answer = await self._client.list_objects_v2(**wanted)
            else:
                answer = await self._client.list_objects(**wanted, Marker=marker)
        objects = [_listed(entry) for entry in answer.get("Contents", ())]
        folders = [entry["Prefix"] for entry in answer.get("CommonPrefixes", ())]
        following = ""
        if answer.get("IsTruncated"):
            following = answer.get("NextContinuationToken") or answer.get("NextMarker") or max(
                [*folders, *(found.key for found in objects)], default=""
            )  # fmt: skip
        return Page(objects, folders, following)

    async def begin_upload(self, key: str, *, content_type: str) -> str:
        """Begin a multipart upload and return the store's id of it."""
        with translated():
            answer = await self._client.create_multipart_upload(Bucket=self.bucket, Key=key, ContentType=content_type)
        upload_id: str = answer["UploadId"]
        return upload_id

    async def complete_upload(self, key: str, upload_id: str, parts: Iterable[tuple[int, str]]) -> str:
        """Join parts, (number, etag) each, and return the object's etag. Raises BadRequest where they do not fit."""
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
        client = await self._patiently()
        with translated():
            answer = await client.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}
            )
        return str(answer.get("ETag", "")).strip('"')

    async def parts(self, key: str, upload_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Part]:
        """Return parts of an upload that have arrived, those with numbers above ``after``. Raises NotFound."""
        with translated():
            answer = await self._client.list_parts(
                Bucket=self.bucket, Key=key, UploadId=upload_id, PartNumberMarker=after, MaxParts=limit
            )
        return [
            Part(part["PartNumber"], part["Size"], part["ETag"].strip('"'), part["LastModified"].timestamp())
            for part in answer.get("Parts", ())
        ]

    async def abort_upload(self, key: str, upload_id: str) -> None:
        """Forget the parts of an upload; one that is not known is no error."""
        try:
            with translated():
                await self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)
        except NotFound:
            return

    async def uploads(self, prefix: str) -> AsyncIterator[tuple[str, str, float]]:
        """Yield key, id and Unix time of the beginning of each multipart upload below a prefix that has not ended."""
        markers: dict[str, str] = {}
        while True:
            with translated():
                answer = await self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=prefix, **markers)
            for upload in answer.get("Uploads", ()):
                yield upload["Key"], upload["UploadId"], upload["Initiated"].timestamp()
            if not answer.get("IsTruncated"):
                return
            markers = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def address(
        self,
        method: str,
        key: str,
        *,
        expires_s: int = _INTERNAL_EXPIRES_S,
        query: Iterable[tuple[str, str]] = (),
        endpoint: str = "",
    ) -> str:
        """Return an address at the store that does one thing to one key, for a while; by default for our processes."""
        return presign(
            method,
            f"{endpoint or self.endpoint}/{self.bucket}/{key}",
            self.credentials,
            expires_s=expires_s,
            now=time.time(),
            query=query,
        )

    async def copy_part(self, source: str, target: str, upload_id: str, number: int, *, first: int, size: int) -> str:
        """
        Make a piece of an object a part of an upload, through this process, and return the part's etag.

        Not every store does by itself what it says it has done. Raises NotFound, Unavailable.

        """
        from yarl import URL

        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        address = URL(self.address("PUT", target, query=query), encoded=True)
        piece = self.stream(source, first=first, size=size) if size else b""
        with translated(streams=True):
            async with self._plain_http().put(address, data=piece, headers={"content-length": str(size)}) as answer:
                if answer.status == 404:
                    raise NotFound("The store does not know this upload")
                if answer.status != 200:
                    raise Unavailable(f"The store failed: {answer.status}")
                return str(answer.headers.get("ETag", "")).strip('"')

    async def _copy_bytes(self, source: str, target: str) -> None:
        """Copy an object through this process, a piece at a time."""
        from yarl import URL

        found = await self.head(source)
        if found is None:
            raise NotFound("The store has no such object")
        address, headers = URL(self.address("PUT", target), encoded=True), {"content-length": str(found.size)}
        with translated(streams=True):
            async with self._plain_http().put(
                address, data=self.stream(source, size=found.size), headers=headers
            ) as answer:
                if answer.status != 200:
                    raise Unavailable(f"The store failed: {answer.status}")

    async def _patiently(self) -> Any:
        async with self._making_patient:
            if self._patient is None:
                patient = s3_client(self.endpoint, self.credentials, read_timeout_s=_PATIENCE_S)
                self._patient = await self._stack.enter_async_context(patient)
        return self._patient

    def _plain_http(self) -> ClientSession:
        if self._session is None:
            from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

            self._session = ClientSession(
                connector=TCPConnector(limit=_MAX_STREAMS),
                timeout=ClientTimeout(total=None, sock_connect=3, sock_read=30),
                auto_decompress=False,
                cookie_jar=DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                read_bufsize=_READ_BUFFER_BYTES,
            )
            self._stack.push_async_callback(self._session.close)
        return self._session

    async def _ensure_bucket(self) -> None:
        try:
            with translated():
                await self._client.head_bucket(Bucket=self.bucket)
        except HyphaError:
            # Whoever may not ask may still be allowed to write.
            try:
                with translated():
                    await self._client.create_bucket(Bucket=self.bucket)
            except BadRequest as error:
                if "BucketAlready" not in str(error) and "BucketNameUnavailable" not in str(error):
                    raise Unavailable(f"Bucket {self.bucket} cannot be made: {error}") from None


def _check_piece(status: int, *, is_piece: bool) -> None:
    """Raise unless a request for a piece was answered with it, whatever the status: rclone says 200."""
    if status == 404:
        raise NotFound("The store has no such object")
    if status != 206 and not (status == 200 and is_piece):
        raise Unavailable(f"The store failed: {status}")


def _listed(entry: dict[str, Any]) -> StoredBlob:
    etag = entry.get("ETag", "").strip('"')
    return StoredBlob(entry["Key"], entry["Size"], etag, entry["LastModified"].timestamp())
