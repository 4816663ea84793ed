from __future__ import annotations

from .routes import documents, exception_handlers, middleware, routes
from .static_files import mounts

__all__ = ["documents", "exception_handlers", "middleware", "mounts", "routes"]
