from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from hypha.workers.base import WorkerError
from hypha.workers.command_line import VARIABLES, Place, add_place_flags
from hypha_common.cli import PROBE_HELP, add_probe_kind, add_settings, given_flags, print_effective, spread_lists
from hypha_common.errors import HyphaError
from hypha_common.ids import new_id
from hypha_common.probe import probe
from hypha_common.settings import Settings, unknown_environment
from hypha_common.version import __version__

from .chromium import find_chromium

__all__ = ["main"]

_ROLE = "browser-worker"
_PROGRAM = f"hypha-{_ROLE}"


def main() -> None:
    sys.exit(run_command())


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0 done, 1 refused or failed with a sentence."""
    parsed = _parser().parse_args(spread_lists(sys.argv[1:] if arguments is None else arguments))
    try:
        if parsed.command == "probe":
            print(probe(Settings.load(given_flags(parsed), file=parsed.config), _ROLE, parsed.kind))
            return 0
        for sentence in unknown_environment(os.environ, known=VARIABLES):
            print(f"{_PROGRAM}: warning: {sentence}", file=sys.stderr)
        settings = Settings.load(given_flags(parsed), file=parsed.config)
        if parsed.command == "check-config":
            print_effective(settings, _ROLE, sys.stdout)
        place = _place(parsed)
        if place.verbose:
            settings = settings.replace(log_level="INFO")
        executable = find_chromium(settings)
        if parsed.command == "serve":
            _serve(settings, place, executable)
    except (HyphaError, WorkerError) as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


def _place(parsed: argparse.Namespace) -> Place:
    place = Place.of(parsed, os.environ)
    return replace(
        place,
        service_id=place.service_id or _ROLE,
        # Another one for each start: what ran in a worker that is gone must not be looked for in the next.
        client_id=place.client_id or f"{_ROLE}-{new_id()}",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, allow_abbrev=False, description="Run apps of a Hypha hub in Chromium, until SIGTERM or SIGINT."
    )
    parser.add_argument(
        "command", nargs="?", choices=("serve", "check-config", "probe"), default="serve",
        help=f"serve (default), check-config, or probe: {PROBE_HELP}",
    )  # fmt: skip
    add_probe_kind(parser)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    add_place_flags(parser)
    add_settings(parser, _ROLE)
    return parser


def _serve(settings: Settings, place: Place, executable: str | None) -> None:
    import uvloop

    from hypha_common.telemetry import configure_logging

    if settings.print_config:
        print_effective(settings, _ROLE, sys.stderr)
    configure_logging(settings, _ROLE)
    for name in VARIABLES:  # what it launches needs none of them
        os.environ.pop(name, None)
    uvloop.run(_until_signal(settings, place, executable))


async def _until_signal(settings: Settings, place: Place, executable: str | None) -> None:
    from .main import run

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await run(settings, place, executable, stop)
