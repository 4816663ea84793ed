"""What each part of a page that is made from code consists of: functions from words to Markdown."""

from __future__ import annotations

from collections.abc import Callable

from .commands import command_lines
from .errors import errors
from .metrics import metrics
from .routes import routes, schemas
from .services import service, services
from .settings import settings
from .subjects import permissions, subjects

__all__ = ["PARTS"]

PARTS: dict[str, Callable[..., str]] = {
    "command-lines": command_lines,
    "errors": errors,
    "metrics": metrics,
    "permissions": permissions,
    "routes": routes,
    "schemas": schemas,
    "service": service,
    "services": services,
    "settings": settings,
    "subjects": subjects,
}
