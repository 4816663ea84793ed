from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from hypha_apps.app import alias_of
from hypha_apps.errors import prefixed
from hypha_apps.installing import Uploads
from hypha_apps.sources.files import check_path
from hypha_common.errors import BadRequest, HyphaError, PayloadTooLarge
from hypha_common.principal import Permission, authorize
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_apps.core import Core

__all__ = ["FileMethods"]

_FORMATS = ("text", "json", "binary")
_PIECE_BYTES = 8 * 2**20
_MAX_READ_BYTES = 64 * 2**20
_PAGE = 1000


class FileMethods:
    """Reads and changes the files of apps; what changes is the draft (contract 03 §1.1)."""

    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._uploads = Uploads(core)

    @rpc_method
    async def edit_file(self, app_id: str, file_path: str, file_content: str, *, context: Caller) -> None:
        """
        Write a file of an app into its draft, which `commit_app` publishes.

        Args:
            app_id: The app.
            file_path: The path of the file.
            file_content: The new content, whole.

        """
        authorize(context.principal, Permission.READ_WRITE, context.workspace)
        if not isinstance(file_content, str):
            raise BadRequest("file_content must be text")
        path, artifact_id = check_path(file_path), _artifact_id(app_id, context)
        await self._call("edit", context, artifact_id=artifact_id, stage=True)
        await self._uploads.write(
            artifact_id, {path: file_content.encode()}, user=context.principal, workspace=context.workspace
        )

    @rpc_method
    async def remove_file(self, app_id: str, file_path: str, *, context: Caller) -> None:
        """
        Remove a file of an app from its draft.

        Args:
            app_id: The app.
            file_path: The path of the file.

        """
        authorize(context.principal, Permission.READ_WRITE, context.workspace)
        path, artifact_id = check_path(file_path), _artifact_id(app_id, context)
        await self._call("edit", context, artifact_id=artifact_id, stage=True)
        await self._call("remove_file", context, artifact_id=artifact_id, file_path=path)

    @rpc_method
    async def list_files(
        self, app_id: str, version: str | int | None = None, stage: bool | None = None, *, context: Caller
    ) -> list[dict[str, Any]]:
        """
        List the files of an app on its top level: `{type, name, size, last_modified}` each.

        Args:
            app_id: The app.
            version: A version of it, the newest by default.
            stage: Whether the files of its draft are meant; by default so where it was never committed.

        """
        artifact_id = _artifact_id(app_id, context)
        if stage is None and version is None:
            record = await self._call("read", context, artifact_id=artifact_id, silent=True)
            stage = not record["versions"]
        found: list[dict[str, Any]] = []
        while True:
            page = await self._call(
                "list_files", context, artifact_id=artifact_id, version=version, stage=bool(stage), limit=_PAGE,
                offset=len(found),
            )  # fmt: skip
            found += page
            if len(page) < _PAGE:
                return found

    @rpc_method
    async def read_file(
        self,
        app_id: str,
        file_path: str,
        format: str = "text",  # noqa: A002  # the word of the protocol
        version: str | int | None = None,
        stage: bool = False,
        *,
        context: Caller,
    ) -> Any:
        """
        Return a file of an app: its text, what its JSON means, or for `binary` its bytes as base64.

        Args:
            app_id: The app.
            file_path: The path of the file.
            format: `text`, `json` or `binary`.
            version: A version of the app, the newest by default.
            stage: Whether the draft is meant.

        """
        if format not in _FORMATS:
            raise BadRequest(f"format must be one of {', '.join(_FORMATS)}, not '{format!s:.40}'")
        try:
            data = await self._read(_artifact_id(app_id, context), check_path(file_path), version, stage, context)
            return _decoded(data, format)
        except HyphaError as error:
            raise prefixed(f"Failed to get file content for {app_id}/{file_path}", error) from None

    async def _read(
        self, artifact_id: str, path: str, version: str | int | None, stage: bool, context: Caller
    ) -> bytes:
        data = bytearray()
        while True:
            answer = await self._call(
                "read_file", context, artifact_id=artifact_id, file_path=path, format="binary", offset=len(data),
                limit=_PIECE_BYTES, version=version, stage=bool(stage),
            )  # fmt: skip
            data += answer["content"]
            if len(answer["content"]) < _PIECE_BYTES:
                return bytes(data)
            if len(data) > _MAX_READ_BYTES:
                raise PayloadTooLarge(f"it has more than {_MAX_READ_BYTES} bytes: get it from its address")

    async def _call(self, method: str, context: Caller, /, **arguments: Any) -> Any:
        return await self._store.call(method, user=context.principal, workspace=context.workspace, **arguments)


def _artifact_id(app_id: str, context: Caller) -> str:
    return f"{context.workspace}/{alias_of(app_id, context.workspace)}"


def _decoded(data: bytes, kind: str) -> Any:
    if kind == "binary":
        return base64.b64encode(data).decode()
    try:
        text = data.decode()
        return text if kind == "text" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"it is no valid {kind}: {error}") from None
