"""
A whole cluster on one machine: ``python -m hypha.server``, or ``hypha.server:app`` under any ASGI server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .asgi import app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    # Only on demand: the supervisor of a cluster needs no gateway in its own process.
    if name == "app":
        from .asgi import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
