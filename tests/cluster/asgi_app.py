"""A FastAPI application as somebody would write it, served through the hub by the helper of ``hypha-rpc``."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Cookie, FastAPI, HTTPException, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from hypha_rpc import connect_to_server
from hypha_rpc.utils.serve import register_asgi_service

__all__ = ["Application", "Shop", "application", "serving"]

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Shop:
    """The application, and what a test sees of its inside."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.next_chunk = asyncio.Event()  # lets the stream go on
        self.left: asyncio.Queue[str] = asyncio.Queue()  # what ended because its client had left
        self.contexts: list[dict[str, Any]] = []
        self.scopes: list[dict[str, Any]] = []
        _add_routes(self)
        _add_sockets(self)

    async def check(self, context: Mapping[str, Any], scope: dict[str, Any], **_: Any) -> None:
        """What the helper calls before each request."""
        self.contexts.append(dict(context))
        self.scopes.append(dict(scope))  # frameworks add to it


def _add_routes(shop: Shop) -> None:
    app = shop.app

    @app.get("/")
    async def index() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/items/{name}")
    async def item(name: str, request: Request, q: str = "") -> dict[str, Any]:
        return {"name": name, "q": q, "path": request.url.path, "root": request.scope["root_path"]}

    @app.post("/items")
    async def add(item: dict[str, Any]) -> dict[str, Any]:
        return {"added": item}

    @app.api_route("/method", methods=["GET", "PUT", "PATCH", "DELETE", "OPTIONS"], include_in_schema=False)
    async def method(request: Request, response: Response) -> str:
        response.headers["X-Method"] = request.method
        return request.method

    @app.post("/form")
    async def form(request: Request) -> dict[str, Any]:
        fields = parse_qs((await request.body()).decode())
        return {"type": request.headers["content-type"], **fields}

    @app.get("/cookies")
    async def cookies(request: Request, response: Response, seen: Annotated[str, Cookie()] = "") -> dict[str, Any]:
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return {"seen": seen, "all": request.headers.get("cookie"), "x": request.headers.get("x-custom")}

    @app.get("/missing")
    async def missing() -> None:
        raise HTTPException(418, "no tea")

    @app.get("/crash")
    async def crash() -> None:
        raise ValueError("bad thing")

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, Any]:
        digest, sizes = hashlib.sha256(), []
        async for chunk in request.stream():
            digest.update(chunk)
            sizes.append(len(chunk))
        return {"sha256": digest.hexdigest(), "size": sum(sizes), "largest": max(sizes, default=0)}

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/octet-stream")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(_chunks(shop), media_type="text/plain")

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(_events(shop), media_type="text/event-stream")

    @app.get("/large")
    async def large(size: int) -> Response:
        return Response(b"x" * size)


async def _chunks(shop: Shop) -> AsyncIterator[str]:
    for number in range(4):
        yield f"chunk {number}\n"
        await shop.next_chunk.wait()
        shop.next_chunk.clear()


async def _events(shop: Shop) -> AsyncIterator[str]:
    try:
        for number in range(1_000_000):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.01)
    finally:
        shop.left.put_nowait("events")


def _add_sockets(shop: Shop) -> None:
    app = shop.app

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        offered = socket.scope["subprotocols"]
        await socket.accept(offered[-1] if offered else None, headers=[(b"x-seen", b"yes")])
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    shop.left.put_nowait(f"{message['code']} {message.get('reason')}")
                    return
                if message.get("text") is not None:
                    await socket.send_text(message["text"])
                else:
                    await socket.send_bytes(message["bytes"])
        except WebSocketDisconnect:
            pass

    @app.websocket("/close")
    async def close(socket: WebSocket, code: int = 1000) -> None:
        await socket.accept()
        await socket.close(code, "enough")

    @app.websocket("/deny")
    async def deny(socket: WebSocket) -> None:
        await socket.close()

    @app.websocket("/explain")
    async def explain(socket: WebSocket) -> None:
        await socket.send_denial_response(Response("not today", 409, headers={"X-Why": "tuesday"}))

    @app.websocket("/crash")
    async def crash(socket: WebSocket, late: bool = False) -> None:
        if late:
            await socket.accept()
        raise ValueError("bad thing")

    @app.websocket("/flood")
    async def flood(socket: WebSocket, size: int, count: int) -> None:
        await socket.accept()
        for _ in range(count):
            await socket.send_bytes(b"x" * size)
        await socket.close()


@asynccontextmanager
async def serving(
    url: str, *, service: str = "shop", token: str = "", shop: Shop | None = None, **options: Any
) -> AsyncIterator[tuple[Shop, str]]:
    """Serve the application at one gateway; yields it and its path, such as ``/ws-user-ada/apps/shop``."""
    shop = shop or Shop()
    async with connect_to_server({"server_url": url, **({"token": token} if token else {})}) as server:
        await register_asgi_service(server, service, shop.app, **options)
        yield shop, f"/{server.config.workspace}/apps/{service}"


@asynccontextmanager
async def application(url: str, app: Application) -> AsyncIterator[str]:
    """Serve a bare ASGI application; yields its path."""

    async def serve(args: dict[str, Any]) -> None:
        await app(args["scope"], args["receive"], args["send"])

    async with connect_to_server({"server_url": url}) as server:
        await server.register_service({"id": "app", "type": "ASGI", "config": {"visibility": "public"}, "serve": serve})
        yield f"/{server.config.workspace}/apps/app/"
