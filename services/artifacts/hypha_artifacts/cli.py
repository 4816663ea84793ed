from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hypha_common.cli import ServiceCli
from hypha_common.operating import add_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypha_common.cli import Run
    from hypha_common.settings import Settings

__all__ = ["build", "main"]

_REQUIRED = ("nats_url", "database_url", "jwt_secret", "endpoint_url", "access_key_id", "secret_access_key")


def build() -> ServiceCli:
    """Return the command line of the artifacts service."""
    cli = ServiceCli("artifacts", run=_service, requires=_REQUIRED)
    cli.add_migrate(_migrations)
    _add_keeping(cli)
    _add_transfer(cli)
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


def _add_transfer(cli: ServiceCli) -> None:
    put = cli.add_client("put", _put, "send a folder or file to an artifact; what is there already is not sent again")
    put.add_argument("source", metavar="FOLDER|FILE")
    put.add_argument("target", metavar="WORKSPACE/ALIAS[:PATH]")
    put.add_argument("--create", action="store_true", help="make the artifact where it is missing")
    put.add_argument("--type", default="generic", help="type of an artifact that is made [generic]")
    put.add_argument("--parent", metavar="WORKSPACE/ALIAS", help="collection of an artifact that is made")
    put.add_argument("--commit", action="store_true", help="commit when everything is there")
    put.add_argument("--version", metavar="NAME", help="make a new version of this name, of these files alone")
    put.add_argument("--comment", help="comment of the commit")
    put.add_argument(
        "--multipart-size", type=int, default=64, metavar="MIB", help="files this large are sent in parts [64]"
    )
    put.add_argument("--part-size", type=int, default=32, metavar="MIB", help="size of these parts, at least 5 [32]")
    get = cli.add_client("get", _get, "get the files of an artifact; what is here already is not got again")
    get.add_argument("target", metavar="WORKSPACE/ALIAS[:PATH]")
    get.add_argument("folder", metavar="FOLDER", nargs="?", help="where to [the alias; for one file: here]")
    get.add_argument("--version", metavar="NAME", help="files of this version [the newest]")
    get.add_argument("--stage", action="store_true", help="files of the draft")
    get.add_argument("--no-checksum", action="store_true", help="for stores whose etags are no MD5")
    for parser in (put, get):
        parser.add_argument("--server-url", metavar="URL", help="address of the server (HYPHA_SERVER_URL)")
        parser.add_argument("--token", help="token of a user (HYPHA_TOKEN, which others on this machine cannot see)")
        parser.add_argument("--connections", type=int, default=8, metavar="N", help="connections at once [8]")
        parser.add_argument("--no-skip", action="store_true", help="move also what seems to be there")
        parser.add_argument("--quiet", action="store_true", help="print nothing but failures")


def main() -> None:
    sys.exit(build().main())


def _service() -> Run:
    from .main import run

    return run


def _migrations() -> Callable[[Settings], None]:
    from .migrate import migrate

    return migrate


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


def _put(parsed: argparse.Namespace) -> int:
    from .transfer.commands import put

    return put(parsed)


def _get(parsed: argparse.Namespace) -> int:
    from .transfer.commands import get

    return get(parsed)
