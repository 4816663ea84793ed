from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from . import cluster_file
from .errors import ConfigurationError, HyphaError
from .options import Option
from .probe import KINDS, probe
from .settings import OPTIONS, Settings, unknown_environment
from .version import __version__

if TYPE_CHECKING:
    SubParsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

__all__ = [
    "PROBE_HELP",
    "ServiceCli",
    "add_probe_kind",
    "add_settings",
    "check_config",
    "given_flags",
    "print_effective",
    "spread_lists",
]

Run: TypeAlias = Callable[[Settings, asyncio.Event], Awaitable[None]]
Check: TypeAlias = Callable[[Settings], None]  # raises ConfigurationError
Action: TypeAlias = Callable[[Settings, argparse.Namespace], "int | None"]
ClientAction: TypeAlias = Callable[[argparse.Namespace], "int | None"]

PROBE_HELP = "ask the service of these settings on this machine whether it is ready; status 1: it is not"


class ServiceCli:
    """
    The command line of one service: ``serve``, ``check-config``, ``probe``, and the verbs that the service adds.

    Exit status: 0 done, 1 refused or failed with a sentence, 2 a command line that cannot be parsed.

    """

    def __init__(
        self, role: str, *, run: Callable[[], Run], requires: Sequence[str], check: Check | None = None
    ) -> None:
        self.role = role
        self._run = run  # imports the service: check-config and --help stay quick
        self._requires = tuple(requires)
        self._check = check
        self.parser = argparse.ArgumentParser(prog=f"hypha-{role}", allow_abbrev=False)
        self.parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        self._verbs: SubParsers = self.parser.add_subparsers(metavar="COMMAND", required=True)
        self.add("serve", self._serve, "run this service until SIGTERM or SIGINT", finds_cluster=False)
        self.add(
            "check-config",
            self._check_config,
            "print the effective configuration, or what is wrong with it",
            finds_cluster=False,
        )
        probing = self.add("probe", self._probe, PROBE_HELP, finds_cluster=False)
        add_probe_kind(probing)
        probing.set_defaults(warns=False)  # the service has told already, and this runs every few seconds

    def add(self, verb: str, action: Action, help: str, *, finds_cluster: bool = True) -> argparse.ArgumentParser:
        """
        Add a verb; the parser that is returned takes its arguments.

        With ``finds_cluster`` it has ``--data-dir``, and works on the cluster of the default data directory where
        nothing else is configured.

        """
        parser = self._verbs.add_parser(verb, help=help, description=help, allow_abbrev=False)
        add_settings(parser, self.role)
        if finds_cluster:
            parser.add_argument(
                "--data-dir", metavar="DIR", help="data directory of a cluster that runs on this machine, to work on it"
            )
        parser.set_defaults(action=action, finds_cluster=finds_cluster, warns=True)
        return parser

    def add_migrate(self, migrations: Callable[[], Callable[[Settings], None]]) -> None:
        """Add the verb ``migrate``; ``migrations`` imports what it runs: --help stays quick."""

        def migrate(settings: Settings, parsed: argparse.Namespace) -> None:
            settings.require("database_url")
            migrations()(settings)

        self.add(
            "migrate",
            migrate,
            "create or update the tables of this service; safe to run twice and concurrently",
            finds_cluster=False,
        )

    def add_client(self, verb: str, action: ClientAction, help: str) -> argparse.ArgumentParser:
        """Add a verb that people use where no cluster is: it takes no settings, and none are read."""
        parser = self._verbs.add_parser(verb, help=help, description=help, allow_abbrev=False)
        parser.set_defaults(client_action=action)
        return parser

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run a command line and return its exit status."""
        parsed = self.parser.parse_args(spread_lists(sys.argv[1:] if arguments is None else arguments))
        try:
            if "client_action" in parsed:
                client_action: ClientAction = parsed.client_action
                return client_action(parsed) or 0
            action: Action = parsed.action
            if parsed.warns:
                _warn(self.parser.prog)
            return action(_load(parsed), parsed) or 0
        except HyphaError as error:
            print(f"{self.parser.prog}: {error}", file=sys.stderr)
            return 1

    def _serve(self, settings: Settings, parsed: argparse.Namespace) -> None:
        import uvloop

        from .telemetry import configure_logging
        from .tracing import check_tracing

        settings.require(*self._requires)
        if self._check is not None:
            self._check(settings)
        check_tracing(settings)
        if settings.print_config:
            print_effective(settings, self.role, sys.stderr)
        configure_logging(settings, self.role)
        uvloop.run(_until_signal(self._run(), settings))

    def _check_config(self, settings: Settings, parsed: argparse.Namespace) -> None:
        check_config(settings, self.role, self._requires)
        if self._check is not None:
            self._check(settings)

    def _probe(self, settings: Settings, parsed: argparse.Namespace) -> None:
        print(probe(settings, self.role, parsed.kind))


def add_probe_kind(parser: argparse.ArgumentParser) -> None:
    """Add what ``probe`` may ask for."""
    parser.add_argument("kind", nargs="?", choices=KINDS, default=KINDS[0], help=f"what to ask for [{KINDS[0]}]")


def check_config(settings: Settings, role: str, requires: Sequence[str]) -> None:
    """Print what ``role`` would run with. Raises ConfigurationError where something is missing."""
    print_effective(settings, role, sys.stdout)
    settings.require(*requires)


def print_effective(settings: Settings, role: str, stream: TextIO) -> None:
    """Print each setting of a role with its value and where that came from; secrets are masked."""
    print(f"hypha {role} {__version__}: effective configuration", file=stream)
    for name, value, source in settings.effective(role):
        shown = f"  {name} = {value}"
        print(shown if source == "default" else f"{shown}  ({source})", file=stream)
    stream.flush()


def add_settings(parser: argparse.ArgumentParser, role: str) -> None:
    """Add a flag for every setting that ``role`` reads, but secrets: of those, only what servers always had."""
    group = parser.add_argument_group("settings", "each also HYPHA_<NAME> in the environment, or name in the file")
    group.add_argument("--config", metavar="FILE", help="TOML file with settings (HYPHA_CONFIG)")
    for row in OPTIONS.values():
        if row.used_by(role) and (not row.secret or (row.exposed and role == "server")):
            group.add_argument(*row.flags, dest=_PREFIX + row.name, default=None, help=_help(row), **_shape(row))


def spread_lists(arguments: Sequence[str]) -> list[str]:
    """
    Write ``--list=a b`` as ``--list a b``, for every flag that takes several words.

    argparse would give the flag ``a`` alone, and documents write it so.

    """
    lists = {flag for row in OPTIONS.values() if isinstance(row.default, tuple) for flag in row.flags}
    words: list[str] = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        words += [flag, value] if equals and flag in lists else [argument]
    return words


def given_flags(parsed: argparse.Namespace) -> dict[str, Any]:
    """Return the settings among parsed arguments; None: not given."""
    values = vars(parsed)
    return {name.removeprefix(_PREFIX): value for name, value in values.items() if name.startswith(_PREFIX)}


_PREFIX = "setting_"


def _shape(row: Option) -> dict[str, Any]:
    if isinstance(row.default, bool):
        return {"nargs": "?", "const": "true", "metavar": "BOOL"}
    if isinstance(row.default, tuple):
        return {"nargs": "+", "action": "extend", "metavar": "WORD"}
    return {"metavar": {int: "N", float: "SECONDS" if "seconds" in row.help else "N"}.get(type(row.default), "TEXT")}


def _help(row: Option) -> str:
    default = row.written(row.default)
    return f"{row.help} [{default}]".replace("%", "%%") if default else row.help.replace("%", "%%")


def _load(parsed: argparse.Namespace) -> Settings:
    """Return the settings of a command, completed by what a cluster on this machine told. Raises ConfigurationError."""
    flags = given_flags(parsed)
    settings = Settings.load(flags, file=parsed.config)
    if not parsed.finds_cluster:
        return settings
    if not parsed.data_dir and (settings.nats_url or settings.database_url):
        return settings  # another cluster is configured
    directory = parsed.data_dir or os.environ.get("HYPHA_DATA_DIR") or cluster_file.default_data_directory()
    told = cluster_file.read(directory)
    if told is None:
        if parsed.data_dir:
            raise ConfigurationError(f"No cluster runs from {parsed.data_dir}: it holds no {cluster_file.CLUSTER_FILE}")
        return settings
    # What was asked for by name wins; the cluster's own word wins over an environment that may mean another one.
    given = {name: value for name, value in flags.items() if value is not None}
    return Settings.load({**told, **given}, file=parsed.config)


def _warn(program: str) -> None:
    for sentence in unknown_environment(os.environ):
        print(f"{program}: warning: {sentence}", file=sys.stderr)


async def _until_signal(run: Run, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await run(settings, stop)
