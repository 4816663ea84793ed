from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from hypha_common.errors import HyphaError
from hypha_common.settings import Settings

from . import apps, health, pages, workspaces
from .denials import note_denial
from .edge import HttpEdge
from .responses import Receive, Scope, Send, error_response
from .service_call import answer_call

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["exception_handlers", "middleware", "routes"]


def routes() -> list[Route]:
    """Return the HTTP routes of the gateway, without base path."""
    return [
        # First, because it is asked for most: each route before it costs every call a pattern match.
        Route("/{workspace}/services/{service_id}/{function}", ServiceCalls(), methods=["GET", "POST"]),
        Route("/", pages.landing),
        Route("/index.html", pages.landing),
        Route("/login", pages.login),
        Route("/assets/config.json", pages.config),
        Route("/health", health.health),
        Route("/health/liveness", health.liveness),
        Route("/health/readiness", health.readiness),
        Route("/metrics", health.metrics),
        Route("/{workspace}/info", workspaces.workspace),
        Route("/{workspace}/services", workspaces.redirect_to_slash),
        Route("/{workspace}/services/", workspaces.services),
        Route("/{workspace}/services/{service_id}", workspaces.service),
        Route("/{workspace}/apps/{service_id}", workspaces.redirect_to_slash, methods=apps.METHODS),
        Route("/{workspace}/apps/{service_id}/{path:path}", apps.app, methods=apps.METHODS),
    ]


def middleware(settings: Settings) -> list[Middleware]:
    """Return what every HTTP request passes first."""
    return [Middleware(HttpEdge, settings=settings)]


def exception_handlers() -> dict[type[Exception], ExceptionHandler]:
    """Return how errors that a route raises are answered."""
    return {HyphaError: _hypha_error, HTTPException: _framework_error}


class ServiceCalls:
    """The endpoint of service calls: plain ASGI, for speed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: GatewayState = scope["app"].state.gateway
        names = scope["path_params"]
        await answer_call(state, names["workspace"], names["service_id"], names["function"], scope, receive, send)


async def _hypha_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HyphaError)
    note_denial(request.app.state.gateway, request.scope, error)
    return error_response(error)


async def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)
