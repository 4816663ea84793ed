from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

from hypha_common.static_mounts import static_mounts

__all__ = ["mounts"]

_INDEX = "index.html"
_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


def mounts(words: Iterable[str]) -> Iterator[BaseRoute]:
    """Yield the routes of folders that are served as they are. They win over workspaces of the same name."""
    for mount in static_mounts(words):
        folder = _Folder(directory=mount.folder)
        yield Route(f"/{mount.name}", folder.front, name=mount.name, include_in_schema=False)
        yield Mount(f"/{mount.name}", folder, name=f"{mount.name}-files")


class _Folder(StaticFiles):
    """The files of a folder and of the folders in it; nothing outside, wherever links lead, and no listings."""

    async def front(self, request: Request) -> Response:
        """``GET /name``"""
        if "text/html" in request.headers.get("accept", ""):
            # A browser resolves the page's links against its address, which has to end like a folder's.
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{request.scope['path']}/{query}", 307, headers={"Vary": "Accept"})
        response = await self.get_response(_INDEX, request.scope)
        response.headers.append("Vary", "Accept")
        return response

    def get_path(self, scope: Scope) -> str:
        path = super().get_path(scope)
        if path == os.curdir:
            return _INDEX
        if scope["path"].endswith("/"):  # no folder inside has a page of its own, and a file is none
            raise HTTPException(404)
        return path

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code == 401:  # a file that this process may not read
                raise HTTPException(404) from None
            raise

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        request = dict(scope["headers"])
        coded = request.get(b"accept-encoding", b"identity") != b"identity" and b"range" not in request
        if coded and "etag" in response.headers:
            # It may be compressed on its way: the same file, not the same bytes.
            response.headers["etag"] = f"W/{response.headers['etag']}"
        return response
