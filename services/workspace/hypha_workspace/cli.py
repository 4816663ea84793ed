from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli
from hypha_common.operating import add_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypha_common.cli import Action, Run
    from hypha_common.settings import Settings

__all__ = ["build", "main"]


def build() -> ServiceCli:
    """Return the command line of the workspace service."""
    cli = ServiceCli("workspace", run=_service, requires=("nats_url", "database_url"))
    cli.add_migrate(_migrations)
    _add_views(cli)
    _add_deeds(cli)
    return cli


def _add_views(cli: ServiceCli) -> None:
    listing = cli.add("list", _list, "print the workspaces: id, loaded or idle, persistent or temporary, owners")
    inspect = cli.add("inspect", _inspect, "print what is known of a workspace")
    clients = cli.add(
        "clients", _clients, "print the clients of a workspace: id, gateway, generation, user, state, app"
    )
    services = cli.add("services", _services, "print the services of a workspace: id, type, visibility, application")
    where = cli.add(
        "where",
        _where,
        "print who is connected where: workspace, client, user, gateway, since, transport, address, state",
    )
    where.add_argument("--user", metavar="USER", help="only of this user, and of those it gave tokens to")
    where.add_argument("--workspace", metavar="WORKSPACE", help="only in this workspace")
    for parser in (inspect, clients, services):
        parser.add_argument("workspace", metavar="WORKSPACE")
    for parser in (listing, inspect, clients, services, where):
        add_json(parser)


def _add_deeds(cli: ServiceCli) -> None:
    ghosts = cli.add(
        "ghosts", _ghosts, "print clients that for longer than a lease only a gateway, or only the registry, knows"
    )
    ghosts.add_argument("--remove", action="store_true", help="remove their rows, or close their sockets")
    add_json(ghosts)
    kick = cli.add("kick", _kick, "disconnect a client; it may come back")
    kick.add_argument("client", metavar="WORKSPACE/CLIENT")
    kick.add_argument("--code", type=int, default=1000, metavar="N", help="code of the close frame [1000]")
    kick.add_argument("--reason", default="Admin requested disconnect", help="reason in the close frame")
    unload = cli.add("unload", _unload, "close a workspace: its clients are told and disconnected")
    unload.add_argument("workspace", metavar="WORKSPACE")
    unload.add_argument("--wait", action="store_true", help="wait until every connection is closed")
    _add_partitions(cli)
    unload.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="how long to wait [10]")


def _add_partitions(cli: ServiceCli) -> None:
    parser = cli.add(
        "partitions", _partitions,
        "show which database has which partitions, check that, or move one partition while the others are served",
    )  # fmt: skip
    parser.add_argument("what", choices=("show", "check", "move"))
    parser.add_argument("partition", type=int, nargs="?", metavar="PARTITION", help="0 to 63, which to move")
    parser.add_argument("--to", metavar="DATABASE", help="name or number of the database that it goes to")
    parser.add_argument("--abort", action="store_true", help="undo a move that was cut short before its switch")
    parser.add_argument(
        "--wait", type=float, default=5.0, metavar="SECONDS", help="for replicas to finish and hear [5]"
    )
    add_json(parser)


def main() -> None:
    sys.exit(build().main())


def _service() -> Run:
    from .main import run

    return run


def _migrations() -> Callable[[Settings], None]:
    from .migrate import migrate

    return migrate


def _list(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .inspection import print_workspaces

    return print_workspaces(settings, parsed)


def _inspect(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .inspection import print_workspace

    return print_workspace(settings, parsed)


def _clients(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .inspection import print_clients

    return print_clients(settings, parsed)


def _services(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .inspection import print_services

    return print_services(settings, parsed)


def _where(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .inspection import print_presences

    return print_presences(settings, parsed)


def _ghosts(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import ghosts

    return ghosts(settings, parsed)


def _kick(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import kick_client

    return kick_client(settings, parsed)


def _partitions(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .partitions import command

    act: Action = {"show": command.show, "check": command.check, "move": command.move}[parsed.what]
    return act(settings, parsed)


def _unload(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import unload

    return unload(settings, parsed)
