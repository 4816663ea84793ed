from __future__ import annotations

import atexit
import functools
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from hypha.server.data_directory import DataDirectory
from hypha_common.ids import new_id, personal_workspace
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.tokens import TokenCodec

__all__ = ["RunningCluster", "error_lines", "new_data_dir"]

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0

# Everything in the tests comes from one address and one user; tests of the limits set their own.
_UNLIMITED = {
    "HYPHA_HTTP_RATE_LIMIT": "1000000",
    "HYPHA_HTTP_BURST_LIMIT": "1000000",
    "HYPHA_HTTP_AUTHENTICATED_RATE_LIMIT": "1000000",
    "HYPHA_HTTP_AUTHENTICATED_BURST_LIMIT": "1000000",
    "HYPHA_WS_MSG_RATE_LIMIT": "1000000",
    "HYPHA_WS_MSG_BURST_LIMIT": "1000000",
    "HYPHA_MAX_CONNECTIONS_PER_USER": "100000",
    "HYPHA_MAX_CLIENTS_PER_WORKSPACE": "100000",
    "HYPHA_LOG_LEVEL": "INFO",
    "HYPHA_PRINT_CONFIG": "false",
}


class RunningCluster:
    """
    ``python -m hypha.server`` in a process of its own, as a user starts it.

    ``flags`` and ``environ`` add to what tests need; ``data_dir`` defaults to a copy of one that was started once,
    removed by :meth:`stop`, and the working directory ``cwd`` to a new one. Most tests need no ``storage``.

    """

    def __init__(
        self,
        *flags: str,
        environ: Mapping[str, str] | None = None,
        data_dir: Path | None = None,
        wait: bool = True,
        cwd: Path | None = None,
        storage: bool = False,
    ) -> None:
        self._temporary = Path(tempfile.mkdtemp(prefix="hypha-test-"))
        self.data_dir = data_dir or self._temporary / "data"
        if data_dir is None:
            new_data_dir(self.data_dir)
        self.root_token = secrets.token_hex(32)
        self.gateway_urls: list[str] = []
        self.log_file = self._temporary / "server.log"
        without = {} if storage else {"HYPHA_DISABLE_S3": "true"}
        self.process = self._start(flags, {**without, **(environ or {})}, cwd or self._temporary)
        self._known: list[psutil.Process] = []
        if wait:
            self.wait_until_ready()

    @property
    def url(self) -> str:
        """The address of the first gateway."""
        return self.gateway_urls[0]

    @property
    def log(self) -> str:
        """What the supervisor and the services wrote so far."""
        return self.log_file.read_text()

    @property
    def pids(self) -> dict[str, list[int]]:
        """Processes by role: gateway (in the order of their ports), auth, workspace, artifacts, nats, postgres, s3 …"""
        found: dict[str, list[tuple[str, int]]] = {"server": [("", self.process.pid)]}
        for process in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # one that ended this moment
                role = _role(process.cmdline())
                found.setdefault(role, []).append((process.environ().get("HYPHA_PORT", ""), process.pid))
        return {role: [pid for _, pid in sorted(processes)] for role, processes in found.items()}

    def errors(self) -> list[str]:
        """Return the log lines of what the server regards as its own fault."""
        return error_lines(self.log)

    def violations(self) -> list[str]:
        """Return what our NATS server refused: whoever is given a user of its own must be able to do its work."""
        with suppress(FileNotFoundError):
            log = (self.data_dir / "logs" / "nats.log").read_text(errors="replace")
            return [line for line in log.splitlines() if " Violation - " in line]
        return []

    def user_token(self, name: str = "") -> str:
        """Return the token of a registered user, as an identity provider would let them log in."""
        user = name or f"user-{new_id(8).lower()}"
        scope = Scope(workspaces={personal_workspace(user): Permission.ADMIN})
        return self.token_of(Principal(id=user, roles=("user",), email=f"{user}@example.org", scope=scope))

    def token_of(self, principal: Principal) -> str:
        """Return a token of this cluster for somebody."""
        return TokenCodec(DataDirectory(self.data_dir).read_secrets().jwt_secret).sign(principal, life_s=3600)

    def tree(self) -> list[psutil.Process]:
        """Return every process of the cluster, descendants included."""
        server = psutil.Process(self.process.pid)
        return [server, *server.children(recursive=True)]

    def wait_until_ready(self) -> None:
        """Read the addresses that the server prints once it answers."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while " is ready at " not in self.output:
            if self.process.poll() is not None or time.monotonic() > deadline:
                output = self.output + self.log
                self.stop()
                raise AssertionError(f"the cluster did not come up:\n{output}")
            time.sleep(0.02)
        words = [line.split() for line in self.output.splitlines()]
        self.gateway_urls = [word for line in words for word in line if word.startswith("http://")]
        self._known = self.tree()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop the server; returns its exit status. Fails where a process is left, or NATS has refused something."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the cluster did not stop:\n{self.log[-5000:]}") from None
        deadline = time.monotonic() + (STOP_TIMEOUT_S if status == -signal.SIGKILL else 1)
        while left := [process for process in self._known if _runs(process)]:
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.02)
        refused = self.violations()
        shutil.rmtree(self._temporary, ignore_errors=True)
        assert refused == []
        return status

    def _start(self, flags: Sequence[str], environ: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HYPHA_")}
        command = [sys.executable, "-m", "hypha.server", "--port=0", f"--data-dir={self.data_dir}", *flags]
        with self.log_file.open("wb") as log, self.log_file.with_suffix(".out").open("wb") as output:
            return subprocess.Popen(
                command,
                env={**inherited, **_UNLIMITED, "HYPHA_ROOT_TOKEN": self.root_token, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                cwd=cwd,
            )

    @property
    def output(self) -> str:
        """What the server printed so far."""
        return self.log_file.with_suffix(".out").read_text()


def error_lines(log: str) -> list[str]:
    """Return the lines of a log that tell of a server's own fault."""
    return [line for line in log.splitlines() if re.search(r'"level": ?"(error|critical)"|Traceback', line)]


def new_data_dir(path: Path) -> None:
    """Make a data directory with an empty database: making that takes longer than all the rest of a start."""
    subprocess.run(["cp", "-a", _started_once(), path], check=True)


@functools.cache
def _started_once() -> Path:
    """Return the data directory of a cluster that has been started and stopped, the same for the whole session."""
    directory = Path(tempfile.mkdtemp(prefix="hypha-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    data_dir = directory / "data"
    RunningCluster(data_dir=data_dir).stop()
    shutil.rmtree(data_dir / "logs", ignore_errors=True)
    return data_dir


def _runs(process: psutil.Process) -> bool:
    try:
        # A zombie has ended: not every container has an init that collects orphans.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _role(command: Sequence[str]) -> str:
    words = " ".join(command)
    for name in ("apps", "artifacts", "auth", "browser_worker", "gateway", "workspace"):
        if f"-m hypha_{name} " in words:
            return name
    if "-m hypha.startup " in words:
        return "startup"
    for name, program in (("nats", "nats-server"), ("postgres", "postgres"), ("s3", "rclone")):
        if program in words:
            return name
    return "other"
