from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from hypha_common.errors import NotFound
from hypha_gateway.http.openapi import Answer, Operation, describes

from .bundle import Bundle, bundle, client_version

__all__ = ["asset", "static"]

_CACHE_CONTROL = "public, max-age=3600"
_STATIC = {"img/hypha-logo-black.svg": "hypha-logo-black.svg"}  # other names that files have below /static/
_VERSION_FILE = "hypha-rpc-version.txt"

_ANY = {"type": "string"}
_FILE = {
    200: Answer(
        "The file",
        {"application/javascript": _ANY, "text/css": _ANY, "text/plain": _ANY, "image/svg+xml": _ANY},
        {"ETag": "changes with the content"},
    ),
    206: Answer("The part that Range asks for"),
    304: Answer("What the caller has is still good"),
    404: Answer.error("There is no such file, or it was not fetched when this server was installed"),
    416: Answer("There is no such part"),
}


@describes(
    Operation(
        "A file for browsers",
        _FILE,
        description="`hypha-rpc-websocket.mjs` and `hypha-rpc-websocket.js` are the client library.",
        tag="pages",
    )
)
async def asset(request: Request) -> Response:
    """``GET /assets/{name}``"""
    return _answer(request, bundle(request.path_params["name"]))


@describes(Operation("A file for browsers, by its older address", _FILE, tag="pages"))
async def static(request: Request) -> Response:
    """``GET /static/{path}``"""
    path = request.path_params["path"]
    if path == _VERSION_FILE:
        return Response(f"{client_version()}\n", media_type="text/plain", headers={"Cache-Control": _CACHE_CONTROL})
    if not path.startswith("hypha-rpc-") and path not in _STATIC:
        raise NotFound(f"File not found: {path}")
    return _answer(request, bundle(_STATIC.get(path, path)))


def _answer(request: Request, found: Bundle) -> Response:
    compressed = found.compressed if _takes_gzip(request) else None
    etag = f'"{found.etag}-gzip"' if compressed else f'"{found.etag}"'
    headers = {
        "Cache-Control": _CACHE_CONTROL,
        "ETag": etag,
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
        # For pages that isolate themselves (Cross-Origin-Embedder-Policy), as those with threads do.
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    if _has(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    if compressed:
        headers["Content-Encoding"] = "gzip"
    response = FileResponse(compressed or found.path, headers=headers)
    response.headers["content-type"] = found.media_type  # FileResponse would add a charset to JavaScript's
    return response


def _takes_gzip(request: Request) -> bool:
    if "range" in request.headers:
        return False  # of the file, not of its compressed form
    codings = [coding.split(";") for coding in request.headers.get("accept-encoding", "").lower().split(",")]
    return any(
        name.strip() == "gzip" and not any(q.replace(" ", "") in ("q=0", "q=0.0") for q in parameters)
        for name, *parameters in codings
    )


def _has(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags
