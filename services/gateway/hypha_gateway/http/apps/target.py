from __future__ import annotations

from dataclasses import dataclass

from hypha_common.ids import Address
from hypha_gateway.http.caller import Caller

__all__ = ["Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """The web service that a request goes to, who calls it, and the path behind it."""

    provider: Address
    service: str
    caller: Caller
    path: str
