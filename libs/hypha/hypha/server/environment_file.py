from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from pathlib import Path

from hypha_common.errors import ConfigurationError

__all__ = ["load_environment_file"]

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_COMMENT = re.compile(r"\s#.*$")


def load_environment_file(environ: MutableMapping[str, str], directory: Path) -> Path | None:
    """
    Add the variables of the nearest ``.env`` in ``directory`` or above; what is set already stays.

    A file that belongs to somebody else is left alone: anybody may write one into a shared directory above.

    """
    for folder in (directory, *directory.parents):
        path = folder / ".env"
        if path.is_file() and path.stat().st_uid in (os.geteuid(), 0):
            for name, value in _parse(path):
                environ.setdefault(name, value)
            return path
    return None


def _parse(path: Path) -> list[tuple[str, str]]:
    variables = []
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ConfigurationError(f"{path}:{number}: not of the form NAME=value")
        variables.append((found[1], _value(found[2])))
    return variables


def _value(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return _COMMENT.sub("", text).strip()
