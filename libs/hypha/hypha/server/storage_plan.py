from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common.errors import ConfigurationError
from hypha_common.settings import OPTIONS

from .ports import LOOPBACK

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["StorageKind", "StoragePlan", "plan_storage"]

_BOTH = (
    "Cannot use --start-minio-server with S3 settings (--endpoint-url, --access-key-id, --secret-access-key). "
    "Please use either built-in Minio server or external S3 configuration."
)
_EXTERNAL = ("endpoint_url", "access_key_id", "secret_access_key")
_MINIO = (
    "minio_workdir", "minio_port", "minio_console_port", "minio_root_user", "minio_root_password", "minio_version",
    "mc_version", "minio_file_system_mode", "executable_path",
)  # fmt: skip
_PROGRAM = "minio"


class StorageKind(Enum):
    NONE = "none"
    EXTERNAL = "external"  # a store that somebody else runs
    EMBEDDED = "embedded"  # ours, in the data directory
    MINIO = "minio"  # ours, as --start-minio-server and its flags say


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """Where a cluster keeps its files, and what its operator should know about that."""

    kind: StorageKind
    program: Path | None = None  # a MinIO to run; None: rclone
    host: str = LOOPBACK  # where the store that is started listens
    sentences: tuple[str, ...] = ()


def plan_storage(settings: Settings) -> StoragePlan:
    """Decide from the settings of a whole cluster. Raises ConfigurationError where they contradict each other."""
    if settings.start_minio_server:
        return _minio(settings)
    sentences = tuple(f"{_named(name)} has no effect without --start-minio-server" for name in _given(settings, _MINIO))
    given = _given(settings, _EXTERNAL)
    if settings.disable_s3 or ("enable_s3" in settings.sources and not settings.enable_s3):
        if settings.enable_s3:
            raise ConfigurationError("Cannot use --enable-s3 together with --disable-s3")
        return StoragePlan(StorageKind.NONE, sentences=sentences)
    if not given:
        return StoragePlan(StorageKind.EMBEDDED, sentences=sentences)
    if missing := [name for name in _EXTERNAL if name not in given]:
        raise ConfigurationError(
            f"{_named(missing[0])} is missing: a store of your own is named by --endpoint-url, --access-key-id and "
            "--secret-access-key; without any of them this server starts one"
        )
    return StoragePlan(StorageKind.EXTERNAL, sentences=sentences)


def _minio(settings: Settings) -> StoragePlan:
    if _given(settings, _EXTERNAL):
        raise ConfigurationError(_BOTH)
    if settings.disable_s3:
        raise ConfigurationError("Cannot use --start-minio-server together with --disable-s3")
    program, found = _find_program(settings)
    if program is None and "," in settings.minio_root_password:
        raise ConfigurationError("minio_root_password must have no comma: rclone, which serves S3 here, takes none")
    host = settings.host
    if settings.minio_root_password == OPTIONS["minio_root_password"].default:
        host = LOOPBACK
    return StoragePlan(
        StorageKind.MINIO, program, host, (*found, *_sentences(settings, program, opened=host == settings.host))
    )


def _find_program(settings: Settings) -> tuple[Path | None, list[str]]:
    """Return the MinIO that runs, and what to say about that. Raises ConfigurationError."""
    named = settings.executable_path
    path = Path(named).expanduser().absolute() if named else None
    if path is not None:
        program = path / _PROGRAM if path.is_dir() else path
        if program.is_file():
            if not os.access(program, os.X_OK):
                raise ConfigurationError(f"executable_path: {program} cannot be executed")
            return program, []
        if path.name == _PROGRAM:
            raise ConfigurationError(f"executable_path: there is no {path}")
    if settings.minio_file_system_mode:
        # MinIO gave it up at the end of 2022: one that happens to be installed would not leave plain files.
        return None, []
    installed = shutil.which(_PROGRAM)
    if path is not None and installed is None:
        return None, [f"executable_path: no minio in {path}, and none is downloaded: rclone serves S3 in its place"]
    return (None if installed is None else Path(installed)), []


def _sentences(settings: Settings, program: Path | None, *, opened: bool) -> Iterator[str]:
    if not settings.minio_workdir:
        yield "files are kept in a temporary folder and are gone when the server stops; --minio-workdir keeps them"
    if not opened and not _is_loopback(settings.host):
        yield (
            "the S3 server listens on this machine only, because its password is the default; "
            f"with another --minio-root-password it listens at {settings.host}, too"
        )
    for name in _given(settings, ("minio_version", "mc_version")):
        yield f"{_named(name)} has no effect: MinIO is never downloaded, what is installed is used"
    if program is None and settings.minio_console_port:
        yield f"{_named('minio_console_port')} has no effect: rclone serves S3, and has no console"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _given(settings: Settings, names: tuple[str, ...]) -> list[str]:
    """Return which settings have a value of somebody's; an empty text is none."""
    return [name for name in names if getattr(settings, name) != OPTIONS[name].default]


def _named(name: str) -> str:
    return OPTIONS[name].flag
