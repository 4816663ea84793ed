from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypha_artifacts.addresses import as_expiry
from hypha_common.errors import BadRequest, HyphaError, NotFound

from .arguments import as_count
from .draft_rows import StagedFile, open_draft, stage
from .media_type import media_type
from .signing import sign_all
from .upload_rows import Upload, add_upload, drop_upload, find_upload

if TYPE_CHECKING:
    from hypha_artifacts.blobs import StoredBlob
    from hypha_artifacts.core import Core
    from hypha_artifacts.record import Artifact

    from .blob_rows import BlobRows
    from .writer import FileWriter

__all__ = ["Uploads", "as_parts"]

_SLACK_S = 10  # contract 02 §2.3: an upload lives a little longer than its addresses

Part = tuple[int, str]  # number and etag


class Uploads:
    """Files that are uploaded in parts, whoever asks (contract 02 §2.3, §3.2); staged when they are complete."""

    def __init__(self, core: Core, blobs: BlobRows, writer: FileWriter) -> None:
        self._core = core
        self._blobs = blobs
        self._writer = writer

    async def start(
        self, artifact: Artifact, path: str, part_count: int, weight: float, *,
        expires_in: object, use_proxy: object, use_local_url: object,
    ) -> dict[str, Any]:  # fmt: skip
        """Return ``{upload_id, parts: [{part_number, url}]}``. Raises NotStaged, Conflict, BadRequest."""
        expires_s = as_expiry(expires_in)
        options: dict[str, Any] = {"expires_in": expires_s, "use_proxy": use_proxy, "use_local_url": use_local_url}
        self._core.addresses.sign("PUT", path, **options)  # refuses bad arguments before anything is begun
        blob = await self._writer.begin(artifact, path, writable_s=expires_s + _SLACK_S)
        store_id = await self._core.store.begin_upload(blob.key, content_type=media_type(None, path))
        try:
            upload = await add_upload(
                self._core.rows.shard(artifact.name), artifact, blob, store_id, part_count, weight,
                expires_s=expires_s + _SLACK_S,
            )  # fmt: skip
        except HyphaError:
            await self._core.store.abort_upload(blob.key, store_id)
            raise
        return {"upload_id": upload.id, "parts": await self._parts(upload, options)}

    async def complete(self, artifact: Artifact, upload_id: object, parts: object) -> None:
        """
        Join the parts of an upload and stage the file.

        Who does not hear of the success may ask again. Raises BadRequest, NotStaged, Conflict.

        """
        shard = self._core.rows.shard(artifact.name)
        upload = await find_upload(shard, artifact, upload_id) if isinstance(upload_id, str) else None
        if upload is None:
            raise BadRequest("Upload session expired or not found")
        written = await self._join(upload, as_parts(parts, upload.part_count))
        async with shard.transaction() as connection:
            draft = await open_draft(connection, artifact.id)
            await self._blobs.record(connection, [written])
            await stage(connection, draft, [StagedFile(upload.path, upload.blob, upload.weight)])
            await drop_upload(connection, upload.id)

    async def _join(self, upload: Upload, parts: Sequence[Part]) -> StoredBlob:
        store = self._core.store
        try:
            await store.complete_upload(upload.key, upload.store_id, parts)
        except BadRequest as error:
            raise BadRequest(f"Failed to complete multipart upload: {error}") from None
        except NotFound:
            # Joined already, by somebody who was stopped before that could be recorded; else there is nothing.
            pass
        written = await store.head(upload.key)
        if written is None:
            raise BadRequest("Failed to complete multipart upload: the store does not know it any more")
        return written

    async def _parts(self, upload: Upload, options: dict[str, Any]) -> list[dict[str, Any]]:
        def sign(number: int) -> str:
            query = [("partNumber", str(number)), ("uploadId", upload.store_id)]
            return self._core.addresses.sign("PUT", upload.key, query=query, **options)

        urls = await sign_all(sign, range(1, upload.part_count + 1))
        return [{"part_number": number, "url": url} for number, url in enumerate(urls, start=1)]


def as_parts(value: object, part_count: int) -> list[Part]:
    """Return (number, etag) of parts, sorted; etags with or without quotes. Raises BadRequest."""
    if not isinstance(value, (list, tuple)) or not value:
        raise BadRequest("Parts list cannot be empty")
    parts: dict[int, str] = {}
    for part in value:
        if not isinstance(part, dict) or not isinstance(part.get("etag"), str):
            raise BadRequest("Each part must be {part_number, etag}")
        number = as_count("part_number", part.get("part_number"), least=1, most=part_count)
        if number in parts:
            raise BadRequest(f"Part {number} is given twice")
        parts[number] = '"' + part["etag"].strip().strip('"') + '"'
    return sorted(parts.items())
