from __future__ import annotations

from .server import Body, DataPort
from .tickets import Tickets

__all__ = ["Body", "DataPort", "Tickets"]
