"""
JSON and YAML in sources. Nothing here does I/O.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["read_config"]

MAX_CONFIG_CHARACTERS = 256 * 1024
_MAX_DEPTH = 64


def read_config(text: str, language: str, what: str = "config") -> dict[str, Any]:
    """Return the map in ``text``, in which there is only what JSON has. Raises BadRequest."""
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise BadRequest(f"<{what}> may have {MAX_CONFIG_CHARACTERS} characters at most")
    if language.lower() == "json":
        value = _json(text, what)
    elif language.lower() in ("yaml", "yml"):
        value = _yaml(text, what)
    else:
        raise BadRequest(f"<{what}> must be of lang json or yaml, not '{language[:40]}'")
    if not isinstance(value, dict):
        raise BadRequest(f"<{what}> must hold a map")
    return value


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"<{what}> is not valid JSON: {error}") from None


def _yaml(text: str, what: str) -> Any:
    import yaml  # few apps are written in it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, loader):  # before anything is built of it
            # A few lines of aliases stand for gigabytes.
            if isinstance(event, yaml.AliasEvent):
                raise BadRequest(f"<{what}> has an alias, which is not supported")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise BadRequest(f"<{what}> is nested more than {_MAX_DEPTH} levels deep")
        # Dates become texts, keys too.
        value = yaml.load(text, loader)  # noqa: S506  # a safe one
        return json.loads(json.dumps(value, default=_text, allow_nan=False))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise BadRequest(f"<{what}> is not valid YAML: {error}") from None


def _text(value: object) -> str:
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    raise TypeError(f"it holds a value that is no JSON: {type(value).__name__}")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
