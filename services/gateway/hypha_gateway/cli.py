from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli

if TYPE_CHECKING:
    from hypha_common.cli import Run

__all__ = ["build", "main"]


def build() -> ServiceCli:
    """Return the command line of the gateway service."""
    return ServiceCli("gateway", run=_service, requires=("nats_url", "jwt_secret"))


def main() -> None:
    sys.exit(build().main())


def _service() -> Run:
    from .main import run

    return run
