from __future__ import annotations

__all__ = ["SessionNotFoundError", "WorkerError", "WorkerNotAvailableError"]


class WorkerError(Exception):
    """A worker cannot do what it was asked."""


class SessionNotFoundError(WorkerError):
    """It runs no session of this id."""


class WorkerNotAvailableError(WorkerError):
    """It takes no more sessions now, or lacks what it runs them with."""
