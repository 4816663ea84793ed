from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hypha_common.cli import add_settings, given_flags, print_effective, spread_lists
from hypha_common.errors import HyphaError
from hypha_common.settings import Settings, unknown_environment
from hypha_common.static_mounts import check_folders
from hypha_common.telemetry import configure_logging
from hypha_common.tracing import check_tracing
from hypha_common.version import __version__

from .cluster import Cluster
from .environment_file import load_environment_file
from .nats_users import print_users
from .other_flags import NAMES, add_other_flags, environment_names, review
from .storage_plan import plan_storage
from .token_command import generate_token

__all__ = ["console", "load_settings", "main"]

_PROGRAM = "hypha-server"


def console() -> None:
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m hypha.server``; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["generate-token"]:
        return generate_token(arguments[1:])
    if arguments[:1] == ["nats-users"]:
        return print_users(arguments[1:])
    parsed = _parser().parse_args(spread_lists(arguments))
    started = time.monotonic()
    try:
        settings = load_settings(parsed)
        if parsed.command == "check-config":
            print_effective(settings, "server", sys.stdout)
            return 0
        if settings.print_config:
            print_effective(settings, "server", sys.stderr)
        configure_logging(settings, "server")
        return asyncio.run(_serve(settings, started))
    except HyphaError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1


def load_settings(parsed: argparse.Namespace | None = None) -> Settings:
    """Return the settings of a whole cluster, telling about what is ignored. Raises ConfigurationError."""
    with suppress(FileNotFoundError):  # the working directory was removed
        load_environment_file(os.environ, Path.cwd())
    flags = {} if parsed is None else vars(parsed)
    ignored = review({name: flags.get(name) for name in NAMES}, os.environ)
    for sentence in (*ignored, *unknown_environment(os.environ, known=environment_names() | {"HYPHA_FROM_ENV"})):
        print(f"{_PROGRAM}: warning: {sentence}", file=sys.stderr)
    settings = Settings.load() if parsed is None else Settings.load(given_flags(parsed), file=parsed.config)
    # Here, before anything starts.
    check_folders(settings.static_mounts)
    check_tracing(settings)
    for sentence in plan_storage(settings).sentences:
        print(f"{_PROGRAM}: note: {sentence}", file=sys.stderr)
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        allow_abbrev=False,
        description="Run a whole Hypha cluster on this machine, until Ctrl-C.",
        epilog=(
            "`generate-token --help` tells about tokens, `nats-users --help` about the users of NATS. "
            "HYPHA_* variables, also from .env, are always read; flags win over them, they win over the file."
        ),
    )
    parser.add_argument("command", nargs="?", choices=("serve", "check-config"), default="serve", help="default: serve")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--from-env", action="store_true", help="accepted for other servers' sake: always on")
    add_settings(parser, "server")
    add_other_flags(parser)
    return parser


async def _serve(settings: Settings, started: float) -> int:
    cluster = Cluster(settings, gateways=settings.gateways)
    stop = _stop_on_signals()
    starting = asyncio.create_task(cluster.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return 0
        await starting
        _announce(cluster, time.monotonic() - started)
        await stop.wait()
        print("Hypha is stopping", flush=True)
    finally:
        stopping.cancel()
        await cluster.stop()
    return 0


def _announce(cluster: Cluster, seconds: float) -> None:
    lines = [f"Hypha {__version__} is ready at {cluster.settings.public_base_url} after {seconds:.1f} s"]
    lines += [f"  and at {url}" for url in cluster.gateway_urls[1:]]
    if cluster.settings.start_minio_server and cluster.object_store is not None:
        store = cluster.object_store
        lines.append(f"  S3 ({store.name}) at {store.url.removeprefix('http://')}, files in {store.folder}")
    print("\n".join(lines), flush=True)  # at once: whoever reads the first line finds the others


def _stop_on_signals() -> asyncio.Event:
    """Return an event that the first signal sets; the second one ends the process, and the kernel its children."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop_or_exit() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop_or_exit)
    return stop
