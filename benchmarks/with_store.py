"""
Run a server with an S3 store beside it: ``with_store.py FOLDER COMMAND …``.

In the command, ``@STORE_URL@``, ``@STORE_KEY@`` and ``@STORE_SECRET@`` are filled in. The store is the one that the hub
itself starts, so that only the servers differ.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import FrameType

__all__ = ["main"]

_KEY, _SECRET = "bench-key", "bench-secret"
_START_S = 10.0
_STOP_S = 10.0


def main(folder: Path, command: list[str]) -> int:
    """Run both; returns the server's exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    store, url = _start_store(folder)
    values = {"@STORE_URL@": url, "@STORE_KEY@": _KEY, "@STORE_SECRET@": _SECRET}
    server = subprocess.Popen([values.get(word, word) for word in command])

    def stop(number: int, _frame: FrameType | None) -> None:
        server.send_signal(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        return server.wait()
    finally:
        store.terminate()
        store.wait(_STOP_S)


def _start_store(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rclone = Path(sysconfig.get_path("scripts")) / "rclone"
    options = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{_KEY},{_SECRET}", "--dir-cache-time", "5s"]
    command = [str(rclone), "serve", "s3", *options, "--config", os.devnull, "--use-server-modtime", str(folder)]
    store = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return store, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.02)
    store.kill()
    raise RuntimeError("the store did not start")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
