from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hypha_common.errors import HyphaError
from hypha_common.settings import Settings
from hypha_common.token_flags import add_token_flags, seconds_of, token_principal
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
        codec = TokenCodec.from_settings(settings.replace(jwt_secret=secret))
        life_s = seconds_of(parsed.expires_in, "--expires-in")
        print(codec.sign(token_principal(parsed), life_s=life_s))
    except HyphaError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, allow_abbrev=False, description="Print a token that the cluster of this data directory accepts."
    )
    add_token_flags(parser)
    parser.add_argument("--data-dir", help="data directory of the cluster")
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings (HYPHA_CONFIG)")
    return parser
