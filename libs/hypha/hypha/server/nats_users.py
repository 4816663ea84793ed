from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypha_common.bus_permissions import USERS, permissions_of

__all__ = ["helm_users", "password_variable", "print_users", "users_conf"]

_PROGRAM = "hypha-server nats-users"

_HEAD = """\
# The users of NATS, one for each role and one for people's commands, and the subjects that each may use.
# Written by `hypha-server nats-users`; do not edit. nats-server takes the passwords from its environment:
# letters and digits that begin with a letter, or it would read some of them as numbers.
"""


def password_variable(user: str) -> str:
    """Return the name of the environment variable that holds a user's password."""
    return f"NATS_{user.upper()}_PASSWORD"


def users_conf(passwords: Mapping[str, str] | None = None) -> str:
    """Return the `authorization` of a nats-server; without ``passwords`` they come from its environment."""
    lines = [] if passwords is not None else [_HEAD.rstrip()]
    lines += ["authorization {", "  timeout: 5", "  users: ["]
    for user in USERS:
        password = f"${password_variable(user)}" if passwords is None else json.dumps(passwords[user])
        permissions = permissions_of(user)
        lines += [f"    {{ user: {user}, password: {password}, permissions: {{"]
        lines += _allowed("publish", permissions.publish) + _allowed("subscribe", permissions.subscribe)
        lines += ["    } }"]
    return "\n".join([*lines, "  ]", "}", ""])


def helm_users() -> list[dict[str, Any]]:
    """
    Return the users as data for `config.merge.authorization.users` of NATS's Helm chart.

    The chart writes what is between ``<<`` and ``>>`` as it is, so that passwords come from the server's environment.

    """
    return [
        {
            "user": user,
            "password": f"<< ${password_variable(user)} >>",
            "permissions": permissions_of(user).config(),
        }
        for user in USERS
    ]


def print_users(arguments: Sequence[str]) -> int:
    """Print the users in the form of a deployment; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    print(_FORMATS[parsed.format](), end="")  # noqa: T201 it is what was asked for
    return 0


def _allowed(what: str, subjects: Sequence[str]) -> list[str]:
    return [f"      {what}: {{ allow: [", *(f'        "{subject}"' for subject in subjects), "      ] }"]


def _helm() -> str:
    # YAML is a superset of JSON.
    return json.dumps({"config": {"merge": {"authorization": {"users": helm_users()}}}}, indent=2) + "\n"


def _table() -> str:
    rows = ["| user | may publish on | may subscribe to |", "|---|---|---|"]
    for user in USERS:
        permissions = permissions_of(user)
        cells = [" ".join(f"`{one}`" for one in subjects) for subjects in (permissions.publish, permissions.subscribe)]
        rows.append(f"| {user} | {' | '.join(cells)} |")
    return "\n".join([*rows, ""])


_FORMATS: dict[str, Callable[[], str]] = {"conf": users_conf, "helm": _helm, "table": _table}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, allow_abbrev=False, description="Print the users of NATS and what each may do."
    )
    parser.add_argument(
        "--format",
        choices=sorted(_FORMATS),
        default="conf",
        help="conf: for nats-server, as in deploy/nats/users.conf; helm: values of its chart; table: for people",
    )
    return parser
