from __future__ import annotations

import json
import os
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common.errors import ConfigurationError

from .ports import LOOPBACK, bracketed, free_port, local_host
from .probe import status_of

if TYPE_CHECKING:
    from .child import Program
    from .data_directory import DataDirectory

__all__ = ["RCLONE_MARK", "STOP_TIMEOUT_S", "ObjectStore", "minio_format"]

STOP_TIMEOUT_S = 5.0
RCLONE_MARK = ".hypha-rclone"  # in a folder that rclone has served: MinIO would not see its files


class ObjectStore(ABC):
    """
    An S3 store on this machine: :meth:`prepare`, then run :meth:`program`, :meth:`close` when that has ended.

    """

    name = ""

    def __init__(
        self,
        data: DataDirectory,
        folder: Path | None,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        access_key_id: str,
        secret_access_key: str,
    ) -> None:
        self._data = data
        self._given_folder = folder  # None: a temporary one
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._host = host
        # Chosen once: services reconnect to the same address after a restart.
        self._port = port or free_port(host)
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key

    @property
    def url(self) -> str:
        """The address of the store on this machine."""
        return f"http://{local_host(self._host)}:{self._port}"

    @property
    def settings(self) -> dict[str, str]:
        """The settings of services that use it."""
        return {
            "endpoint_url": self.url,
            "access_key_id": self._access_key_id,
            "secret_access_key": self._secret_access_key,
        }

    @property
    def folder(self) -> Path:
        """Where the files are, once prepared."""
        if self._temporary is not None:
            return Path(self._temporary.name) / "files"
        assert self._given_folder is not None, "prepare() was called"
        return self._given_folder

    @property
    def cache(self) -> Path:
        """Where a store may keep what it can do without."""
        if self._temporary is not None:
            return Path(self._temporary.name) / "cache"
        return self._data.path / f"{self.folder.name}-cache"

    def prepare(self) -> None:
        """Make the folder, and look whether it can be used. Raises ConfigurationError."""
        if self._given_folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="hypha-s3-", ignore_cleanup_errors=True)
            self.folder.mkdir()
            return
        try:
            self._given_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self._given_folder, os.W_OK | os.X_OK):
                raise PermissionError("it cannot be written")
        except OSError as error:
            raise ConfigurationError(f"S3 folder {self._given_folder} cannot be used: {error}") from None

    def close(self) -> None:
        """Remove the folder if it is temporary."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    @abstractmethod
    def program(self) -> Program:
        """Return what to run."""

    async def ready(self, pid: int | None) -> bool:
        """Tell whether it answers; ``pid`` does not matter."""
        # Whatever it says: a MinIO that starts says 503, rclone refuses who gives no key.
        return 0 < await status_of(f"{self.url}/minio/health/live") < 500

    @property
    def _listen(self) -> str:
        return f"{bracketed(self._host)}:{self._port}"


def minio_format(folder: Path) -> str:
    """Return in which format a MinIO server has written a folder: ``fs``, ``xl-single`` …, nothing if none has."""
    with suppress(OSError, ValueError, AttributeError):
        return str(json.loads((folder / ".minio.sys" / "format.json").read_text()).get("format", "unknown"))
    return ""
