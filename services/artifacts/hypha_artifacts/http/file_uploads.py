from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypha_artifacts.blobs import check_path
from hypha_artifacts.files.arguments import as_part_count, as_weight
from hypha_artifacts.files.draft_rows import NotStaged
from hypha_common.errors import BadRequest
from hypha_common.plans import HttpCall, Reply

from .file_answers import json_reply
from .file_visitor import artifact_for

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.files.uploads import Uploads

    from .routes import Handler

__all__ = ["FileUploadRoutes"]


class FileUploadRoutes:
    """Uploads in parts over HTTP (contract 02 §3.2)."""

    def __init__(self, core: Core, uploads: Uploads) -> None:
        self._core = core
        self._uploads = uploads

    def handlers(self) -> dict[str, Handler]:
        return {"artifact_create_upload": self.create, "artifact_complete_upload": self.complete}

    async def create(self, call: HttpCall) -> Reply:
        try:
            count = as_part_count(call.first("part_count"))
        except BadRequest as error:
            return json_reply({"detail": str(error)}, 422)
        path, weight = check_path(call.first("path")), as_weight(call.first("download_weight", "0"))
        artifact = await artifact_for(call, self._core.access, "put_file", None)
        try:
            begun = await self._uploads.start(
                artifact, path, count, weight,
                expires_in=call.first("expires_in", "3600"),
                use_proxy=call.first("use_proxy") or None,
                use_local_url=call.first("use_local_url"),
            )  # fmt: skip
        except NotStaged:
            raise BadRequest("Artifact must be in staging mode to upload files") from None
        return json_reply(begun)

    async def complete(self, call: HttpCall) -> Reply:
        try:
            message = json.loads(call.body)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise BadRequest("The body must be JSON: {upload_id, parts: [{part_number, etag}]}")
        artifact = await artifact_for(call, self._core.access, "put_file", None)
        await self._uploads.complete(artifact, message.get("upload_id"), message.get("parts"))
        return json_reply({"success": True, "message": "File uploaded successfully"})
