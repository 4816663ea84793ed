from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypha_artifacts.cli import build
from hypha_common.bus import Bus
from hypha_common.settings import Settings

_GIVEN = {
    "HYPHA_NATS_URL": "nats://n:4222",
    "HYPHA_DATABASE_URL": "postgresql://d/h",
    "HYPHA_JWT_SECRET": "s" * 32,
    "HYPHA_ENDPOINT_URL": "http://s3:9000",
    "HYPHA_ACCESS_KEY_ID": "key",
    "HYPHA_SECRET_ACCESS_KEY": "secret-of-the-store",
}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment without HYPHA_* variables."""
    for name in list(os.environ):
        if name.startswith("HYPHA_"):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("missing", _GIVEN)
def test_missing_setting_is_named(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, missing: str
) -> None:
    """Before anything starts, by `check-config` and by `serve`."""
    environ.setenv("HYPHA_DATA_DIR", str(tmp_path))  # where no cluster runs
    for name, value in _GIVEN.items():
        if name != missing:
            environ.setenv(name, value)
    for command in ("check-config", "serve"):
        assert build().main([command]) == 1
        assert f"is missing: set {missing}" in capsys.readouterr().err


def test_configuration_is_shown_without_secrets(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in _GIVEN.items():
        environ.setenv(name, value)
    assert build().main(["check-config"]) == 0
    shown = capsys.readouterr().out
    assert "endpoint_url = http://s3:9000  (environment HYPHA_ENDPOINT_URL)" in shown
    assert "secret-of-the-store" not in shown


@pytest.fixture
def status_url(stack: Settings, tmp_path: Path) -> Iterator[str]:
    """A process of its own, as operators run one: `hypha-artifacts serve`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HYPHA_")}
    environ: Mapping[str, str] = {**inherited, **stack.replace(metrics_port=port).environment()}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "hypha_artifacts", "serve"], env=environ, stderr=log)
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, (tmp_path / "log").read_text()


async def test_status_port(stack: Settings, status_url: str) -> None:
    """Alive at once, ready when everything is there and clients can find it; with metrics."""
    async with httpx.AsyncClient(base_url=status_url) as http:
        text = await _readiness(http, "is not announced")
        assert "public/hypha-artifacts is not announced" in text
        bus = Bus.from_settings(stack, "workspace", on_fatal=lambda reason: None)
        await bus.connect()
        try:
            await bus.serve("workspace", "announce", _announced)
            await _readiness(http, '"OK"')
        finally:
            await bus.close()
        assert (await http.get("/health/liveness")).status_code == 200
        assert "eventloop_lag_seconds" in (await http.get("/metrics")).text


async def _readiness(http: httpx.AsyncClient, wanted: str) -> str:
    """Wait until the process says that of itself."""
    deadline = time.monotonic() + 30
    text = ""
    while wanted not in text:
        assert time.monotonic() < deadline, text
        with suppress(httpx.TransportError):
            text = (await http.get("/health/readiness")).text
        await asyncio.sleep(0.05)
    return text


async def _announced(message: dict[str, Any]) -> dict[str, int]:
    return {"services": len(message["services"])}
