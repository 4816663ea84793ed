from __future__ import annotations

from .bus import Bus
from .client import Subscription

__all__ = ["Bus", "Subscription"]
