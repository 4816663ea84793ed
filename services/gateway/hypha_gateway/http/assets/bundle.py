from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from hypha_common.errors import NotFound

__all__ = ["NAMES", "Bundle", "bundle", "client_version"]

_HERE = Path(__file__).resolve().parent
_FETCHED = _HERE / "files"
_OWN = _HERE / "own"
_PACKAGES = json.loads((_HERE / "packages.json").read_text("utf-8"))

# By name alone: nothing that a caller writes becomes part of a path.
NAMES = {
    **{name: _FETCHED / name for package in _PACKAGES.values() for name in package["files"].values()},
    **{path.name: path for path in _OWN.iterdir()},
}

_TYPES = {
    ".js": "application/javascript",
    ".mjs": "application/javascript",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class Bundle:
    """A file of a package, and its compressed form where it has one."""

    path: Path
    media_type: str

    @cached_property
    def etag(self) -> str:
        """The same at every replica: made of the content."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:32]

    @cached_property
    def compressed(self) -> Path | None:
        path = self.path.with_name(self.path.name + ".gz")
        return path if path.exists() else None


@lru_cache(maxsize=len(NAMES))
def bundle(name: str) -> Bundle:
    """Return a file by its name. Raises NotFound for an unknown one, and with advice for one that was not fetched."""
    path = NAMES.get(name)
    if path is None:
        raise NotFound(f"File not found: {name}")
    if not path.exists():
        raise NotFound(
            f"{name} is not installed here. With npm and a connection, scripts/fetch-assets in the source tree or "
            "python -m hypha_gateway.http.assets.fetch fetches it"
        )
    return Bundle(path, _TYPES[path.suffix])


def client_version() -> str:
    """Return the version of the client library whose bundle is served."""
    return str(_PACKAGES["hypha-rpc"]["version"])
