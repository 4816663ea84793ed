from __future__ import annotations

from typing import Any

from hypha_common.custom_auth import CustomAuth
from hypha_common.security_feed import Security

__all__ = ["CustomAuthOf"]


class CustomAuthOf:
    """Which startup functions authenticate users now, as the security feed tells."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self._data: dict[str, Any] | None = None
        self._current: CustomAuth | None = None

    @property
    def current(self) -> CustomAuth | None:
        if self._security.custom_auth != self._data:
            self._data = self._security.custom_auth
            self._current = CustomAuth.load(self._data)
        return self._current

    def has(self, part: str) -> bool:
        custom = self.current
        return custom is not None and part in custom.parts

    def changed(self) -> bool:
        """Tell whether it is another one than :attr:`current` has been so far."""
        before = self._current
        return self.current != before
