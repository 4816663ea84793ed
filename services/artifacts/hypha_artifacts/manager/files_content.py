from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.blobs import check_path
from hypha_artifacts.files.arguments import as_count, check_branch
from hypha_artifacts.files.content import check_format, decoded, encoded
from hypha_artifacts.files.draft_rows import NotStaged
from hypha_artifacts.files.view import view_of
from hypha_common.errors import BadRequest, NotFound
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.files.reader import FileReader
    from hypha_artifacts.files.writer import FileWriter
    from hypha_common.rpc.caller import Caller

__all__ = ["FileContent"]

_DEFAULT_READ = 64 * 2**10
_MAX_READ = 10 * 2**20


class FileContent:
    """Methods of the artifact manager that read and write small files (contract 02 §2.3)."""

    def __init__(self, core: Core, reader: FileReader, writer: FileWriter) -> None:
        self._core = core
        self._reader = reader
        self._writer = writer

    @rpc_method
    async def read_file(
        self,
        artifact_id: str,
        file_path: str,
        format: str = "text",  # noqa: A002  # the word of the protocol
        encoding: str = "utf-8",
        offset: int | str = 0,
        limit: int | str | None = None,
        version: str | int | None = None,
        stage: bool | str | None = False,
        branch: str | None = None,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Return {name, content} of a file, or of a piece of it.

        Args:
            artifact_id: The artifact.
            file_path: Path in the artifact.
            format: text, binary, base64 or json.
            encoding: How text is written.
            offset: How many bytes to leave out.
            limit: How many bytes to read, 65536 by default, 10 MiB at most.
            version: A version's name or index; `stage` is the draft. Default: the newest.
            stage: Whether the draft is meant.
            branch: Not supported.

        """
        check_branch(branch)
        check_format(format, encoding)
        size, first, path = _limit(limit), as_count("offset", offset, most=2**62), check_path(file_path)
        staged = as_switch("stage", stage)
        artifact = await self._core.access.find(artifact_id, "get_file", Actor.of(context))
        try:
            (file,) = await self._reader.find(artifact, view_of(artifact, version, staged), [path], exact=True)
        except NotFound:
            raise NotFound(f"404: File '{file_path}' not found in artifact.", rpc_type="HTTPException") from None
        left = max(0, (file.size or 0) - first)
        data = await self._core.store.read(file.key, first=first, size=min(size, left))
        content = decoded(data, format, encoding, cut_before=first > 0, cut_behind=left > size)
        return {"name": file_path, "content": content}

    @rpc_method
    async def write_file(
        self,
        artifact_id: str,
        file_path: str,
        content: Any,
        format: str = "text",  # noqa: A002  # the word of the protocol
        encoding: str = "utf-8",
        branch: str | None = None,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Write a file of the draft.

        Args:
            artifact_id: The artifact, which must be in staging mode.
            file_path: Path in the artifact.
            content: Text, bytes, base64 text, or for json any value; json text is written as it is.
            format: text, binary, base64 or json.
            encoding: How text is written.
            branch: Not supported.

        """
        check_branch(branch)
        check_format(format, encoding)
        path, data = check_path(file_path), encoded(content, format, encoding)
        artifact = await self._core.access.find(artifact_id, "put_file", Actor.of(context))
        try:
            await self._writer.write(artifact, path, data)
        except NotStaged:
            raise BadRequest("Artifact must be in staging mode. Call edit(artifact_id, stage=True) first.") from None
        return {"success": True, "bytes_written": len(data)}


def _limit(value: object) -> int:
    if value is None:
        return _DEFAULT_READ
    try:
        limit = as_count("Limit", value, least=1, most=2**62)
    except BadRequest:
        raise BadRequest("Limit must be a positive integer.") from None
    if limit > _MAX_READ:
        raise BadRequest(f"Limit cannot exceed 10MB ({_MAX_READ} bytes).")
    return limit
