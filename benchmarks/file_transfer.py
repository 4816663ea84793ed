from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from hypha_artifacts.blobs.sigv4 import Credentials, presign

from .command import add_kind_arguments, emit, kinds_of
from .processes import ProcessTree
from .server_kinds import ROOT_TOKEN
from .server_process import start_server

__all__ = ["measure_transfer"]

_PIECE = bytes(range(256)) * 4096  # 1 MiB
_LOOK_S = 0.05
_WORKSPACE = "ws-user-root"


class _Memory(threading.Thread):
    """Watches how much each role's memory grows over what it was."""

    def __init__(self, tree: ProcessTree) -> None:
        super().__init__(daemon=True)
        self._tree = tree
        self._over = threading.Event()
        self._before = self._by_role()
        self._highest = dict(self._before)

    def run(self) -> None:
        while not self._over.wait(_LOOK_S):
            for role, kib in self._by_role().items():
                self._highest[role] = max(kib, self._highest.get(role, 0))

    def growth_mib(self) -> dict[str, float]:
        self._over.set()
        self.join()
        return {role: round((kib - self._before.get(role, kib)) / 1024, 1) for role, kib in self._highest.items()}

    def _by_role(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for process in self._tree.processes():
            found[process.role] = max(found.get(process.role, 0), process.rss_kib)
        return found


class _Place:
    """Where a file is put and got: through the gateway, or at the store itself."""

    def __init__(self, address: Callable[[str], str], headers: dict[str, str]) -> None:
        self._address = address
        self._headers = headers

    def put(self, size: int) -> float:
        """Return MB/s."""
        parts = urlsplit(self._address("PUT"))
        connection = http.client.HTTPConnection(parts.netloc, blocksize=len(_PIECE))
        started = time.perf_counter()
        connection.putrequest("PUT", f"{parts.path}?{parts.query}")
        for name, value in {**self._headers, "Content-Length": str(size)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        for _ in range(size // len(_PIECE)):
            connection.send(_PIECE)
        _finish(connection)
        return size / (time.perf_counter() - started) / 1e6

    def get(self, size: int) -> float:
        """Return MB/s."""
        parts = urlsplit(self._address("GET"))
        connection = http.client.HTTPConnection(parts.netloc)
        started = time.perf_counter()
        connection.request("GET", f"{parts.path}?{parts.query}", headers=self._headers)
        answer = connection.getresponse()
        buffer, received = bytearray(len(_PIECE)), 0
        while count := answer.readinto(buffer):
            received += count
        connection.close()
        if answer.status != 200 or received != size:
            raise RuntimeError(f"HTTP {answer.status}, {received} of {size} bytes")
        return size / (time.perf_counter() - started) / 1e6


def measure_transfer(url: str, data_dir: Path, server: ProcessTree, *, size: int, rounds: int) -> dict[str, object]:
    """Put and get a file through the gateway and at the store itself, in turn, and look at memory and CPU meanwhile."""
    _wait_for_files(url)
    told = tomllib.loads((data_dir / "cluster.toml").read_text())
    credentials = Credentials(told["access_key_id"], told["secret_access_key"], told["region_name"])
    store = f"{told['endpoint_url']}/{told['workspace_bucket']}/{_WORKSPACE}/direct.bin"
    places = {
        "gateway": _Place(
            lambda method: f"{url}/{_WORKSPACE}/files/gateway.bin", {"Authorization": f"Bearer {ROOT_TOKEN}"}
        ),
        "store": _Place(lambda method: presign(method, store, credentials, expires_s=3600, now=time.time()), {}),
    }
    rates: dict[str, list[float]] = {f"{place}_{step}": [] for place in places for step in ("put", "get")}
    cpu_s: dict[str, float] = {}
    memory = _Memory(server)
    memory.start()
    for turn in range(rounds):
        for step in ("put", "get"):
            for place in sorted(places, reverse=turn % 2 == 1):
                before = _gateway_cpu(server)
                rates[f"{place}_{step}"].append(getattr(places[place], step)(size))
                if place == "gateway":
                    cpu_s[step] = cpu_s.get(step, 0.0) + _gateway_cpu(server) - before
    growth = memory.growth_mib()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "MB_per_s": {name: round(value, 1) for name, value in medians.items()},
        "ratio": {step: round(medians[f"gateway_{step}"] / medians[f"store_{step}"], 2) for step in ("put", "get")},
        "gateway_cpu_s_per_GB": {step: round(used / (rounds * size) * 1e9, 2) for step, used in cpu_s.items()},
        "growth_MiB": growth,
    }


def _wait_for_files(url: str, timeout_s: float = 60.0) -> None:
    """A gateway is ready for calls before there are files."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/health/readiness", timeout=5) as answer:
            if json.load(answer)["detail"].get("artifacts") == "ready":
                return
        time.sleep(0.1)
    raise RuntimeError("the service that keeps files did not come up")


def _gateway_cpu(server: ProcessTree) -> float:
    return sum(process.cpu_s for process in server.processes() if process.role == "gateway")


def _finish(connection: http.client.HTTPConnection) -> None:
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"HTTP {answer.status}: {body[:300]!r}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One large file through the gateway, and at the store itself.")
    add_kind_arguments(parser)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    kind = kinds_of(arguments)["hub"].with_storage()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, start_server(kind, Path(directory)) as hub:
        measured = measure_transfer(
            hub.url, Path(directory), ProcessTree([hub.pid]), size=arguments.mib * 2**20, rounds=arguments.rounds
        )
    emit("file_transfer", measured, mib=arguments.mib, rounds=arguments.rounds)
