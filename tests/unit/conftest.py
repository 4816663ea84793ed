from __future__ import annotations

from http_support import nats_url, world

__all__ = ["nats_url", "world"]
