from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli

if TYPE_CHECKING:
    import argparse

    from hypha_common.cli import Run
    from hypha_common.settings import Settings

__all__ = ["build", "main"]

_REQUIRED = ("nats_url", "database_url", "jwt_secret")


def build() -> ServiceCli:
    """Return the command line of the apps service."""
    cli = ServiceCli("apps", run=_service, requires=_REQUIRED)
    cli.add(
        "migrate",
        _migrate,
        "create or update the tables of this service; safe to run twice and concurrently",
        finds_cluster=False,
    )
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
