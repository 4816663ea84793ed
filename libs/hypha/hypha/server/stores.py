from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .minio_store import MinioStore
from .object_store import RCLONE_MARK
from .ports import check_free
from .rclone_store import RcloneStore
from .storage_plan import StorageKind

if TYPE_CHECKING:
    from hypha_common.settings import Settings

    from .data_directory import DataDirectory
    from .object_store import ObjectStore
    from .storage_plan import StoragePlan

__all__ = ["make_store"]


def make_store(plan: StoragePlan, settings: Settings, data: DataDirectory, secret: str) -> ObjectStore | None:
    """
    Return the store that a plan wants to be started, None where it wants none.

    ``secret`` is the key of a store that nobody but us knows. Raises ConfigurationError where a port is in use.

    """
    if plan.kind is StorageKind.EMBEDDED:
        return RcloneStore(data, data.path / "s3", access_key_id="hypha", secret_access_key=secret)
    if plan.kind is not StorageKind.MINIO:
        return None
    folder = Path(settings.minio_workdir).expanduser().absolute() if settings.minio_workdir else None
    port, console_port = settings.minio_port, settings.minio_console_port
    if port:
        check_free(plan.host, port, flag="--minio-port")
    keys = {"access_key_id": settings.minio_root_user, "secret_access_key": settings.minio_root_password}
    program = plan.program
    if program is not None and not settings.executable_path and folder is not None and (folder / RCLONE_MARK).exists():
        program = None  # a MinIO that was installed since then
    if program is None:
        return RcloneStore(data, folder, host=plan.host, port=port, **keys)
    if port and not console_port:
        console_port = port + 1
    if console_port:
        check_free(plan.host, console_port, flag="--minio-console-port")
    return MinioStore(
        data,
        folder,
        program=program,
        console_port=console_port,
        file_system_mode=settings.minio_file_system_mode,
        host=plan.host,
        port=port,
        **keys,
    )
