from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ExceptionHandler

from hypha_common.errors import HyphaError
from hypha_common.settings import Settings
from hypha_gateway.streaming.endpoint import RpcEndpoint

from . import apps, assets, health, oauth, pages, workspaces
from .denials import note_denial
from .edge import HttpEdge
from .files import file_routes, s3_routes
from .jwks import jwks
from .responses import error_response, failure_body
from .service_call import ServiceCalls

__all__ = ["documents", "exception_handlers", "middleware", "routes", "socket_routes"]


def routes() -> list[Route]:
    """Return the HTTP routes of the gateway, without base path."""
    return [
        # First, because it is asked for most: each route before it costs every call a pattern match.
        Route(
            "/{workspace}/services/{service}/{keys}", ServiceCalls(), methods=["GET", "POST"], name="service_function"
        ),
        *s3_routes(),  # a bucket may be called as the routes below
        Route("/rpc", RpcEndpoint(), methods=["GET", "POST"]),
        Route("/", pages.landing),
        Route("/index.html", pages.landing),
        Route("/login", pages.login),
        Route("/oauth/authorize", oauth.authorize),
        Route("/oauth/token", oauth.token, methods=["POST"]),
        Route("/assets/config.json", pages.config),
        Route("/assets/{name}", assets.asset),
        Route("/static/{path:path}", assets.static),
        *documents(),
        Route("/health", health.health),
        Route("/health/liveness", health.liveness),
        Route("/health/readiness", health.readiness),
        Route("/metrics", health.metrics),
        Route("/{workspace}/info", workspaces.workspace),
        Route("/{workspace}/services", workspaces.redirect_to_slash),
        Route("/{workspace}/services/", workspaces.services),
        Route("/{workspace}/services/{service}", workspaces.service),
        Route("/{workspace}/apps", apps.list_apps),
        Route("/{workspace}/apps/{service}", workspaces.redirect_to_slash, methods=apps.METHODS),
        Route("/{workspace}/apps/{service}/{path:path}", apps.AppEndpoint(), methods=apps.METHODS, name="app"),
        Route("/{workspace}/agent-skills", workspaces.redirect_to_slash, methods=apps.METHODS),
        Route(
            "/{workspace}/agent-skills/{path:path}",
            apps.AppEndpoint("agent-skills"),
            methods=apps.METHODS,
            name="agent_skills",
        ),
        *file_routes(),
        Route("/{workspace:workspace}", workspaces.redirect_to_slash),
        Route("/{workspace:workspace}/", pages.workspace_page),
    ]


def socket_routes() -> list[WebSocketRoute]:
    """Return the routes of websockets that are not the hub's own, without base path."""
    return [WebSocketRoute("/{workspace}/apps/{service}/{path:path}", apps.SocketEndpoint())]


def documents() -> list[Route]:
    """Return the routes that tell about the others; they are found with the base path and without it."""
    return [
        Route("/openapi.json", pages.openapi),
        Route("/api-docs", pages.api_docs),
        Route("/api-redoc", pages.api_redoc),
        Route("/.well-known/jwks.json", jwks),
    ]


def middleware(settings: Settings) -> list[Middleware]:
    """Return what every HTTP request passes first."""
    return [Middleware(HttpEdge, settings=settings)]


def exception_handlers() -> dict[type[Exception], ExceptionHandler]:
    """Return how errors that a route raises are answered."""
    return {HyphaError: _hypha_error, HTTPException: _framework_error}


class _Workspace(StringConvertor):
    """The id of a workspace that has a page: ids that users choose have a hyphen, other paths have none."""

    regex = "[^/]*-[^/]*"


register_url_convertor("workspace", _Workspace())


async def _hypha_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HyphaError)
    note_denial(request.app.state.gateway, request.scope, error)
    return error_response(error)


async def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _nothing_there(request)
    return _failure({"detail": error.detail}, error.status_code, error.headers)


def _nothing_there(request: Request) -> Response:
    """Answer for a path that no route has, or a folder no file: where nothing is to be had nothing can be sent to."""
    if request.method not in ("GET", "HEAD"):
        return _failure({"detail": "Method Not Allowed"}, 405, {"Allow": "GET"})
    path = request.scope["path"].strip("/")
    return _failure({"success": False, "detail": f"File not found: {path}"}, 404)


def _failure(body: dict[str, Any], status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(failure_body(body), status, headers, media_type="application/json")
