from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .processes import Process, ProcessTree
from .server_kinds import ServerKind

__all__ = ["ServerProcess", "start_server"]

HOST = "127.0.0.1"
_STOP_S = 15.0


class ServerProcess:
    """A server started for a measurement, ready to be used."""

    def __init__(self, kind: ServerKind, port: int, gateways: int, process: subprocess.Popen[bytes]) -> None:
        self.kind = kind
        self.pid = process.pid
        self.ready_s = 0.0
        self._port = port
        self._gateways = gateways
        self._process = process

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    @property
    def peer_url(self) -> str:
        """The last gateway; gateways listen on consecutive ports."""
        return f"http://{HOST}:{self._port + self._gateways - 1}"

    def wait_until_ready(self, started: float, timeout_s: float) -> None:
        for port in range(self._port, self._port + self._gateways):
            while not _is_ready(port, self.kind.ready_path):
                if self._process.poll() is not None:
                    raise RuntimeError(f"{self.kind.name} ended with {self._process.returncode} before it was ready")
                if time.perf_counter() - started > timeout_s:
                    raise RuntimeError(f"{self.kind.name} was not ready within {timeout_s} s")
                time.sleep(0.02)
        self.ready_s = time.perf_counter() - started

    def stop(self) -> None:
        """Ask the server to stop, then end what is left of its processes."""
        known = ProcessTree([self.pid]).processes()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in known:
            if _is_same(process):
                os.kill(process.pid, signal.SIGKILL)


@contextmanager
def start_server(
    kind: ServerKind, data_dir: Path, *, gateways: int = 1, timeout_s: float = 60
) -> Iterator[ServerProcess]:
    if not kind.is_installed():
        raise RuntimeError(f"{kind.name} is not installed: see python -m benchmarks.prepare_rivals --help")
    port = _free_ports(gateways)
    kind.prepare(data_dir, port)
    with (data_dir / "output.log").open("ab") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            kind.command(port=port, data_dir=data_dir, gateways=gateways),
            env=os.environ | kind.environment,
            cwd=data_dir,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = ServerProcess(kind, port, gateways, process)
    try:
        server.wait_until_ready(started, timeout_s)
        yield server
    finally:
        server.stop()


def _free_ports(count: int) -> int:
    """The first of ``count`` consecutive ports that nobody listens on."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            first = int(probe.getsockname()[1])
        if first + count < 65536 and all(_is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _is_same(process: Process) -> bool:
    """Whether the pid still means the process that was seen, and not a later one."""
    running = {other.pid: other for other in ProcessTree([process.pid]).processes()}
    return process.pid in running and running[process.pid].started == process.started
