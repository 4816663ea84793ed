from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

from .server_kinds import HUB_COMMAND, ServerKind, default_rivals_dir, server_kinds

__all__ = ["add_kind_arguments", "add_server_arguments", "emit", "kinds_of", "run"]


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a benchmark that measures a running server."""
    parser.add_argument("--url", required=True, help="http://host:port of the server")
    parser.add_argument(
        "--pid",
        type=int,
        action="append",
        help="root process of the server, repeatable: CPU time and memory are read below it",
    )


def add_kind_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a benchmark that starts its servers."""
    parser.add_argument(
        "--hub-command",
        default=HUB_COMMAND,
        help="how the hub is started; {port} and {data_dir} are filled in, --gateways 2 is added where needed",
    )
    parser.add_argument("--rivals-dir", type=Path, default=default_rivals_dir())


def kinds_of(arguments: argparse.Namespace) -> dict[str, ServerKind]:
    return server_kinds(arguments.rivals_dir, arguments.hub_command)


def emit(benchmark: str, results: object, **details: object) -> None:
    json.dump({"benchmark": benchmark, **details, "results": results}, sys.stdout, indent=1)
    sys.stdout.write("\n")


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run with as many sockets as the system allows, and with nothing but results on standard output."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # hypha-rpc logs to standard output, where the results belong.
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, force=True)
    uvloop.run(main)
