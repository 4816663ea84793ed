"""The example of docs/how-to/web-services.md, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect as connect_websocket

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect
from tests.fixtures.scripts import StartScript

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "web-services.md"


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def test_application(cluster: RunningCluster, start_script: StartScript) -> None:
    code = examples()[0].replace("https://hub.example.org", cluster.url).replace("…", cluster.user_token())
    script = await start_script(code)
    path = (await script.line(r"Serving at (\S+)/$"))[1]
    async with httpx.AsyncClient(base_url=cluster.url) as http:
        assert (await http.get(f"{path}/hello/Ada")).json() == {"message": "Hello Ada"}
        assert (await http.get(f"{path}/countdown")).text == "3\n2\n1\n"
    async with connect_websocket(f"{cluster.url.replace('http', 'ws', 1)}{path}/echo") as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_functions(cluster: RunningCluster, connect: Connect) -> None:
    server = await connect()
    function, register = examples()[1].split("await server.register_service(", 1)
    names: dict[str, object] = {}
    exec(function, names)
    await server.register_service(eval(register.rstrip().removesuffix(")"), names))
    async with httpx.AsyncClient(base_url=cluster.url) as http:
        answer = await http.get(f"/{server.config.workspace}/apps/site/")
    assert (answer.text, answer.headers["content-type"]) == ("<h1>/</h1>", "text/html")


_JAVASCRIPT = """
import { hyphaWebsocketClient } from "hypha-rpc";
const server = await hyphaWebsocketClient.connectToServer({ server_url: "{url}", token: "{token}" });
await server.registerService({
  id: "app",
  type: "asgi",
  config: { visibility: "public" },
  serve: async ({ scope, receive, send }) => {
    const event = await receive();
    const headers = [["content-type", "text/plain"], ["x-path", scope.path]];
    await send({ type: "http.response.start", status: 201, headers });
    await send({ type: "http.response.body", body: "text ", more_body: true });
    await send({ type: "http.response.body", body: event.body });
  },
});
console.log(`Serving at /${server.config.workspace}/apps/app/`);
"""


@pytest.mark.node
async def test_application_in_javascript(cluster: RunningCluster, start_script: StartScript) -> None:
    """Text does for bytes, and the scope is a plain object."""
    code = _JAVASCRIPT.replace("{url}", cluster.url).replace("{token}", cluster.user_token())
    script = await start_script(code, language="js")
    path = (await script.line(r"Serving at (\S+)/$"))[1]
    async with httpx.AsyncClient(base_url=cluster.url) as http:
        answer = await http.post(f"{path}/a%20b", content=b"and bytes \xff")
    assert (answer.status_code, answer.content) == (201, b"text and bytes \xff")
    assert answer.headers["x-path"] == "/a b"
