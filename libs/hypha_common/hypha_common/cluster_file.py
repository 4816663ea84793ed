"""
How a command line finds the cluster that runs from a data directory on this machine.

While an embedded cluster runs, its supervisor keeps ``cluster.toml`` there, for its owner's eyes only: the ports and
passwords that it chose, in the form that ``--config`` reads.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigurationError

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["CLUSTER_FILE", "default_data_directory", "describe", "read"]

CLUSTER_FILE = "cluster.toml"

# What one needs to reach a cluster and to make sense of its rows and tokens; other secrets stay with their services.
_TOLD = (
    "nats_url",
    "nats_user",
    "nats_password",
    "nats_token",
    "database_url",
    "database_partitions",
    "jwt_secret",
    "jwt_previous_secrets",
    "public_base_url",
    "endpoint_url",
    "access_key_id",
    "secret_access_key",
    "region_name",
    "workspace_bucket",
    "auth0_issuer",
    "auth0_audience",
    "auth0_namespace",
)


def default_data_directory() -> Path:
    """Return ``/var/lib/hypha`` for root, else ``$XDG_DATA_HOME/hypha``."""
    if os.geteuid() == 0:
        return Path("/var/lib/hypha")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "hypha"


def describe(settings: Settings) -> str:
    """Return the text of the file for a cluster with these settings."""
    known = {name: getattr(settings, name) for name in _TOLD}
    lines = [f"{name} = {_toml(value)}" for name, value in known.items() if value]
    return "\n".join(["# The cluster that runs from this directory; removed when it stops.", *lines, ""])


def read(directory: str | Path) -> dict[str, object] | None:
    """Return what the cluster of a data directory told of itself, None where none runs. Raises ConfigurationError."""
    path = Path(directory).expanduser() / CLUSTER_FILE
    try:
        return tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None


def _toml(value: str | tuple[str, ...]) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
