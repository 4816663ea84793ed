from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hypha_common.errors import BadRequest, HyphaError
from hypha_common.ids import new_id, personal_workspace
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.settings import Settings
from hypha_common.tokens import TokenCodec

from .data_directory import DataDirectory

__all__ = ["generate_token"]

_PROGRAM = "hypha-server generate-token"


def generate_token(arguments: Sequence[str]) -> int:
    """Print a token for the cluster of a data directory, running or not; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        settings = Settings.load({"data_dir": parsed.data_dir}, file=parsed.config)
        secret = settings.jwt_secret or DataDirectory(settings.data_dir).read_secrets().jwt_secret
        if parsed.expires_in <= 0:
            raise BadRequest("--expires-in must be greater than 0")
        codec = TokenCodec.from_settings(settings.replace(jwt_secret=secret))
        print(codec.sign(_principal(parsed), life_s=parsed.expires_in))
    except HyphaError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


def _principal(parsed: argparse.Namespace) -> Principal:
    user = parsed.user_id or new_id()
    workspace = parsed.workspace or personal_workspace(user)
    grants = {workspace: Permission.from_wire(parsed.permission)}
    for text in parsed.scope:
        name, _, permission = text.partition("#")
        grants[name] = Permission.from_wire(permission or parsed.permission)
    scope = Scope(workspaces=grants, current_workspace=workspace, client_id=parsed.client_id)
    return Principal(id=user, roles=tuple(parsed.role), email=parsed.email, scope=scope)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, allow_abbrev=False, description="Print a token that the cluster of this data directory accepts."
    )
    parser.add_argument("--workspace", help="workspace it is for; default: the user's own")
    parser.add_argument("--permission", default="read_write", help="read, read_write or admin [read_write]")
    parser.add_argument("--scope", nargs="+", default=[], metavar="WORKSPACE#PERMISSION", help="further workspaces")
    parser.add_argument("--expires-in", type=float, default=3600.0, metavar="SECONDS", help="life of the token [3600]")
    parser.add_argument("--user-id", help="user it stands for; default: a new one")
    parser.add_argument("--role", nargs="+", default=[], help="roles of the user")
    parser.add_argument("--email", help="address of the user")
    parser.add_argument("--client-id", help="the only client that may use it")
    parser.add_argument("--data-dir", help="data directory of the cluster")
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings (HYPHA_CONFIG)")
    return parser
