from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from hypha_artifacts.addresses import as_switch
from hypha_artifacts.archives.file_rows import FileRows, FileSet
from hypha_artifacts.archives.zip_out import ZipOut
from hypha_artifacts.blobs import check_path
from hypha_common.errors import NotFound
from hypha_common.plans import Fetch, HttpCall, Plan

from .disposition import attachment
from .visitor import find_for

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.data_port import DataPort

__all__ = ["ArchiveRoutes"]


class ArchiveRoutes:
    """Archives of an artifact's files, and the members of archives among them (contract 02 §3.3 and §3.4)."""

    def __init__(self, core: Core, port: DataPort) -> None:
        self._core = core
        self._port = port
        self._rows = FileRows(core.database)
        port.add(ZipOut.KIND, ZipOut(core).make)

    def handlers(self) -> Mapping[str, Callable[[HttpCall], Awaitable[Plan]]]:
        return {"artifact_zip": self.create_zip}

    async def create_zip(self, call: HttpCall) -> Plan:
        """Answer with an archive of all files, or of those that are named."""
        artifact = await find_for(call, self._core.access)
        files = FileSet.of(artifact, call.first("version") or None, as_switch("stage", call.first("stage", "false")))
        named = [check_path(path) for name, path in call.query if name == "file"]
        paths = sorted(set(named), key=str.encode) if named else None
        if paths is not None:
            known = {row.path for row in await self._rows.some(files, paths)}
            for path in paths:
                if path not in known:
                    raise NotFound(f"File '{path}' does not exist in the artifact.", rpc_type="FileNotFoundError")
        silent = bool(as_switch("silent", call.first("silent", "false")))
        return Fetch(
            self._port.address(ZipOut.KIND, ZipOut.order(files, paths, silent=silent)),
            headers=[
                ("content-type", "application/zip"),
                ("content-disposition", attachment(f"{artifact.alias}.zip")),
                ("cache-control", "private, no-cache"),
            ],
        )
