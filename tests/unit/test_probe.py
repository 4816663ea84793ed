from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from hypha.server.ports import free_port
from hypha_common.cli import Run, ServiceCli
from hypha_common.settings import Settings
from hypha_common.telemetry import serve_status
from tests.fixtures.commands import Completed, run_command

_SERVICES = ["hypha_apps", "hypha_artifacts", "hypha_auth", "hypha_browser_worker", "hypha_gateway", "hypha_workspace"]


def _cli() -> ServiceCli:
    async def run(settings: Settings, stop: asyncio.Event) -> None:
        raise AssertionError("not served in these tests")

    def service() -> Run:
        return run

    return ServiceCli("auth", run=service, requires=("nats_url",))


async def _probe(
    missing: Callable[[], list[str]], capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Return status, output and errors of a probe of a process that misses something."""
    port = free_port()
    server = await serve_status(Settings.load({"metrics_port": port}, environ={}), missing, role="auth")
    assert server is not None
    async with server:
        flags = [f"--metrics-port={port}", "--metrics-host=0.0.0.0"]
        status = await asyncio.to_thread(_cli().main, ["probe", *words, *flags])
    out, err = capsys.readouterr()
    return status, out, err


async def test_a_ready_service(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0 and a sentence, asked at loopback although it listens everywhere."""
    assert await _probe(list, capsys) == (0, "the auth service is ready\n", "")
    assert await _probe(list, capsys, "liveness") == (0, "the auth service is alive\n", "")


async def test_a_service_that_is_not_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1 and what is missing; it is alive all the same."""
    status, out, err = await _probe(lambda: ["bus disconnected"], capsys, "readiness")
    assert (status, out, err) == (1, "", "hypha-auth: the auth service is not ready: bus disconnected\n")
    assert (await _probe(lambda: ["bus disconnected"], capsys, "liveness"))[0] == 0


def test_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert _cli().main(["probe", f"--metrics-port={port}"]) == 1
    assert f"nobody answers at 127.0.0.1:{port}" in capsys.readouterr().err


def test_there_is_no_port_to_ask_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli().main(["probe", "--metrics-port=0"]) == 1
    assert "metrics_port is 0; set HYPHA_METRICS_PORT" in capsys.readouterr().err


async def test_somebody_else_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """What speaks no HTTP is not taken for a service."""

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"INFO {}\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(_cli().main, ["probe", f"--metrics-port={port}"]) == 1
    assert "is no service of this cluster" in capsys.readouterr().err


def test_only_what_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _cli().main(["probe", "health"])
    assert "invalid choice: 'health'" in capsys.readouterr().err


@pytest.mark.parametrize("module", [*_SERVICES, "hypha.startup"])
async def test_every_service_has_it(module: str) -> None:
    """Of a cluster that does not run: status 1 and one sentence."""
    port = {"HYPHA_PORT" if module == "hypha_gateway" else "HYPHA_METRICS_PORT": str(free_port())}
    done: Completed = await run_command(module, "probe", "liveness", environ=port)
    assert done.status == 1 and not done.out
    assert re.fullmatch(r"hypha-[a-z-]+: nobody answers at 127\.0\.0\.1:\d+: Connection refused\n", done.err)


@pytest.mark.parametrize("module", [*_SERVICES, "hypha.startup"])
def test_it_imports_little(module: str) -> None:
    """It runs every few seconds in every container: nothing of third parties is imported for it."""
    code = f"import sys; import {module}.cli; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"aiohttp", "asyncpg", "hypercorn", "jwt", "nats", "prometheus_client", "sqlalchemy", "starlette"}
    assert not heavy & set(done.stdout.split())


def test_it_starts_quickly() -> None:
    """In 150 ms of a processor that has nothing else to do; here it may have, so the best of several counts."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "hypha_gateway", "probe", f"--port={free_port()}"], capture_output=True, check=False
        )
        times.append(time.perf_counter() - began)
    assert min(times) < 0.5
