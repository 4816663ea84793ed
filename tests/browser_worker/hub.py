"""A browser worker in the test process, and as much of a hub as the pages of its apps need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from hypha_browser_worker.chromium import find_chromium
from hypha_browser_worker.worker import BrowserWorker
from hypha_common.settings import Settings

__all__ = ["TOKEN", "Hub", "browser_worker", "hub"]

TOKEN = "the-token-of-the-instance"
_FILES = "/{workspace}/artifacts/{app}/files/{path:.*}"
_SANDBOX = "sandbox allow-scripts"  # what the gateway sends with everything that may run scripts


class Hub:
    """Files of apps for whoever has the token, as a gateway serves them, and whatever a test adds."""

    def __init__(self) -> None:
        self.files: dict[str, str | bytes] = {}  # by workspace/app/path
        self.pages: dict[str, web.StreamResponse] = {}  # by path; for everybody
        self.requests: list[web.Request] = []
        self.url = ""

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    async def file(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=403, text="Permission denied")
        place = request.match_info
        content = self.files.get(f"{place['workspace']}/{place['app']}/{place['path']}")
        if content is None:
            return web.Response(status=404, text="not found")
        kind = "text/html" if place["path"].endswith(".html") else "text/javascript"
        return web.Response(body=content, content_type=kind, headers={"Content-Security-Policy": _SANDBOX})

    async def other(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.headers.get("Upgrade"):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for _ in socket:
                pass
            return socket
        page = self.pages.get(request.path)
        if isinstance(page, web.Response):
            return web.Response(status=page.status, headers=page.headers, body=page.body)
        return web.Response(status=404)

    def config(self, app: str = "app", script: str = "", **options: Any) -> dict[str, Any]:
        """Return what a start is asked with, of an app whose page runs ``script``; ``manifest`` adds to it."""
        manifest: Mapping[str, Any] = options.pop("manifest", {})
        workspace = options.get("workspace", "ws-user-ada")
        page = f"<!doctype html><title>{app}</title><p>hello</p><script>{script}</script>"
        self.files.setdefault(f"{workspace}/{app}/index.html", page)
        client_id = options.get("client_id", f"_rapp_{app}__rlb")
        return {
            "id": f"{workspace}/{client_id}",
            "workspace": workspace,
            "client_id": client_id,
            "app_id": app,
            "token": TOKEN,
            "server_url": self.url,
            "entry_point": manifest.get("entry_point", "index.html"),
            "timeout": 30,
            "manifest": {"name": app, "type": "window", "entry_point": "index.html", **manifest},
            **options,
        }


@asynccontextmanager
async def hub() -> AsyncIterator[Hub]:
    """Serve a hub on loopback."""
    served, app = Hub(), web.Application()
    app.router.add_route("*", _FILES, served.file)
    app.router.add_route("*", "/{path:.*}", served.other)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    served.url = f"http://{host}:{port}"
    yield served
    await runner.cleanup()


@asynccontextmanager
async def browser_worker(
    hub: Hub, *, alone_limit_s: float = 300.0, idle_s: float = 300.0, **settings: Any
) -> AsyncIterator[BrowserWorker]:
    """Run a worker for a hub, with settings."""
    made = Settings.load(settings, environ={})
    worker = BrowserWorker(
        made, server_url=hub.url, executable=find_chromium(made), alone_limit_s=alone_limit_s, idle_s=idle_s
    )
    await worker.open()
    try:
        yield worker
    finally:
        await worker.shutdown()
