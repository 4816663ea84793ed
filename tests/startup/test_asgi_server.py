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
