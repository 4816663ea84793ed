from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import ConfigurationError
from .ids import PUBLIC_WORKSPACE

__all__ = ["RESERVED_NAMES", "StaticMount", "check_folders", "static_mounts"]

# First parts of paths that mean something, now or when a feature is switched on.
RESERVED_NAMES = frozenset(
    {
        ".well-known",
        "a2a",
        "api-docs",
        "api-redoc",
        "apps",
        "artifacts",
        "assets",
        "files",
        "git",
        "health",
        "index.html",
        "login",
        "mcp",
        "metrics",
        "oauth",
        "openapi.json",
        "rpc",
        "s3",
        "static",
        "triton",
        "ws",
        PUBLIC_WORKSPACE,
    }
)
_WORKSPACE_PREFIX = "ws-"
_NAME = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")


@dataclass(frozen=True, slots=True)
class StaticMount:
    """A folder that is served as it is, at ``/name``."""

    name: str
    folder: Path


def static_mounts(words: Iterable[str]) -> tuple[StaticMount, ...]:
    """Read ``/name:folder`` words. Raises ValueError, with a sentence that says how it must be."""
    mounts: dict[str, StaticMount] = {}
    for word in words:
        path, colon, folder = word.partition(":")
        name = path.removeprefix("/").removesuffix("/")
        if not colon or not folder or not path.startswith("/"):
            raise ValueError(f"must look like /tools:./webtools/, not {word!r}")
        if not _NAME.fullmatch(name):
            raise ValueError(f"must mount at one plain part of a path, such as /tools, not at {path!r}")
        if name in RESERVED_NAMES or name.startswith(_WORKSPACE_PREFIX):
            raise ValueError(f"must not mount at {path!r}: the server itself answers there")
        if name in mounts:
            raise ValueError(f"must mount one folder only at {path!r}")
        mounts[name] = StaticMount(name, Path(folder))
    return tuple(mounts.values())


def check_folders(words: Iterable[str]) -> None:
    """Raise ConfigurationError unless every folder is there and may be read."""
    for mount in static_mounts(words):
        try:
            next(mount.folder.iterdir(), None)
        except OSError as error:
            raise ConfigurationError(
                f"static_mounts: {mount.folder} for /{mount.name} cannot be served: {error.strerror}"
            ) from None
