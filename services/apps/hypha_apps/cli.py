from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli
from hypha_common.operating import add_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from hypha_common.cli import Run
    from hypha_common.settings import Settings

__all__ = ["build", "main"]

_REQUIRED = ("nats_url", "database_url", "jwt_secret")


def build() -> ServiceCli:
    """Return the command line of the apps service."""
    cli = ServiceCli("apps", run=_service, requires=_REQUIRED)
    cli.add_migrate(_migrations)
    _add_operators(cli)
    return cli


def _add_operators(cli: ServiceCli) -> None:
    sessions = cli.add(
        "sessions", _sessions, "print the apps that run: id, app, status, worker, since, idle seconds, load, reason"
    )
    sessions.add_argument("--all", action="store_true", help="also those that ended in the last minutes")
    daemons = cli.add("daemons", _daemons, "print the apps that are to run always: app, state, tries, next try")
    workers = cli.add("workers", _workers, "print the workers that answer: id, name, types of apps, sessions")
    for parser in (sessions, daemons, workers):
        parser.add_argument("--workspace", metavar="WORKSPACE", help="only in this workspace")
        add_json(parser)
    stop = cli.add("stop", _stop, "stop apps, whatever their workers say")
    stop.add_argument("sessions", metavar="SESSION", nargs="+", help="as `sessions` prints it")


def main() -> None:
    sys.exit(build().main())


def _service() -> Run:
    from .main import run

    return run


def _migrations() -> Callable[[Settings], None]:
    from .migrate import migrate

    return migrate


def _sessions(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import print_sessions

    return print_sessions(settings, parsed)


def _daemons(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import print_daemons

    return print_daemons(settings, parsed)


def _workers(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import print_workers

    return print_workers(settings, parsed)


def _stop(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .operating import stop

    return stop(settings, parsed)
