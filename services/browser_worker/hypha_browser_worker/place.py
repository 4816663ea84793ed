from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypha_common.errors import ConfigurationError
from hypha_common.ids import new_id

__all__ = ["VARIABLES", "Place", "add_place_flags"]

_VISIBILITIES = ("protected", "public")
_TRUE = frozenset({"1", "true", "yes", "on"})
_HELP = {
    "server_url": "address of the hub; pages reach it there, too",
    "workspace": "workspace to work in; default: the token's own",
    "token": "token to connect with; better in HYPHA_TOKEN or a file (HYPHA_TOKEN_FILE): process lists show flags",
    "service_id": "id of the worker's service [browser-worker]",
    "visibility": "protected: apps of this workspace; public: of all workspaces [protected]",
    "client_id": "client id of the worker; default: a new one",
    "disable_ssl": "accept whatever certificate the hub has",
    "verbose": "log more",
}
_SWITCHES = ("disable_ssl", "verbose")
VARIABLES = frozenset(f"HYPHA_{name.upper()}" for name in _HELP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker works: the hub it connects to, and as what (contract 03 §2.10)."""

    server_url: str
    workspace: str | None
    token: str
    service_id: str
    visibility: str
    client_id: str
    disable_ssl: bool

    @classmethod
    def of(cls, parsed: argparse.Namespace, environ: Mapping[str, str]) -> Place:
        """Complete the flags by the environment. Raises ConfigurationError."""

        def value(name: str) -> str:
            flag = getattr(parsed, name)
            return str(flag) if flag is not None else environ.get(f"HYPHA_{name.upper()}", "").strip()

        server_url = value("server_url").rstrip("/")
        if not server_url.startswith(("http://", "https://")):
            raise ConfigurationError("server_url is missing: set HYPHA_SERVER_URL to the hub's http(s) address")
        visibility = value("visibility") or _VISIBILITIES[0]
        if visibility not in _VISIBILITIES:
            raise ConfigurationError(f"visibility must be one of {', '.join(_VISIBILITIES)}")
        return cls(
            server_url=server_url,
            workspace=value("workspace") or None,
            token=value("token") or _from_file(environ),
            service_id=value("service_id") or "browser-worker",
            visibility=visibility,
            client_id=value("client_id") or f"browser-worker-{new_id()}",
            disable_ssl=value("disable_ssl").lower() in _TRUE,
        )


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each part of a Place, and ``--verbose``."""
    group = parser.add_argument_group("connection", "each also HYPHA_<NAME> in the environment")
    for name, text in _HELP.items():
        flag = f"--{name.replace('_', '-')}"
        if name in _SWITCHES:
            group.add_argument(flag, nargs="?", const="true", metavar="BOOL", help=text)
        else:
            group.add_argument(flag, metavar="TEXT", help=text)


def is_verbose(parsed: argparse.Namespace, environ: Mapping[str, str]) -> bool:
    """Tell whether more is to be logged."""
    return (parsed.verbose or environ.get("HYPHA_VERBOSE", "")).lower() in _TRUE


def _from_file(environ: Mapping[str, str]) -> str:
    path = environ.get("HYPHA_TOKEN_FILE")
    if not path:
        return ""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"HYPHA_TOKEN_FILE: {path} cannot be read: {error.strerror}") from None
