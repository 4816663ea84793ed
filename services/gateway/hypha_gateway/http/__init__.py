from __future__ import annotations

from .routes import exception_handlers, middleware, routes

__all__ = ["exception_handlers", "middleware", "routes"]
