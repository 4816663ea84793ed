"""A FastAPI application with its page, opened in Chromium through the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, StreamingResponse
from hypha_rpc import connect_to_server
from hypha_rpc.utils.serve import register_asgi_service
from playwright.async_api import Browser

from tests.cluster.running_cluster import RunningCluster

pytestmark = pytest.mark.browser

_PAGE = """<!doctype html>
<title>shop</title>
<h1 id="greeting">hello</h1>
<script type="module">
const log = [];
const answer = await fetch("stream");
const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
for (;;) {
  const {value, done} = await reader.read();
  if (done) break;
  log.push(value);
  await fetch("next", {method: "POST"});  // the next piece is made only now
}
const body = new Uint8Array(50 * 1024 * 1024).fill(7);
const uploaded = await (await fetch("upload", {method: "POST", body})).json();
const events = await new Promise((resolve) => {
  const source = new EventSource("events"), seen = [];
  source.onmessage = (event) => { seen.push(event.data); if (seen.length === 3) { source.close(); resolve(seen) } };
});
const socket = new WebSocket(new URL("socket", location.href.replace("http", "ws")), ["chat"]);
socket.binaryType = "arraybuffer";
const echoed = await new Promise((resolve, reject) => {
  const seen = [];
  socket.onopen = () => { socket.send("gr\\u00fc\\u00df"); socket.send(new Uint8Array([1, 2, 255])) };
  socket.onerror = () => reject(new Error("websocket"));
  socket.onmessage = ({data}) => {
    seen.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
    if (seen.length === 2) { socket.send("close") }
  };
  socket.onclose = ({code, reason}) => resolve([...seen, socket.protocol, code, reason]);
});
window.report = {log, uploaded, events, echoed, cookie: document.cookie};
</script>
"""


def make_app() -> FastAPI:
    app, go_on = FastAPI(), asyncio.Event()

    @app.get("/", response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        answer = HTMLResponse(_PAGE)
        answer.set_cookie("visited", "yes")
        return answer

    async def pieces() -> AsyncIterator[str]:
        for number in range(3):
            yield f"piece {number}"
            await go_on.wait()
            go_on.clear()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(pieces(), media_type="text/plain")

    @app.post("/next")
    async def go() -> None:
        go_on.set()

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, int]:
        sizes = [len(chunk) async for chunk in request.stream()]
        return {"size": sum(sizes), "pieces": min(len(sizes), 2)}

    async def count() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            number += 1
            await asyncio.sleep(0.01)

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(count(), media_type="text/event-stream")

    @app.websocket("/socket")
    async def socket(socket: WebSocket) -> None:
        await socket.accept("chat")
        await socket.send_text(await socket.receive_text())
        await socket.send_bytes(await socket.receive_bytes())
        await socket.receive_text()
        await socket.close(4002, "as you like")

    return app


@asynccontextmanager
async def shop(url: str, token: str) -> AsyncIterator[str]:
    async with connect_to_server({"server_url": url, "token": token}) as server:
        await register_asgi_service(server, "shop", make_app())
        yield f"/{server.config.workspace}/apps/shop"


async def test_a_page_that_does_it_all(two_gateways: RunningCluster, browser: Browser) -> None:
    """Its script streams, uploads 50 MB, hears events and talks over a websocket; the application is elsewhere."""
    page = await browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    async with shop(two_gateways.gateway_urls[0], two_gateways.user_token()) as path:
        await page.goto(f"{two_gateways.gateway_urls[1]}{path}")
        assert page.url.endswith("/apps/shop/")
        await page.wait_for_function("window.report", timeout=90_000)
        report = await page.evaluate("window.report")
    await page.close()
    assert errors == []
    assert report == {
        "log": ["piece 0", "piece 1", "piece 2"],
        "uploaded": {"size": 50 * 2**20, "pieces": 2},
        "events": ["0", "1", "2"],
        "echoed": ["gr\u00fc\u00df", [1, 2, 255], "chat", 4002, "as you like"],
        "cookie": "visited=yes",
    }
