from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli

if TYPE_CHECKING:
    from hypha_common.cli import Run

__all__ = ["build", "main"]


def build() -> ServiceCli:
    """Return the command line of the startup runner."""
    return ServiceCli("startup", run=_runner, requires=("jwt_secret", "startup_functions"))


def main() -> None:
    sys.exit(build().main())


def _runner() -> Run:
    from .runner import run

    return run
