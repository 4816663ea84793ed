"""
``python -m hypha_browser_worker.pyodide_folder SOURCE TARGET``: make a folder that web-python apps run from without the
internet. ``SOURCE`` is Pyodide as it is published, its npm package or a full release; ``--pyodide-url`` names where
``TARGET`` is served, for example from a static mount.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from hypha_common.errors import ConfigurationError, HyphaError

__all__ = ["make_folder"]

_LOCK = "pyodide-lock.json"
_PARTS = ("pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
# The client and what it needs, all of it pure Python, or with a fallback in Python.
_CLIENT = ("hypha-rpc", "msgpack", "shortuuid", "munch", "httpx", "httpcore", "anyio", "certifi", "h11", "idna")
_COMPILED = (".so", ".pyd", ".dylib", ".pyc")
_OF_THIS_MACHINE = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")


def make_folder(source: Path, target: Path, wheels: Iterable[Path] = ()) -> list[str]:
    """
    Put Pyodide, the packages it comes with, hypha-rpc as it is installed here and ``wheels`` into ``target``.

    Returns the names of all packages. Raises ConfigurationError where something is missing or not for Pyodide.

    """
    missing = [name for name in (*_PARTS, _LOCK) if not (source / name).is_file()]
    if missing:
        raise ConfigurationError(f"{source} is no Pyodide: it has no {', '.join(missing)}")
    lock = json.loads((source / _LOCK).read_text("utf-8"))
    kept = {name: entry for name, entry in lock["packages"].items() if (source / entry["file_name"]).is_file()}
    target.mkdir(parents=True, exist_ok=True)
    for name in (*_PARTS, *(entry["file_name"] for entry in kept.values())):
        shutil.copyfile(source / name, target / name)
    added: dict[str, dict[str, Any]] = {}
    for name in _CLIENT:
        # What Pyodide comes with is compiled for it.
        if _normal(name) not in kept:
            added |= _add(target, *_packed(_installed(name)))
    for wheel in wheels:
        if not wheel.name.endswith("-none-any.whl"):
            raise ConfigurationError(f"{wheel.name} is not in pure Python (…-none-any.whl)")
        added |= _add(target, wheel.name, wheel.read_bytes())
    packages = {**kept, **added}
    for entry in added.values():
        entry["depends"] = [name for name in entry["depends"] if name in packages]
    (target / _LOCK).write_text(json.dumps({**lock, "packages": packages}, indent=1), "utf-8")
    return sorted(packages)


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise ConfigurationError(f"{name} is not installed: install hypha[server-apps]") from None


def _packed(package: Distribution) -> tuple[str, bytes]:
    """Return the name and the bytes of a wheel with the Python files of an installed package."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in package.files or ():
            name = file.as_posix()
            if not name.startswith("../") and not name.endswith(_COMPILED) and file.name not in _OF_THIS_MACHINE:
                # With a time of its own the archive would be another one each time.
                archive.writestr(zipfile.ZipInfo(name), file.read_binary(), zipfile.ZIP_DEFLATED)
    written = _normal(package.metadata["Name"]).replace("-", "_")
    return f"{written}-{package.version}-py3-none-any.whl", content.getvalue()


def _add(target: Path, file_name: str, wheel: bytes) -> dict[str, dict[str, Any]]:
    """Store a wheel and return its entry of the lock file, with all that it may depend on."""
    (target / file_name).write_bytes(wheel)
    name, version = file_name.split("-")[:2]
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        names = archive.namelist()
        metadata = next((entry for entry in names if entry.endswith(".dist-info/METADATA")), None)
        if metadata is None:
            raise ConfigurationError(f"{file_name} is no wheel: it has no METADATA")
        needs = [line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist:")]
    depends = [match[0] for line in needs if "extra ==" not in line and (match := _REQUIREMENT.match(line[15:]))]
    entry = {
        "name": _normal(name),
        "version": version,
        "file_name": file_name,
        "install_dir": "site",
        "sha256": hashlib.sha256(wheel).hexdigest(),
        "package_type": "package",
        "imports": sorted({path.partition("/")[0] for path in names if path.endswith("/__init__.py")}),
        "depends": [_normal(needed) for needed in depends],
        "unvendored_tests": False,
    }
    return {_normal(name): entry}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hypha_browser_worker.pyodide_folder", description=__doc__)
    parser.add_argument("source", type=Path, help="folder with Pyodide: its npm package, unpacked, or a full release")
    parser.add_argument("target", type=Path, help="folder to make")
    parser.add_argument("wheels", type=Path, nargs="*", help="further packages for apps, in pure Python")
    options = parser.parse_args(arguments)
    try:
        names = make_folder(options.source, options.target, options.wheels)
    except (HyphaError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(f"pyodide_folder: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{options.target} has Pyodide and {len(names)} packages: {', '.join(names)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
