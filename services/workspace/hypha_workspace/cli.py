from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli

if TYPE_CHECKING:
    from hypha_common.cli import Run
    from hypha_common.settings import Settings

__all__ = ["build", "main"]


def build() -> ServiceCli:
    """Return the command line of the workspace service."""
    cli = ServiceCli("workspace", run=_service, requires=("nats_url", "database_url"))
    cli.add(
        "migrate",
        _migrate,
        "create or update the tables of this service; safe to run twice and concurrently",
        finds_cluster=False,
    )
    cli.add("list", _list, "print the workspaces: id, loaded or idle, persistent or temporary, owners")
    clients = cli.add("clients", _clients, "print the clients of a workspace: id, gateway, generation, user, state")
    services = cli.add("services", _services, "print the services of a workspace: id, type, visibility, application")
    for parser in (clients, services):
        parser.add_argument("workspace", metavar="WORKSPACE")
    return cli


def main() -> None:
    sys.exit(build().main())


def _service() -> Run:
    from .main import run

    return run


def _migrate(settings: Settings, parsed: argparse.Namespace) -> None:
    from .migrate import migrate

    settings.require("database_url")
    migrate(settings)


def _list(settings: Settings, parsed: argparse.Namespace) -> None:
    from .inspection import print_workspaces

    print_workspaces(settings, parsed)


def _clients(settings: Settings, parsed: argparse.Namespace) -> None:
    from .inspection import print_clients

    print_clients(settings, parsed)


def _services(settings: Settings, parsed: argparse.Namespace) -> None:
    from .inspection import print_services

    print_services(settings, parsed)
