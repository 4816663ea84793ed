from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common.errors import ConfigurationError

from .child import Program
from .object_store import RCLONE_MARK, STOP_TIMEOUT_S, ObjectStore, minio_format
from .ports import bracketed, free_port

if TYPE_CHECKING:
    from .data_directory import DataDirectory

__all__ = ["MinioStore"]


class MinioStore(ObjectStore):
    """A MinIO server that is installed on this machine."""

    name = "MinIO"

    def __init__(
        self,
        data: DataDirectory,
        folder: Path | None,
        *,
        program: Path,
        console_port: int,
        file_system_mode: bool,
        host: str,
        port: int,
        access_key_id: str,
        secret_access_key: str,
    ) -> None:
        super().__init__(
            data, folder, host=host, port=port, access_key_id=access_key_id, secret_access_key=secret_access_key
        )
        self._program = program
        self._console_port = console_port or free_port(host)
        self._file_system_mode = file_system_mode

    def prepare(self) -> None:
        super().prepare()
        if self._file_system_mode:
            if (kind := minio_format(self.folder)) not in ("", "fs"):
                raise ConfigurationError(
                    f"S3 folder {self.folder} holds files that a MinIO server wrote in its own format ({kind}): leave "
                    "--minio-file-system-mode out, or choose another --minio-workdir"
                )
            # What another version left there would keep this one from starting.
            shutil.rmtree(self.folder / ".minio.sys", ignore_errors=True)
        elif (self.folder / RCLONE_MARK).exists():
            raise ConfigurationError(
                f"S3 folder {self.folder} holds plain files, which MinIO would not see: use "
                "--minio-file-system-mode, or choose another --minio-workdir"
            )

    def program(self) -> Program:
        command = [str(self._program), "server", "--address", self._listen]
        command += ["--console-address", f"{bracketed(self._host)}:{self._console_port}", str(self.folder)]
        ours = {
            "MINIO_ROOT_USER": self._access_key_id,
            "MINIO_ROOT_PASSWORD": self._secret_access_key,
            "MINIO_UPDATE": "off",
        }
        return Program(
            name="s3",
            command=command,
            environment={**os.environ, **ours},
            log_file=self._data.logs / "s3.log",
            stop_timeout_s=STOP_TIMEOUT_S,
        )
