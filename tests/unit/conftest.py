from __future__ import annotations

from http_support import world

from tests.fixtures.nats import nats_url

__all__ = ["nats_url", "world"]
