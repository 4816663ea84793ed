"""
What clients serve over HTTP, at ``/{workspace}/apps/{service}/…`` (contract 01 §5.6, 03 §4).

"""

from __future__ import annotations

from .endpoint import METHODS, AppEndpoint
from .listing import list_apps
from .socket_endpoint import SocketEndpoint

__all__ = ["METHODS", "AppEndpoint", "SocketEndpoint", "list_apps"]
