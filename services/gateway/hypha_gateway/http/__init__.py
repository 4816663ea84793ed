from __future__ import annotations

from .files import Upstream
from .routes import documents, exception_handlers, middleware, routes, socket_routes
from .static_files import mounts

__all__ = ["Upstream", "documents", "exception_handlers", "middleware", "mounts", "routes", "socket_routes"]
