from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from hypha_common.cluster_file import CLUSTER_FILE, default_data_directory, describe
from hypha_common.errors import ConfigurationError
from hypha_common.settings import Settings

__all__ = ["DataDirectory", "Secrets", "default_data_directory"]


def _new_secret() -> str:
    return secrets.token_hex(32)


@dataclass(frozen=True)
class Secrets:
    """What the parts of an embedded cluster prove to each other. Made once, kept with the data."""

    jwt_secret: str = field(default_factory=_new_secret, repr=False)
    postgres_password: str = field(default_factory=_new_secret, repr=False)
    s3_secret: str = field(default_factory=_new_secret, repr=False)


class DataDirectory:
    """
    The files of an embedded cluster, which one server at a time may use.

    ``secrets.json``, ``nats.conf``, ``postgres/``, ``s3/``, ``logs/``, and ``cluster.toml`` while the cluster runs;
    nothing in it is for other users' eyes.

    """

    def __init__(self, path: str | Path = "") -> None:
        self.path = Path(path or default_data_directory()).expanduser().absolute()
        self.postgres = self.path / "postgres"
        self.logs = self.path / "logs"
        self._lock: int | None = None

    def open(self) -> Secrets:
        """Create what is missing and lock the directory. Raises ConfigurationError, also where it is in use."""
        try:
            for directory in (self.path, self.logs):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            return self._secrets()
        except OSError as error:
            raise ConfigurationError(f"Data directory {self.path} cannot be used: {error}") from None

    def tell(self, settings: Settings) -> None:
        """Tell the command lines of this user where the cluster is, until :meth:`close`."""
        self.write(CLUSTER_FILE, describe(settings))

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            (self.path / CLUSTER_FILE).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def read_secrets(self) -> Secrets:
        """Return the secrets of an existing cluster, running or not. Raises ConfigurationError."""
        try:
            known = json.loads((self.path / "secrets.json").read_text())
            return Secrets(**{row.name: known[row.name] for row in fields(Secrets) if row.name in known})
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(f"{self.path} holds no secrets of a cluster: {error}") from None

    def write(self, name: str, text: str) -> Path:
        """Write a file for our eyes only, whole or not at all."""
        path = self.path / name
        temporary = path.with_name(f".{name}.new")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
        return path

    def _take_lock(self) -> None:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            raise ConfigurationError(
                f"Data directory {self.path} is in use by another server (process {owner or 'unknown'}); "
                "stop it, or choose another --data-dir"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def _secrets(self) -> Secrets:
        path = self.path / "secrets.json"
        known = self.read_secrets() if path.exists() else Secrets()
        text = json.dumps(asdict(known), indent=2)
        if not path.exists() or path.read_text() != text:  # another release knew other secrets
            self.write("secrets.json", text)
        return known
