from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .record import Record

if TYPE_CHECKING:
    from .config import WorkerConfig

__all__ = ["SessionInfo", "SessionStatus"]


class SessionStatus(StrEnum):
    """Where a session is in its life; on the wire it is this text."""

    STARTING = "starting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class SessionInfo(Record):
    """A session of a worker: one instance of an app. It is a map, too, which is what callers are sent."""

    session_id: str  # workspace/client_id
    app_id: str
    workspace: str
    client_id: str
    status: SessionStatus
    app_type: str
    created_at: str  # ISO 8601
    entry_point: str | None
    metadata: dict[str, Any] | None
    error: str | None

    def __init__(
        self, session_id: str, app_id: str, workspace: str, client_id: str, status: SessionStatus | str, app_type: str,
        created_at: str, entry_point: str | None = None, metadata: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            session_id=session_id, app_id=app_id, workspace=workspace, client_id=client_id,
            status=SessionStatus(status), app_type=app_type, created_at=created_at, entry_point=entry_point,
            metadata=metadata, error=error,
        )  # fmt: skip

    @classmethod
    def starting(cls, config: WorkerConfig) -> SessionInfo:
        """Return the session that a configuration begins."""
        return cls(
            f"{config.workspace}/{config.client_id}", config.app_id, config.workspace, config.client_id,
            SessionStatus.STARTING, config.app_type, datetime.now(UTC).isoformat(), config.entry_point,
            config.metadata,
        )  # fmt: skip
