from __future__ import annotations

from .part import WorkspaceFiles

__all__ = ["WorkspaceFiles"]
