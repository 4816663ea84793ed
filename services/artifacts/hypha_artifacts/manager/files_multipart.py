from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_artifacts.actor import Actor
from hypha_artifacts.blobs import check_path
from hypha_artifacts.files.arguments import as_part_count, as_weight
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.files.uploads import Uploads
    from hypha_common.rpc.caller import Caller

__all__ = ["FileUploads"]


class FileUploads:
    """Methods of the artifact manager for files that are uploaded in parts (contract 02 §2.3)."""

    def __init__(self, core: Core, uploads: Uploads) -> None:
        self._core = core
        self._uploads = uploads

    @rpc_method
    async def put_file_start_multipart(
        self,
        artifact_id: str,
        file_path: str,
        part_count: int | str,
        download_weight: float | str = 0,
        expires_in: float | str = 3600,
        use_proxy: bool | str | None = None,
        use_local_url: bool | str | None = False,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Begin to upload a file in parts: return {upload_id, parts: [{part_number, url}]}.

        Args:
            artifact_id: The artifact, which must be in staging mode.
            file_path: Path in the artifact.
            part_count: How many parts there are, 10,000 at most; each but the last has 5 MiB at least.
            download_weight: What one download of the file counts for.
            expires_in: Life of the addresses in seconds.
            use_proxy: Whether the addresses lead to this server (true) or to the store (false).
            use_local_url: Whether to name the server as it is reached on its own machine, or an address to use instead.

        """
        count, path, weight = as_part_count(part_count), check_path(file_path), as_weight(download_weight)
        artifact = await self._core.access.find(artifact_id, "put_file", Actor.of(context))
        return await self._uploads.start(
            artifact, path, count, weight, expires_in=expires_in, use_proxy=use_proxy, use_local_url=use_local_url
        )

    @rpc_method
    async def put_file_complete_multipart(
        self, artifact_id: str, upload_id: str, parts: list[dict[str, Any]], *, context: Caller
    ) -> dict[str, Any]:
        """
        Join the parts of an upload.

        Args:
            artifact_id: The artifact.
            upload_id: As returned by put_file_start_multipart.
            parts: For each part {part_number, etag}.

        """
        artifact = await self._core.access.find(artifact_id, "put_file", Actor.of(context))
        await self._uploads.complete(artifact, upload_id, parts)
        return {"success": True, "message": "File uploaded successfully"}
