from __future__ import annotations

import hashlib
import hmac
import time
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypha_common.errors import PermissionDenied
from hypha_common.wire import pack, unpack

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["Tickets"]

_LIFE_S = 60.0  # a gateway uses one at once
_MAC_BYTES = 32


class Tickets:
    """
    What the data port is asked to make, in words that only this service can have written.

    A ticket holds everything that is needed, so that any replica can serve it.

    """

    def __init__(self, settings: Settings, *, now: Callable[[], float] = time.time) -> None:
        secret = settings.jwt_secret.encode()
        self._key = hmac.new(secret, b"hypha: tickets of the data port", hashlib.sha256).digest()
        self._now = now

    def seal(self, kind: str, order: dict[str, Any]) -> str:
        """Return a ticket, safe in an address."""
        content = zlib.compress(pack([kind, self._now() + _LIFE_S, order]), level=1)
        return urlsafe_b64encode(self._mac(content) + content).decode().rstrip("=")

    def open(self, kind: str, ticket: str) -> dict[str, Any]:
        """Return what a ticket orders. Raises PermissionDenied: it is forged, too old, or for something else."""
        try:
            sealed = urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4))
        except (NotBase64, ValueError):
            raise PermissionDenied("Invalid ticket") from None
        mac, content = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(content)):
            raise PermissionDenied("Invalid ticket")
        what, expires_at, order = unpack(zlib.decompress(content))
        if what != kind or expires_at < self._now():
            raise PermissionDenied("Invalid ticket")
        return dict(order)

    def _mac(self, content: bytes) -> bytes:
        return hmac.new(self._key, content, hashlib.sha256).digest()
