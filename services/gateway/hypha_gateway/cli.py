from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli
from hypha_common.operating import add_json
from hypha_common.static_mounts import check_folders

if TYPE_CHECKING:
    from hypha_common.cli import Run
    from hypha_common.settings import Settings

__all__ = ["build", "main"]


def build() -> ServiceCli:
    """Return the command line of the gateway service."""
    cli = ServiceCli("gateway", run=_service, requires=("nats_url", "jwt_secret"), check=_check)
    listing = cli.add(
        "list", _list, "print the gateways that are there: id, address, connections, lease age, version …"
    )
    connections = cli.add(
        "connections",
        _connections,
        "print who is connected: workspace, client, user, gateway, since, transport, address, bytes that wait",
    )
    connections.add_argument("--gateway", metavar="ID", help="only of this gateway")
    connections.add_argument("--limit", type=int, metavar="N", help="at most so many")
    for parser in (listing, connections):
        add_json(parser)
    drain = cli.add("drain", _drain, "let a gateway close its connections and end; its clients connect elsewhere")
    drain.add_argument("gateway", metavar="GATEWAY", nargs="?", help="id, as `list` prints it")
    drain.add_argument("--all", action="store_true", help="every gateway")
    return cli


def main() -> None:
    sys.exit(build().main())


def _check(settings: Settings) -> None:
    check_folders(settings.static_mounts)


def _service() -> Run:
    from .main import run

    return run


def _list(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import print_gateways

    return print_gateways(settings, parsed)


def _connections(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import print_connections

    return print_connections(settings, parsed)


def _drain(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import drain

    return drain(settings, parsed)
