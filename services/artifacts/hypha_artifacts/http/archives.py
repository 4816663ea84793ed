from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from hypha_artifacts.addresses import as_switch
from hypha_artifacts.archives.zip_in import ZipIn
from hypha_artifacts.archives.zip_out import ZipOut
from hypha_artifacts.blobs import check_path
from hypha_artifacts.blobs.layout import content_type_of
from hypha_artifacts.files.file_rows import find_files
from hypha_artifacts.files.view import View, view_of
from hypha_common.errors import NotFound
from hypha_common.plans import Fetch, HttpCall, Plan, Reply

from .disposition import attachment
from .file_visitor import artifact_for

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.data_port import DataPort
    from hypha_artifacts.record import Artifact

__all__ = ["ArchiveRoutes"]


class ArchiveRoutes:
    """Archives of an artifact's files, and the members of archives among them (contract 02 §3.3 and §3.4)."""

    def __init__(self, core: Core, port: DataPort) -> None:
        self._core = core
        self._port = port
        self._zip_in = ZipIn(core.store)
        port.add(ZipOut.KIND, ZipOut(core).make)
        port.add(ZipIn.MEMBER, self._zip_in.make)
        port.add(ZipIn.LISTING, self._zip_in.make_listing)

    def handlers(self) -> Mapping[str, Callable[[HttpCall], Awaitable[Plan]]]:
        return {"artifact_zip": self.create_zip, "artifact_zip_files": self.look_into_zip}

    async def create_zip(self, call: HttpCall) -> Plan:
        """Answer with an archive of all files, or of those that are named."""
        artifact = await artifact_for(call, self._core.access, "get_file", None)
        view = _view_of(artifact, call)
        named = [check_path(path) for name, path in call.query if name == "file"]
        paths = sorted(set(named), key=str.encode) if named else None
        if paths is not None:
            known = await find_files(self._core.rows.shard(artifact.name), view, paths)
            for path in paths:
                if path not in known:
                    raise NotFound(f"File '{path}' does not exist in the artifact.", rpc_type="FileNotFoundError")
        silent = bool(as_switch("silent", call.first("silent", "false")))
        return Fetch(
            self._port.address(ZipOut.KIND, ZipOut.order(view, paths, silent=silent)),
            headers=[
                ("content-type", "application/zip"),
                ("content-disposition", attachment(f"{artifact.alias}.zip")),
                ("cache-control", "private, no-cache"),
            ],
        )

    async def look_into_zip(self, call: HttpCall) -> Plan:
        """Answer with a folder or a file inside an archive: ``…/~/inner``, or named by ``path``."""
        artifact = await artifact_for(call, self._core.access, "get_file", None)
        outer, _, inner = f"{call.params.get('path', '')}/".partition("/~/")
        path, inner = check_path(outer.rstrip("/")), inner[:-1] or call.first("path").removeprefix("/")
        row = (await find_files(self._core.rows.shard(artifact.name), _view_of(artifact, call), [path])).get(path)
        size = None if row is None or row.changing else row.size
        if row is not None and size is None:
            stored = await self._core.store.head(row.key)
            size = None if stored is None else stored.size
        if row is None or size is None:
            raise NotFound(f"ZIP file not found: {path}", rpc_type="FileNotFoundError")
        if not inner or inner.endswith("/"):
            return await self._listing(row.key, size, inner)
        return await self._member(row.key, size, inner)

    async def _listing(self, key: str, size: int, folder: str) -> Plan:
        listing = await self._zip_in.listing(key, size, folder)
        headers = [("content-type", "application/json")]
        if listing is not None:
            return Reply(headers=headers, body=listing)
        order = {"key": key, "size": size, "folder": folder}
        return Fetch(self._port.address(ZipIn.LISTING, order), headers=headers)

    async def _member(self, key: str, size: int, inner: str) -> Plan:
        missing = f"File not found inside ZIP: {inner}"
        member = await self._zip_in.find(key, size, inner)
        if member is None:
            raise NotFound(missing, rpc_type="FileNotFoundError")
        return Fetch(
            self._port.address(ZipIn.MEMBER, await self._zip_in.order(key, size, member)),
            headers=[
                ("content-type", content_type_of(inner)),
                ("content-disposition", attachment(inner.rpartition("/")[2])),
            ],
            missing=missing,
        )


def _view_of(artifact: Artifact, call: HttpCall) -> View:
    return view_of(artifact, call.first("version") or None, as_switch("stage", call.first("stage", "false")))
