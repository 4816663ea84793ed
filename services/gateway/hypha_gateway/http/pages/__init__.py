from __future__ import annotations

from functools import lru_cache
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from hypha_common.settings import Settings
from hypha_common.version import __version__
from hypha_gateway.http.caller import ANONYMOUS, identify
from hypha_gateway.http.responses import encode_json

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["config", "landing", "login"]

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


async def landing(request: Request) -> Response:
    """``GET /``: that a server runs here, its version, and how to begin."""
    settings = _settings(request)
    return HTMLResponse(_landing(settings.public_base_url, settings.base_path.rstrip("/")), headers=_HEADERS)


@lru_cache(maxsize=4)
def _landing(url: str, base_path: str) -> str:
    page = Template((files(__package__) / "landing.html").read_text("utf-8"))
    return page.substitute(version=escape(__version__), url=escape(url), base_path=escape(base_path))


async def login(request: Request) -> Response:
    """``GET /login``"""
    query = f"?{request.url.query}" if request.url.query else ""
    base_path = _settings(request).base_path.rstrip("/")
    return RedirectResponse(f"{base_path}/public/apps/hypha-login/{query}", status_code=307)


async def config(request: Request) -> Response:
    """``GET /assets/config.json``: what a page needs to know of the server and of who looks at it."""
    state: GatewayState = request.app.state.gateway
    verified = await identify(state, request.scope)
    user = (ANONYMOUS if verified is None else verified.principal).dump()
    body = encode_json({"user": user, **_server_info(state.settings)})
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


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
