from __future__ import annotations

from .api import api_docs, api_redoc, openapi
from .landing import config, landing, login
from .workspace import workspace_page

__all__ = ["api_docs", "api_redoc", "config", "landing", "login", "openapi", "workspace_page"]
