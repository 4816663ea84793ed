from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli

from .operators.parsers import add_verbs

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypha_common.cli import Run
    from hypha_common.settings import Settings

__all__ = ["build", "main"]


def build() -> ServiceCli:
    """Return the command line of the auth service."""
    cli = ServiceCli("auth", run=_service, requires=("nats_url", "database_url", "jwt_secret"))
    cli.add_migrate(_migrations)
    add_verbs(cli)
    return cli


def main() -> None:
    sys.exit(build().main())


def _service() -> Run:
    from .main import run

    return run


def _migrations() -> Callable[[Settings], None]:
    from .migrate import migrate

    return migrate
