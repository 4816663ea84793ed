from __future__ import annotations

import argparse
import re

from .errors import BadRequest
from .ids import check_client_id, new_id, personal_workspace
from .principal import Permission, Principal, Scope
from .scopes import check_extra_scopes

__all__ = ["add_token_flags", "seconds_of", "token_principal"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def add_token_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say whom an operator makes a token for, and what it is good for."""
    parser.add_argument("--workspace", help="workspace it is for; default: the user's own")
    parser.add_argument("--permission", default="read_write", help="read, read_write or admin [read_write]")
    parser.add_argument("--scope", nargs="+", default=[], metavar="WORKSPACE#PERMISSION", help="further workspaces")
    parser.add_argument("--extra-scope", nargs="+", default=[], metavar="WORD", help="further scopes, such as openid")
    parser.add_argument(
        "--expires-in", default="3600", metavar="SECONDS", help="life of the token, also 12h, 30d [3600]"
    )
    parser.add_argument("--user-id", help="user it stands for; default: a new one")
    parser.add_argument("--role", nargs="+", default=[], help="roles of the user")
    parser.add_argument("--email", help="address of the user")
    parser.add_argument("--client-id", help="the only client that may use it")


def token_principal(parsed: argparse.Namespace) -> Principal:
    """Return whom the flags describe. Raises BadRequest."""
    user = parsed.user_id or new_id()
    workspace = parsed.workspace or personal_workspace(user)
    grants = {workspace: Permission.from_wire(parsed.permission)}
    for text in parsed.scope:
        name, _, permission = text.partition("#")
        grants[name] = Permission.from_wire(permission or parsed.permission)
    scope = Scope(
        workspaces=grants,
        current_workspace=workspace,
        client_id=None if parsed.client_id is None else check_client_id(parsed.client_id),
        extra_scopes=check_extra_scopes(parsed.extra_scope),
    )
    return Principal(id=user, roles=tuple(parsed.role), email=parsed.email, scope=scope)


def seconds_of(text: str, what: str) -> float:
    """Read ``90``, ``30m``, ``12h``, ``7d`` or ``2w`` as seconds. Raises BadRequest, naming ``what``."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if seconds <= 0:
        raise BadRequest(f"{what} must be greater than 0: seconds, or like 30m, 12h, 7d")
    return seconds
