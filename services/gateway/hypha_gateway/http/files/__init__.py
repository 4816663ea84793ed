"""
Requests for files: the artifacts service says what to do, and the bytes pass through here without being kept.
"""

from __future__ import annotations

from .routes import file_routes, s3_routes
from .upstream import Upstream

__all__ = ["Upstream", "file_routes", "s3_routes"]
