from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from hypha_common.audit_events import EVENTS
from hypha_common.token_flags import add_token_flags

if TYPE_CHECKING:
    from hypha_common.cli import Action, ServiceCli
    from hypha_common.settings import Settings

__all__ = ["add_verbs"]

_TOKEN = "the token, or - to read it from standard input"


def add_verbs(cli: ServiceCli) -> None:
    """Add what operators do with tokens, keys, blocks and the record of events."""
    issue = cli.add("issue", _lazily("tokens", "issue"), "print a new token")
    add_token_flags(issue)
    inspect = _add(cli, "inspect", "tokens", "inspect", "print what a token says, and whether it is good for anything")
    inspect.add_argument("token", metavar="TOKEN", help=_TOKEN)
    revoke = _add(cli, "revoke", "tokens", "revoke", "refuse a token from now on, and end the connections made with it")
    revoke.add_argument("token", metavar="TOKEN", nargs="?", help=_TOKEN)
    revoke.add_argument("--token-id", help="id of the token, where the token itself is not at hand")
    _add(cli, "keys", "keys", "print_keys", "print the signing keys: id, algorithm, state, made, retired, last expiry")
    rotate = _add(cli, "rotate-keys", "keys", "rotate", "sign with a new key; what was signed before stays good")
    rotate.add_argument("--drop", metavar="KEY_ID", help="forget a key that has leaked: what it signed is refused")
    _add_blocks(cli)
    _add_audit(cli)


def _add_blocks(cli: ServiceCli) -> None:
    block = _add(cli, "block", "blocks", "block", "keep a user or an address out, and end its connections")
    unblock = _add(cli, "unblock", "blocks", "unblock", "let a user or an address in again")
    for parser in (block, unblock):
        parser.add_argument("kind", choices=("user", "ip"))
        parser.add_argument("id", metavar="ID", help="user id; or address, or network like 192.0.2.0/24")
    block.add_argument("--for", dest="duration", default="30d", metavar="SECONDS", help="how long, also 12h, 7d [30d]")
    block.add_argument("--reason", default="", help="what the blocked are told")
    _add(cli, "blocked", "blocks", "print_blocked", "print who is kept out: kind, id, until when, why")


def _add_audit(cli: ServiceCli) -> None:
    audit = _add(cli, "audit", "audit", "print_events", "print security events, the newest last")
    audit.add_argument("--event", default="", choices=EVENTS, help="only these")
    audit.add_argument("--user", default="", help="only of this user")
    audit.add_argument("--workspace", default="", help="only in this workspace")
    audit.add_argument("--since", metavar="AGO", help="only newer ones, like 90 (seconds), 1h, 7d")
    audit.add_argument("--limit", type=int, default=100, metavar="N", help="at most the newest N [100]")
    audit.add_argument("--follow", action="store_true", help="go on with what comes")


def _add(cli: ServiceCli, verb: str, module: str, function: str, help: str) -> argparse.ArgumentParser:
    parser = cli.add(verb, _lazily(module, function), help)
    parser.add_argument("--json", action="store_true", help="print JSON, a map on each line")
    return parser


def _lazily(module: str, function: str) -> Action:
    """Import what a verb needs when it is used: the others stay quick."""

    def action(settings: Settings, parsed: argparse.Namespace) -> None:
        from hypha_common.telemetry import configure_logging

        configure_logging(settings, "auth")
        run: Callable[[Settings, argparse.Namespace], None] = getattr(
            import_module(f"hypha_auth.operators.{module}"), function
        )
        run(settings, parsed)

    return action
