from __future__ import annotations

from tests.apps.conftest import ConnectUser, connect_user

__all__ = ["ConnectUser", "connect_user"]
