from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypha_common.ids import Address
from hypha_common.principal import Principal

__all__ = ["Caller"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls a method, as the gateway stamped it; given to methods that take ``context``."""

    principal: Principal
    workspace: str  # where the caller acts (header `ws`)
    sender: Address  # header `from`
    target: Address  # header `to`, exactly as the caller wrote it
    method: str
    session: str | None = None
    gateway: str = ""  # the gateway that holds the caller's connection, and
    generation: int = 0  # the generation of that connection
    header: dict[str, Any] = field(default_factory=dict)
