from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hypha_common.settings import Settings
from hypha_common.version import __version__
from hypha_gateway.http.arguments import Media
from hypha_gateway.http.caller import ANONYMOUS, identify
from hypha_gateway.http.openapi import Answer, Operation, describes
from hypha_gateway.http.openapi.schemas import reference
from hypha_gateway.http.responses import encode_json

from .shell import page, template

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["config", "landing", "login"]


@describes(Operation("The front page", {200: Answer("A page", {"text/html": {"type": "string"}})}, tag="pages"))
async def landing(request: Request) -> Response:
    """``GET /``: that a server runs here, its version, and how to begin."""
    settings = _settings(request)
    body = template("landing.html").substitute(
        version=escape(__version__),
        url=escape(settings.public_base_url),
        base_path=escape(settings.base_path.rstrip("/")),
    )
    return page("Hypha server", body)


@describes(
    Operation("The login page", {307: Answer.redirect("The login page is an app of workspace `public`")}, tag="pages")
)
async def login(request: Request) -> Response:
    """``GET /login``"""
    query = f"?{request.url.query}" if request.url.query else ""
    base_path = _settings(request).base_path.rstrip("/")
    return RedirectResponse(f"{base_path}/public/apps/hypha-login/{query}", status_code=307)


@describes(
    Operation(
        "What a page needs to know of this server and of who looks at it",
        {200: Answer.json("The server and the caller", reference("ServerConfig"))},
        tag="pages",
        token=True,
    )
)
async def config(request: Request) -> Response:
    """``GET /assets/config.json``"""
    state: GatewayState = request.app.state.gateway
    verified = await identify(state, request.scope)
    user = (ANONYMOUS if verified is None else verified.principal).dump()
    body = encode_json({"user": user, **_server_info(state.settings)})
    return Response(body, headers={"Content-Type": Media.JSON.value.decode(), "Cache-Control": "no-store"})


def _server_info(settings: Settings) -> dict[str, object]:
    return {
        "server_id": settings.startup_client,
        "hypha_version": __version__,
        "public_base_url": settings.public_base_url,
        "local_base_url": settings.local_base_url,
        "auth0_client_id": settings.auth0_client_id,
        "auth0_domain": settings.auth0_domain,
        "auth0_audience": settings.auth0_audience,
        "auth0_issuer": settings.auth0_issuer,
        "login_service_url": f"{settings.public_base_url}/public/services/hypha-login",
    }


def _settings(request: Request) -> Settings:
    state: GatewayState = request.app.state.gateway
    return state.settings
