from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import httpx
import psutil
import pytest
from hypha_rpc import connect_to_server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.cluster.running_cluster import RunningCluster

StartCluster: TypeAlias = Callable[..., RunningCluster]

MAX_IDLE_BYTES = 400 * 2**20


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
        return status
    except (OSError, TimeoutError):
        return 0


def _until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _resident(processes: list[psutil.Process]) -> int:
    """Return the bytes that belong to these processes; what they share counts once."""
    return sum(process.memory_full_info().pss for process in processes)


def test_readiness(cluster: RunningCluster) -> None:
    """Ready means that requests are answered."""
    assert _status(f"{cluster.url}/health/readiness") == 200
    assert _status(f"{cluster.url}/health/liveness") == 200


def test_memory(cluster: RunningCluster) -> None:
    """The promise for the whole cluster, databases included."""
    assert _resident(cluster.tree()) < MAX_IDLE_BYTES


def test_several_gateways(two_gateways: RunningCluster) -> None:
    """Each listens at its own port, all tell clients the same address."""
    assert len(two_gateways.gateway_urls) == 2
    assert all(_status(f"{url}/health/readiness") == 200 for url in two_gateways.gateway_urls)
    counts = {role: len(pids) for role, pids in two_gateways.pids.items()}
    assert counts == {
        "server": 1,
        "nats": 1,
        "postgres": 1,
        "gateway": 2,
        "auth": 2,
        "workspace": 2,
        "artifacts": 2,
        "s3": 1,
    }


def test_second_start_on_the_same_data_directory(cluster: RunningCluster) -> None:
    """It says who holds the directory, and ends."""
    done = _run("--port=0", f"--data-dir={cluster.data_dir}")
    assert done.returncode == 1
    assert f"is in use by another server (process {cluster.process.pid})" in done.stderr


def test_second_start_on_the_same_port(cluster: RunningCluster, tmp_path: Path) -> None:
    """It says which port, and leaves no data directory behind."""
    port = cluster.url.rpartition(":")[2]
    done = _run(f"--port={port}", f"--data-dir={tmp_path / 'd'}")
    assert done.returncode == 1
    assert f"Port {port} at 127.0.0.1 is in use" in done.stderr
    assert not (tmp_path / "d").exists()


def test_secrets_are_in_no_command_line(cluster: RunningCluster) -> None:
    """Everybody on a machine can list processes."""
    secrets = [cluster.root_token, *json.loads((cluster.data_dir / "secrets.json").read_text()).values()]
    lines = [" ".join(process.cmdline()) for process in cluster.tree()]
    assert not [secret for secret in secrets if any(secret in line for line in lines)]


def test_stores_need_a_password(cluster: RunningCluster) -> None:
    """Other users of the machine may reach loopback."""
    config = (cluster.data_dir / "nats.conf").read_text()
    found = re.search(r"listen: 127.0.0.1:(\d+)", config)
    assert found is not None
    with socket.create_connection(("127.0.0.1", int(found[1])), timeout=5) as nats:
        nats.recv(4096)
        nats.sendall(b"CONNECT {}\r\nPING\r\n")
        assert b"Authorization Violation" in nats.recv(4096)
    assert (cluster.data_dir / "postgres" / "pg_hba.conf").read_text() == "host all all 127.0.0.1/32 scram-sha-256\n"


def test_restart_keeps_the_data_directory(start_cluster: StartCluster, tmp_path: Path) -> None:
    """A later start finds secrets and tables again. Ctrl-C ends it with status 0."""
    first = start_cluster(data_dir=tmp_path / "d")
    secrets = (tmp_path / "d" / "secrets.json").read_text()
    assert first.stop() == 0
    second = start_cluster(data_dir=tmp_path / "d")
    assert (tmp_path / "d" / "secrets.json").read_text() == secrets
    assert second.stop(signal.SIGTERM) == 0


