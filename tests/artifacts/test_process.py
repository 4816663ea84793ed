from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from hypha_artifacts.cli import build
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


def test_status_port(status_url: str) -> None:
    """Alive at once, ready when everything is there; with metrics."""
    deadline = time.monotonic() + 30
    status = 0
    while status != 200:
        assert time.monotonic() < deadline
        with suppress(httpx.TransportError):
            status = httpx.get(f"{status_url}/health/readiness").status_code
        time.sleep(0.05)
    assert httpx.get(f"{status_url}/health/liveness").status_code == 200
    assert "eventloop_lag_seconds" in httpx.get(f"{status_url}/metrics").text
