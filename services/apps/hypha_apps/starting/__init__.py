"""Starting apps: one start of an app in a workspace, however many ask for it (contract 03 §1.6)."""

from __future__ import annotations

from .options import StartOptions, StartRequest
from .starter import Starter

__all__ = ["StartOptions", "StartRequest", "Starter"]
