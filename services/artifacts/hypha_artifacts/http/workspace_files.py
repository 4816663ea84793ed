from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypha_artifacts.files.media_type import media_type
from hypha_artifacts.workspace_files.folders import as_count, list_folder
from hypha_artifacts.workspace_files.parts import read_parts
from hypha_artifacts.workspace_files.rights import workspace_key
from hypha_artifacts.workspace_files.service import begin_upload
from hypha_common.errors import BadRequest, NotFound
from hypha_common.plans import Fetch, Reply, Store, Stored
from hypha_common.principal import Permission, Principal
from hypha_common.wire import pack

from .conditions import range_for_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypha_artifacts.core import Core
    from hypha_artifacts.workspace_files.objects import WorkspaceObject, WorkspaceObjects
    from hypha_artifacts.workspace_files.rights import Rights
    from hypha_artifacts.workspace_files.uploads import Uploads
    from hypha_common.plans import HttpCall, Plan

    from .routes import Handler, Receiver

__all__ = ["WorkspaceFileRoutes"]

_JSON = ("content-type", "application/json")
_STORED = "workspace_file"


class WorkspaceFileRoutes:
    """``/{workspace}/files/{path}`` and multipart uploads to it (contract 02 §4.5)."""

    def __init__(self, core: Core, rights: Rights, objects: WorkspaceObjects, uploads: Uploads) -> None:
        self._core = core
        self._rights = rights
        self._objects = objects
        self._uploads = uploads

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "workspace_files": self.files,
            "workspace_create_upload": self.create_upload,
            "workspace_complete_upload": self.complete_upload,
        }

    def receivers(self) -> Mapping[str, Receiver]:
        return {_STORED: self._stored}

    async def files(self, call: HttpCall) -> Plan:
        """Return the plan for a request about a file or a folder. Raises HyphaError."""
        path = call.params.get("path", "")
        match call.method:
            case "GET" | "HEAD":
                return await self._get(call, path)
            case "PUT":
                return await self._put(call, path)
            case "DELETE":
                return await self._delete(call, path)
        raise BadRequest(f"Files have no method {call.method}")

    async def create_upload(self, call: HttpCall) -> Reply:
        """Begin a multipart upload. Raises HyphaError."""
        key = await self._key(call, call.first("path"), Permission.READ_WRITE)
        begun = await begin_upload(
            self._core,
            self._uploads,
            key,
            call.first("part_count"),
            call.first("expires_in", "3600"),
            use_proxy=call.first("use_proxy") or None,
            use_local_url=call.first("use_local_url", "false"),
        )
        return _reply(begun)

    async def complete_upload(self, call: HttpCall) -> Reply:
        """Join the parts of an upload of this workspace. Raises HyphaError."""
        await self._key(call, "", Permission.READ_WRITE, folder=True)
        try:
            wanted = json.loads(call.body)
        except ValueError:
            wanted = None
        if not isinstance(wanted, dict):
            raise BadRequest("The body must be a JSON map of upload_id and parts")
        parts = read_parts(wanted.get("parts"))
        try:
            upload = await self._uploads.find(call.params["workspace"], wanted.get("upload_id"))
            found = await self._uploads.complete(upload, parts)
        except (BadRequest, NotFound) as error:
            raise BadRequest(f"Failed to complete multipart upload: {error}") from None
        etag = [("etag", f'"{found.etag}"')] if found is not None else []
        return _reply({"success": True, "message": "File uploaded successfully"}, etag)

    async def _get(self, call: HttpCall, path: str) -> Plan:
        is_folder = path == "" or path.endswith("/")
        key = await self._key(call, path, Permission.READ, folder=is_folder)
        if not is_folder:
            found = await self._objects.find(key)
            if found is not None:
                return _unchanged(call, found.etag) or self._fetch(call, found)
            key += "/"
        limit = as_count("max_length", call.first("max_length", "1000"))
        children = await list_folder(self._core.store, key, limit=limit)
        if not children and path and not await self._objects.is_folder(key):
            what = "Directory" if is_folder else "File"
            raise NotFound(f"{what} does not exists: {path}")
        name = path.rstrip("/").rpartition("/")[2]
        return _reply({"success": True, "type": "directory", "name": name, "children": children})

    def _fetch(self, call: HttpCall, found: WorkspaceObject) -> Fetch:
        # Not every store looks at if-range, and none knows the etag that we told.
        is_same = call.headers.get("if-range", "").strip('"') in ("", found.etag)
        send = range_for_store(call.headers) if is_same else []
        headers = [("content-type", found.content_type), ("etag", f'"{found.etag}"'), *found.metadata.items()]
        return Fetch(self._core.store.address(call.method, found.key), send, headers, "File does not exists")

    async def _put(self, call: HttpCall, path: str) -> Store:
        key = await self._key(call, path, Permission.READ_WRITE)
        await self._objects.check_free(key)
        content_type = media_type(call.headers.get("content-type"), key)
        return Store(
            self._core.store.address("PUT", key),
            pack([_STORED, key, content_type]),
            [("content-type", content_type)],
            self._core.settings.max_file_bytes,
        )

    async def _stored(self, receipt: list[Any], stored: Stored) -> Reply:
        key, content_type = receipt
        await self._objects.written(key, stored.etag, content_type, {}, stays=True)
        return _reply({"success": True, "message": "File uploaded successfully"}, [("etag", f'"{stored.etag}"')])

    async def _delete(self, call: HttpCall, path: str) -> Reply:
        is_folder = path == "" or path.endswith("/")
        key = await self._key(call, path, Permission.READ_WRITE, folder=is_folder)
        if is_folder:
            deleted = await self._objects.delete_below(key)
            return _reply({"success": True, "message": f"Directory deleted successfully: {path}", "deleted": deleted})
        await self._objects.delete([key])
        return _reply({"success": True, "message": f"File deleted successfully: {path}"})

    async def _key(self, call: HttpCall, path: str, needed: Permission, *, folder: bool = False) -> str:
        """Return the key of a path for somebody who may do something with it."""
        principal, workspace = Principal.load(call.user), call.params["workspace"]
        await self._rights.check(principal, workspace, needed, http=True)
        # Other than over RPC a slash in front means nothing: `/files//a` is a slip.
        return workspace_key(principal, workspace, path.lstrip("/"), folder=folder)


def _unchanged(call: HttpCall, etag: str) -> Reply | None:
    known = [part.strip().removeprefix("W/").strip('"') for part in call.headers.get("if-none-match", "").split(",")]
    return Reply(304, [("etag", f'"{etag}"')]) if etag in known or "*" in known else None


def _reply(value: dict[str, Any], headers: list[tuple[str, str]] | None = None) -> Reply:
    return Reply(200, [_JSON, *(headers or [])], json.dumps(value, ensure_ascii=False).encode())
