from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["print_fields", "print_rows", "read_token", "when"]


def print_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print a line for each row: its values between tabs, or a JSON map."""
    for row in rows:
        print(_json(row) if as_json else "\t".join(map(_shown, row.values())), flush=True)  # noqa: T201


def print_fields(fields: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: a line ``name<tab>value`` for each of its fields, or a JSON map."""
    if as_json:
        print(_json(fields))  # noqa: T201
        return
    for name, value in fields.items():
        print(name, _shown(value), sep="\t")  # noqa: T201


def read_token(argument: str) -> str:
    """Return the token of a command line; ``-`` reads it from standard input, where no list of processes shows it."""
    token = sys.stdin.readline().strip() if argument == "-" else argument.strip()
    if not token:
        raise BadRequest("The token is empty")
    return token


def when(seconds: float | None) -> str | None:
    """Return a Unix time as people write it, in UTC."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # somebody else's token may hold any number
        return str(seconds)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        value = [f"{name}={_shown(inner)}" for name, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return " ".join(map(_shown, value)) or "-"
    return "".join(c if c.isprintable() else "\ufffd" for c in str(value))
