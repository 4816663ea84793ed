from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli
from hypha_common.operating import add_json

if TYPE_CHECKING:
    from hypha_common.cli import Run
    from hypha_common.settings import Settings

__all__ = ["build", "main"]


def build() -> ServiceCli:
    """Return the command line of the artifacts service."""
    cli = ServiceCli("artifacts", run=_service, requires=("nats_url", "database_url", "jwt_secret", "endpoint_url"))
    cli.add(
        "migrate",
        _migrate,
        "create or update the tables of this service; safe to run twice and concurrently",
        finds_cluster=False,
    )
    _add_keeping(cli)
    return cli


def _add_keeping(cli: ServiceCli) -> None:
    listing = cli.add("list", _list, "print artifacts: name, id, type, versions, files, bytes, state, last change")
    listing.add_argument("workspace", metavar="WORKSPACE", nargs="?", help="only of this workspace")
    gc = cli.add("gc", _gc, "remove what nothing refers to, as the service does by itself every s3_cleanup_period")
    gc.add_argument("--now", action="store_true", help="do not wait for s3_grace_period")
    gc.add_argument("--dry-run", action="store_true", help="only tell how much there is")
    gc.add_argument(
        "--orphans", action="store_true", help="also look through the whole store for objects that no row stands for"
    )
    verify = cli.add("verify", _verify, "compare rows and objects; prints what is wrong, status 1 where something is")
    verify.add_argument("--deep", action="store_true", help="read all bytes and compare their checksums")
    verify.add_argument("--workspace", metavar="WORKSPACE", help="only of this workspace")
    export = cli.add("export", _export, "write artifacts with all versions and files to a folder, without secrets")
    export.add_argument("what", metavar="WORKSPACE[/ALIAS]")
    export.add_argument("folder", metavar="DIR")
    export.add_argument("--with-secrets", action="store_true", help="write the artifacts' secrets, too, unsealed")
    for parser in (listing, gc, verify):
        add_json(parser)


def main() -> None:
    sys.exit(build().main())


def _service() -> Run:
    from .main import run

    return run


def _migrate(settings: Settings, parsed: argparse.Namespace) -> None:
    from .migrate import migrate

    settings.require("database_url")
    migrate(settings)


def _list(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .keeping.operating import list_artifacts

    return list_artifacts(settings, parsed)


def _gc(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .keeping.operating import collect_garbage

    return collect_garbage(settings, parsed)


def _verify(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .keeping.operating import verify

    return verify(settings, parsed)


def _export(settings: Settings, parsed: argparse.Namespace) -> int | None:
    from .keeping.operating import export

    return export(settings, parsed)
