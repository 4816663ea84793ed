from __future__ import annotations

import hashlib
from html import escape
from string import Template
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from hypha_gateway.http.openapi import Answer, Operation, describes
from hypha_gateway.http.openapi.document import document
from hypha_gateway.http.responses import encode_json

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["api_docs", "api_redoc", "openapi"]

# Both viewers style with inline rules; scripts come from here alone, and nothing from elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>HTTP interface of Hypha</title>
<link rel="icon" href="data:,">
<style>body { margin: 0; } .swagger-ui { overflow-x: auto; }</style>
$style</head>
<body>
<div id="api" data-openapi="$base/openapi.json"></div>
<noscript>Scripts show this page; <a href="$base/openapi.json">the document itself</a> needs none.</noscript>
$scripts
</body>
</html>
"""
)


@describes(
    Operation(
        "This document",
        {
            200: Answer("OpenAPI 3.1", {"application/json": {"type": "object"}}, {"ETag": "changes with the content"}),
            304: Answer("What the caller has is still good"),
        },
        tag="pages",
    )
)
async def openapi(request: Request) -> Response:
    """``GET /openapi.json``"""
    app = request.app
    if not hasattr(app.state, "openapi"):
        body = encode_json(document(app.state.http_routes, base_path=_base_path(request)))
        app.state.openapi = (body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    body, etag = app.state.openapi
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, headers={**headers, "Content-Type": "application/json"})


_PAGE_ANSWER = {200: Answer("A page", {"text/html": {"type": "string"}})}


@describes(Operation("The HTTP interface, to read and to try", _PAGE_ANSWER, tag="pages"))
async def api_docs(request: Request) -> Response:
    """``GET /api-docs``"""
    return _page(request, scripts=("swagger-ui-bundle.js", "api-docs.js"), styles=("swagger-ui.css",))


@describes(Operation("The HTTP interface, to read", _PAGE_ANSWER, tag="pages"))
async def api_redoc(request: Request) -> Response:
    """``GET /api-redoc``"""
    return _page(request, scripts=("redoc.standalone.js", "api-redoc.js"))


def _page(request: Request, *, scripts: tuple[str, ...], styles: tuple[str, ...] = ()) -> Response:
    base = escape(_base_path(request))
    html = _PAGE.substitute(
        base=base,
        style="".join(f'<link rel="stylesheet" href="{base}/assets/{name}">\n' for name in styles),
        scripts="\n".join(f'<script src="{base}/assets/{name}"></script>' for name in scripts),
    )
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(html, headers=headers)


def _base_path(request: Request) -> str:
    state: GatewayState = request.app.state.gateway
    return state.settings.base_path.rstrip("/")
