from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from hypha_common.errors import ConfigurationError

__all__ = ["fingerprint", "migrate"]

_SERVICES = ("hypha_apps", "hypha_artifacts", "hypha_auth", "hypha_workspace")


def fingerprint() -> str:
    """Return a text that changes whenever a migration of some service does."""
    digest = hashlib.sha256()
    for service in _SERVICES:
        for file in sorted(_package(service).glob("migrations/versions/*.py")):
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


async def migrate(environment: Mapping[str, str]) -> None:
    """Run the migrations of every service, at the same time: they lock. Raises ConfigurationError."""
    await asyncio.gather(*(_migrate(service, environment) for service in _SERVICES))


async def _migrate(service: str, environment: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        service,
        "migrate",
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise ConfigurationError(f"{service} migrate failed: {output.decode(errors='replace').strip()}")


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None, f"{name} is part of this distribution"
    return Path(spec.origin).parent
