from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from hypha_rpc import connect_to_server
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.cluster.asgi_app import serving

START_TIMEOUT_S = 60.0


@pytest.fixture
def url(functions: Path, tmp_path: Path) -> Iterator[str]:
    """``python -m uvicorn hypha.server:app --host --port`` with two functions from the environment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "hypha.server:app", "--host=0.0.0.0", f"--port={port}"]
    names = "./example-startup-function.py:hypha_startup ./example-startup-function2.py:hypha_startup"
    environ = {"HYPHA_DATA_DIR": str(tmp_path / "d"), "HYPHA_STARTUP_FUNCTIONS": names}
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environ, cwd=functions, stdout=output, stderr=output)
    deadline = time.monotonic() + START_TIMEOUT_S
    while "startup complete" not in log.read_text():
        assert server.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    children = psutil.Process(server.pid).children(recursive=True)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    assert server.wait(30) in (0, -15)
    assert not [child for child in children if child.is_running()]


async def test_startup_functions(url: str) -> None:
    """They have run when the server listens, and can launch programs that connect meanwhile."""
    async with httpx.AsyncClient(base_url=f"{url}/public/services", timeout=20) as http:
        assert (await http.get("/test-service/test", params={"x": 1})).status_code == 200
        assert (await http.get("/second/about", params={"name": "public_base_url"})).json() == url
        assert (await http.get("/second/launch")).json() == "launched"
    async with connect_to_server({"server_url": url}) as client:
        assert (await client.get_service("public/second")).id == "public/hypha:second"


async def test_web_services(url: str) -> None:
    """Another server's requests and websockets reach clients' applications all the same."""
    async with serving(url) as (app, path), httpx.AsyncClient(base_url=url, timeout=20) as http:
        body = b"x" * 5_000_000
        assert (await http.post(f"{path}/upload", content=body)).json()["size"] == len(body)
        async with http.stream("GET", f"{path}/events") as answer:
            async for line in answer.aiter_lines():
                if line == "data: 3":
                    break
        assert await app.left.get() == "events"
        address = f"{url.replace('http', 'ws', 1)}{path}"
        async with connect(f"{address}/echo", subprotocols=["a"]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "a"
            for message in ("text", b"bytes"):
                await socket.send(message)
                assert await socket.recv() == message
            await socket.close(4001)
        assert (await app.left.get()).startswith("4001 ")
        with pytest.raises(InvalidStatus) as denied:
            await connect(f"{address}/explain")
        assert denied.value.response.status_code == 409
        async with connect(f"{address}/crash?late=1") as socket:
            with pytest.raises(ConnectionClosed) as end:
                await socket.recv()
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == 1011