def test_killed_supervisor_leaves_no_process(start_cluster: StartCluster, tmp_path: Path) -> None:
    """Not even after SIGKILL, and the next start on the same data works, at once."""
    start_cluster(data_dir=tmp_path / "d").stop(signal.SIGKILL)
    assert start_cluster(data_dir=tmp_path / "d").stop() == 0


def test_start_right_after_a_kill(start_cluster: StartCluster, tmp_path: Path) -> None:
    """What the killed one left is still stopping: it is waited for."""
    first = start_cluster(data_dir=tmp_path / "d")
    first.process.kill()
    first.process.wait()
    start_cluster(data_dir=tmp_path / "d")


@pytest.mark.parametrize("role", ["gateway", "auth", "workspace", "nats", "postgres"])
def test_a_process_that_dies_is_started_again(start_cluster: StartCluster, role: str) -> None:
    """With a log line, and the cluster is ready again by itself."""
    cluster = start_cluster()
    [pid] = cluster.pids[role]
    os.kill(pid, signal.SIGKILL)
    _until(lambda: cluster.pids.get(role, [pid]) != [pid])
    _until(lambda: _status(f"{cluster.url}/health/readiness") == 200)
    assert '"event": "process_ended"' in cluster.log
    assert cluster.stop() == 0


def test_signal_while_starting(start_cluster: StartCluster) -> None:
    """Ctrl-C does not wait for the start to end."""
    cluster = start_cluster(wait=False)
    _until(lambda: "nats" in cluster.pids)
    processes = cluster.tree()[1:]
    assert cluster.stop() == 0
    assert not [process for process in processes if process.is_running()]


def test_under_an_asgi_server(tmp_path: Path) -> None:
    """``uvicorn hypha.server:app`` is the same cluster, with the gateway in uvicorn's process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "hypha.server:app", "--host=127.0.0.1", f"--port={port}"]
    environ = {**_environment(), "HYPHA_DATA_DIR": str(tmp_path / "d")}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=log, stderr=log)
    try:
        _until(lambda: server.poll() is not None or "startup complete" in (tmp_path / "log").read_text(), 60)
        assert _status(f"http://127.0.0.1:{port}/health/readiness") == 200, (tmp_path / "log").read_text()
        asyncio.run(_call_over_a_stream(f"http://127.0.0.1:{port}"))
        children = psutil.Process(server.pid).children(recursive=True)
        assert not [child for child in children if "hypha_gateway" in " ".join(child.cmdline())]
        httpx.get(f"http://127.0.0.1:{port}/rpc?client_id=a&reconnection_token=s3cret-token")
        with connect(f"ws://127.0.0.1:{port}/ws?token=s3cret-token") as websocket, suppress(ConnectionClosed):
            websocket.recv(timeout=5)
        shown = (tmp_path / "log").read_text()
        assert "/rpc?client_id=a&reconnection_token=********" in shown  # uvicorn's log of requests
        assert "/ws?token=********" in shown
        assert "s3cret-token" not in shown
        stream = urllib.request.urlopen(f"http://127.0.0.1:{port}/rpc", timeout=15)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    with stream:
        assert b"Server is shutting down" in stream.read()  # to its end
    assert not [child for child in children if child.is_running()]


async def _call_over_a_stream(url: str) -> None:
    """Use the HTTP transport."""
    async with (
        connect_to_server({"server_url": url, "transport": "http"}) as provider,
        connect_to_server({"server_url": url}) as caller,
    ):
        registered = await provider.register_service(
            {"id": "s", "config": {"visibility": "public"}, "call": lambda data: len(data)}
        )
        assert await (await caller.get_service(registered.id)).call(bytes(2**20)) == 2**20


def test_asgi_server_and_environment_disagree(tmp_path: Path) -> None:
    """Before anything starts."""
    environ = {**_environment(), "HYPHA_PORT": "1234"}
    command = [sys.executable, "-m", "uvicorn", "hypha.server:app", "--port=4321"]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "ValueError: HYPHA_PORT=1234 contradicts the command line of the ASGI server" in done.stderr


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HYPHA_")}


def _run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hypha.server", *flags]
    return subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=30)
