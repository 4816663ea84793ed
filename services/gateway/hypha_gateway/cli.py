from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli
from hypha_common.static_mounts import check_folders

if TYPE_CHECKING:
    from hypha_common.cli import Run
    from hypha_common.settings import Settings

__all__ = ["build", "main"]


def build() -> ServiceCli:
    """Return the command line of the gateway service."""
    return ServiceCli("gateway", run=_service, requires=("nats_url", "jwt_secret"), check=_check)


def main() -> None:
    sys.exit(build().main())


def _check(settings: Settings) -> None:
    check_folders(settings.static_mounts)


def _service() -> Run:
    from .main import run

    return run
